//! `date_trunc` of instants in UTC, as quick as a division. The engine's own asks the calendar of the time zone for each row, even
//! where that is UTC: thirty times as long, for what charts ask most.

use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

const SECOND_US: i64 = 1_000_000;

/// The engine's, with a short way.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc(Arc<ScalarUDF>);

pub(super) fn date_trunc(engines: Arc<ScalarUDF>) -> ScalarUDF {
    ScalarUDF::new_from_impl(DateTrunc(engines))
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.0.return_field_from_args(arguments)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.0.output_ordering(inputs)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(unit), ColumnarValue::Array(instants)] = arguments.args.as_slice() else {
            return self.0.invoke_with_args(arguments);
        };
        let unit_us = unit.try_as_str().flatten().and_then(width_us);
        let (Some(unit_us), true) = (unit_us, is_utc(instants.data_type())) else {
            return self.0.invoke_with_args(arguments);
        };
        let instants = instants.as_primitive::<TimestampMicrosecondType>();
        // Where there is null, anything may stand: nothing of it overflows.
        let starts: PrimitiveArray<TimestampMicrosecondType> =
            instants.unary(|at_us: i64| at_us.wrapping_sub(at_us.rem_euclid(unit_us)));
        Ok(ColumnarValue::Array(Arc::new(starts.with_data_type(instants.data_type().clone()))))
    }
}

/// Units that are equally long in UTC, and begin with the epoch.
fn width_us(unit: &str) -> Option<i64> {
    let seconds = match unit.to_lowercase().as_str() {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        _ => return None,
    };
    Some(seconds * SECOND_US)
}

fn is_utc(data_type: &DataType) -> bool {
    let DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) = data_type else { return false };
    ["UTC", "Etc/UTC", "+00:00"].contains(&zone.as_ref())
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use arrow::datatypes::Field;
    use datafusion::common::ScalarValue;
    use datafusion::common::config::ConfigOptions;
    use datafusion::functions::datetime;
    use proptest::prelude::*;

    use super::*;

    fn ask(function: &ScalarUDF, unit: &str, instants: &[Option<i64>], zone: &str) -> Vec<Option<i64>> {
        let instants = TimestampMicrosecondArray::from(instants.to_vec()).with_timezone(zone);
        let field = |data_type: DataType| Arc::new(Field::new("x", data_type, true));
        let arguments = ScalarFunctionArgs {
            arg_fields: vec![field(DataType::Utf8), field(instants.data_type().clone())],
            number_rows: instants.len(),
            return_field: field(instants.data_type().clone()),
            args: vec![
                ColumnarValue::Scalar(ScalarValue::from(unit)),
                ColumnarValue::Array(Arc::new(instants.clone())),
            ],
            config_options: Arc::new(ConfigOptions::default()),
        };
        let ColumnarValue::Array(starts) = function.invoke_with_args(arguments).unwrap() else { panic!("no array") };
        assert_eq!(starts.data_type(), instants.data_type());
        starts.as_primitive::<TimestampMicrosecondType>().iter().collect()
    }

    proptest! {
        #[test]
        fn it_says_what_the_engine_says(
            // The years 1684 to 2255, before and after the epoch: of later ones the engine says that they are out of range.
            instants in proptest::collection::vec(proptest::option::of(-9 * 10_i64.pow(15)..9 * 10_i64.pow(15)), 0..20),
            unit in prop::sample::select(vec!["second", "minute", "HOUR", "day", "week", "month", "year"]),
            zone in prop::sample::select(vec!["UTC", "+00:00", "Etc/UTC", "Europe/Berlin"]),
        ) {
            let engines = datetime::date_trunc();
            let ours = date_trunc(engines.clone());
            prop_assert_eq!(ask(&ours, unit, &instants, zone), ask(&engines, unit, &instants, zone));
        }
    }
}
