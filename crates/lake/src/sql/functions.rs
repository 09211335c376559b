//! Functions of ours in SQL, and those of the engine that are not there: what they make of small arguments has no bound.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::DataType;
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
