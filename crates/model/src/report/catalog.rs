//! What can be asked, told to whoever asks: each metric with its formula, unit and the source of its definition.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Dimension, GroupBy, Measure, Metric, TimeUnit};
use crate::{Kind, Users, View};

/// All that reports know, as data.
#[derive(Debug, Serialize, ToSchema)]
pub struct Catalog {
    pub metrics: Vec<MetricEntry>,
    pub dimensions: Vec<DimensionEntry>,
    #[schema(value_type = Vec<TimeUnit>)]
    pub time_units: Vec<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MetricEntry {
    #[schema(value_type = Metric)]
    pub name: &'static str,
    pub formula: String,
    pub unit: &'static str,
    /// Who defines it so.
    pub definition: &'static str,
    pub exact: bool,
    /// The relative standard error of what is not exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_standard_error: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DimensionEntry {
    #[schema(value_type = Dimension)]
    pub name: &'static str,
    /// The rollups that answer for it; none where only raw events do.
    pub views: Vec<&'static str>,
}

const MRC: &str = "MRC Invalid Traffic Detection and Filtration Standards Addendum (2020)";
const IAB: &str = "IAB glossary of digital advertising terms";
const OWN: &str = "Tally: docs/api.md";

impl Catalog {
    pub fn whole() -> Self {
        let dimension = |dimension: Dimension| DimensionEntry {
            name: dimension.as_str(),
            views: View::ALL.into_iter().filter(|view| view.has(dimension)).map(View::as_str).collect(),
        };
        Self {
            metrics: Metric::all().map(MetricEntry::of).collect(),
            dimensions: Dimension::ALL.map(dimension).into(),
            time_units: TimeUnit::ALL.map(|unit| GroupBy::Time(unit).as_str()).into(),
        }
    }
}

impl MetricEntry {
    fn of(metric: Metric) -> Self {
        let (formula, unit, definition) = match metric {
            Metric::Events(kind, measure) => (events_formula(kind, measure), "events", MRC),
            Metric::Ctr => ("clicks / impressions".into(), "ratio", IAB),
            Metric::Cvr => ("conversions / clicks".into(), "ratio", IAB),
            Metric::Rpc => ("revenue / clicks".into(), "units of the currency", IAB),
            Metric::Cpa => ("cost / conversions".into(), "units of the currency", IAB),
            Metric::Cpc => ("cost / clicks".into(), "units of the currency", IAB),
            Metric::Cpm => ("1000 * cost / impressions".into(), "units of the currency", IAB),
            Metric::Roas => ("revenue / cost".into(), "ratio", IAB),
            Metric::CostMicros => ("sum of cost_micros of counted events".into(), "millionths of the currency", OWN),
            Metric::RevenueMicros => {
                ("sum of revenue_micros of counted events".into(), "millionths of the currency", OWN)
            }
            Metric::MarginMicros => ("revenue_micros - cost_micros".into(), "millionths of the currency", OWN),
            Metric::Users => (
                "distinct users among counted events; exact from raw events, estimated from rollups".into(),
                "people",
                "HyperLogLog, 4,096 registers (Flajolet et al. 2007)",
            ),
        };
        let exact = metric != Metric::Users;
        let relative_standard_error = (!exact).then_some(Users::RELATIVE_STANDARD_ERROR);
        Self { name: metric.as_str(), formula, unit, definition, exact, relative_standard_error }
    }
}

fn events_formula(kind: Kind, measure: Measure) -> String {
    let verdicts: Vec<_> = measure.classes().iter().map(|class| class.as_str()).collect();
    format!("{}s whose verdict is {}", kind.as_str(), verdicts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_asked_is_told() {
        let catalog = Catalog::whole();
        assert!(catalog.metrics.iter().all(|entry| Metric::parse(entry.name).is_some()));
        assert_eq!(catalog.metrics.len(), Metric::all().count());
        let gender = catalog.dimensions.iter().find(|entry| entry.name == "gender").unwrap();
        assert_eq!(gender.views, ["audience"]);
        let clicks = catalog.metrics.iter().find(|entry| entry.name == "invalid_clicks").unwrap();
        assert_eq!(clicks.formula, "clicks whose verdict is invalid_givt, invalid_sivt");
    }
}
