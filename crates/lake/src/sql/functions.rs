//! Functions of ours in SQL, and those of the engine that are not there: what they make of small arguments has no bound.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use uuid::Uuid;

use super::date_trunc::date_trunc;
use crate::query::users_function;

/// One call of these makes as much as it is told to, in one piece that no memory limit sees coming.
const UNBOUNDED: [&str; 14] = [
    "array_pad",
    "array_repeat",
    "array_resize",
    "generate_series",
    "gen_series",
    "list_pad",
    "list_repeat",
    "list_resize",
    "lpad",
    "range",
    "repeat",
    "rpad",
    "space",
    "generate_subscripts",
];

pub(super) fn register(context: &SessionContext) {
    for name in UNBOUNDED {
        context.deregister_udf(name);
    }
    if let Ok(engines) = context.udf("date_trunc") {
        context.register_udf(date_trunc(engines));
    }
    context.register_udaf(users_function());
}

/// Money has 38 digits in SQL, so that a sum of it never comes out as another amount.
pub(super) const MONEY: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

pub(super) const MONEY_NAME: &str = "money";

/// Micros as [`MONEY`]: what a cast does, at a fraction of its time, since every number of 64 bits has a place in 128.
pub(super) fn money() -> ScalarUDF {
    let widened = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let micros = arrays[0].as_primitive_opt::<Int64Type>();
        let micros = micros.ok_or_else(|| DataFusionError::Internal("micros are not whole numbers".to_owned()))?;
        Ok(ColumnarValue::Array(Arc::new(micros.unary::<_, Decimal128Type>(i128::from).with_data_type(MONEY))))
    };
    create_udf(MONEY_NAME, vec![DataType::Int64], MONEY, Volatility::Immutable, Arc::new(widened))
}

/// The 16 bytes of an id as the text that it is known by.
pub(crate) fn id_text() -> ScalarUDF {
    let text = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let ids = arrays[0].as_binary_opt::<i32>();
        let ids = ids.ok_or_else(|| DataFusionError::Internal("ids are not binary".to_owned()))?;
        let mut buffer = Uuid::encode_buffer();
        let mut texts = arrow::array::StringBuilder::with_capacity(ids.len(), ids.len() * buffer.len());
        for id in ids {
            match id.and_then(|bytes| Uuid::from_slice(bytes).ok()) {
                Some(id) => texts.append_value(&*id.hyphenated().encode_lower(&mut buffer)),
                None => texts.append_null(),
            }
        }
        let texts: StringArray = texts.finish();
        Ok(ColumnarValue::Array(Arc::new(texts)))
    };
    create_udf("event_id_text", vec![DataType::Binary], DataType::Utf8, Volatility::Immutable, Arc::new(text))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::compute::cast;
    use arrow::datatypes::Field;
    use datafusion::common::config::ConfigOptions;
    use datafusion::logical_expr::ScalarFunctionArgs;

    use super::*;

    #[test]
    fn money_is_what_a_cast_makes_of_it() {
        let micros: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(0), Some(-1), None, Some(i64::MAX), Some(i64::MIN)]));
        let field = |kind| Arc::new(Field::new("micros", kind, true));
        let arguments = ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(micros.clone())],
            arg_fields: vec![field(DataType::Int64)],
            number_rows: micros.len(),
            return_field: field(MONEY),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let widened = money().invoke_with_args(arguments).unwrap().into_array(micros.len()).unwrap();
        assert_eq!(&widened, &cast(&micros, &MONEY).unwrap());
    }
}
