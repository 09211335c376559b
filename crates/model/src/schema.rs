//! Closed sets of names as schemas (JSON Schema, as OpenAPI 3.1 has it). Made from the lists that requests are checked with, so
//! that a new metric, dimension or status is in the description of the API without anybody writing it there.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::report::{Booking, Dimension, GroupBy, Metric, TimeUnit};
use crate::{Class, ConversionStatus, Format, Kind, Reason, Resolution};

/// A text that is one of these.
pub fn one_of(names: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names))
}

macro_rules! names {
    ($($type:ident: $all:expr, $what:literal;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                one_of($all.into_iter().map($type::as_str)).description(Some($what)).into()
            }
        }

        impl ToSchema for $type {}
    )*};
}

names! {
    Metric: Metric::all(), "A figure that can be asked for. `GET /v1/catalog` has the formula, unit and source of each.";
    Dimension: Dimension::ALL, "A property of events.";
    GroupBy: GroupBy::all(), "A property of events, or a unit of time in the report's time zone.";
    Format: Format::ALL, "How rows are written: one JSON document, CSV, JSON lines, Parquet, or an Arrow IPC stream.";
    Booking: Booking::ALL, "The date that conversions are booked on, by what they are owed to.";
    Kind: Kind::ALL, "What happened.";
    Class: Class::ALL, "The verdict on an event.";
    Reason: Reason::ALL, "Why an event does not count.";
    ConversionStatus: ConversionStatus::ALL, "How a transaction stands.";
    Resolution: Resolution::ALL, "How it was found what a conversion is owed to.";
}

impl PartialSchema for TimeUnit {
    fn schema() -> RefOr<Schema> {
        one_of(TimeUnit::ALL.map(|unit| GroupBy::Time(unit).as_str())).into()
    }
}

impl ToSchema for TimeUnit {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_can_be_asked_for_is_described() {
        let described = serde_json::to_value(Metric::schema()).unwrap();
        let names: Vec<&str> = described["enum"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        assert_eq!(names, Metric::all().map(Metric::as_str).collect::<Vec<_>>());
        let described = serde_json::to_value(GroupBy::schema()).unwrap();
        assert_eq!(described["enum"].as_array().unwrap().len(), GroupBy::all().count());
    }
}
