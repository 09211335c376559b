//! How a number is distributed over events or conversions, by group.

use serde_json::Value;

use crate::report::Report;

/// A number that events have, or conversions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// Seconds from a click or view to the conversion that is owed to it.
    TimeToConvert,
    /// Millionths of the currency.
    CostMicros,
    RevenueMicros,
    /// What `props` holds under this name, where that is a number or a text that reads as one.
    Prop(String),
}

impl Property {
    /// As callers name them; `NAME` is theirs.
    pub const NAMES: [&str; 4] = ["time_to_convert_s", "cost_micros", "revenue_micros", "props.NAME"];

    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "time_to_convert_s" => Some(Self::TimeToConvert),
            "cost_micros" => Some(Self::CostMicros),
            "revenue_micros" => Some(Self::RevenueMicros),
            _ => name.strip_prefix("props.").filter(|name| !name.is_empty()).map(|name| Self::Prop(name.to_owned())),
        }
    }

    /// Whether it is an amount, which means something in one currency only.
    pub fn is_money(&self) -> bool {
        matches!(self, Self::CostMicros | Self::RevenueMicros)
    }
}

/// Which percentiles of what.
#[derive(Debug, Clone)]
pub struct Percentiles {
    /// Grouped by dimensions only.
    pub about: Report,
    pub property: Property,
    /// 0 to 100.
    pub percentiles: Vec<f64>,
}

#[derive(Debug, Clone)]
pub struct PercentilesAnswer {
    /// In the order of their values; groups without a number are not told, but for the one of a question without groups.
    pub groups: Vec<Distribution>,
    /// `events` or `attributions`.
    pub source: &'static str,
    /// The version of `events` that all of it is as of.
    pub table_version: i64,
    pub warnings: Vec<String>,
}

/// The numbers of one group: whole ones are told as such.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    /// A value for each dimension that is grouped by.
    pub group: Vec<Option<String>>,
    /// Events, or conversions, that have the number.
    pub count: u64,
    /// Null, as the next two, where there are none.
    pub sum: Value,
    pub least: Value,
    pub greatest: Value,
    /// One for each percentile that was asked for, in that order.
    pub percentiles: Vec<Value>,
}

/// Which one of `count` sorted numbers, from 1, is at a percentile: the least that at least so many per cent of them do not exceed
/// (nearest rank).
pub fn rank_of(percentile: f64, count: u64) -> u64 {
    // Multiplied first: 7 per cent of 100 are 7, and 0.07 of them a little more.
    let rank = (percentile * count as f64 / 100.0).ceil() as u64;
    rank.clamp(1, count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_numbers_and_never_one_too_far() {
        for (percentile, count, rank) in [
            (0.0, 10, 1),
            (50.0, 1, 1),
            (50.0, 2, 1),
            (50.0, 3, 2),
            (7.0, 100, 7),
            (99.9, 1_000, 999),
            (99.0, 10, 10),
            (100.0, 10, 10),
        ] {
            assert_eq!(rank_of(percentile, count), rank, "p{percentile} of {count}");
        }
    }

    #[test]
    fn a_property_is_known_by_its_name_and_one_of_props_by_any() {
        assert_eq!(Property::parse("props.cart.total"), Some(Property::Prop("cart.total".to_owned())));
        assert_eq!(Property::parse("props."), None);
        assert_eq!(Property::parse("cost"), None);
    }
}
