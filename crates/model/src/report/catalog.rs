//! What can be asked, told to whoever asks: each metric with its formula, unit and the source of its definition.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Dimension, GroupBy, Measure, Metric, TimeUnit};
use crate::analysis::Property;
use crate::{Kind, Users, View};

/// All that reports know, as data.
#[derive(Debug, Serialize, ToSchema)]
pub struct Catalog {
    pub metrics: Vec<MetricEntry>,
    pub dimensions: Vec<DimensionEntry>,
    #[schema(value_type = Vec<TimeUnit>)]
    pub time_units: Vec<&'static str>,
    /// Numbers that percentiles are told of; `NAME` is the sender's.
    pub properties: Vec<&'static str>,
    pub analyses: Vec<AnalysisEntry>,
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

/// What `POST /v1/analyses/..` answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalysisEntry {
    pub name: &'static str,
    pub answers: &'static str,
    /// Who defines it so.
    pub definition: &'static str,
}

const ANALYSES: [AnalysisEntry; 9] = [
    AnalysisEntry {
        name: "ab-test",
        answers: "whether a rate differs between variants: z, p, interval of the difference, power, sample ratio",
        definition: "two-proportion z-test; Holm (1979) for several variants; Fabijan et al. (2019) for the sample ratio",
    },
    AnalysisEntry { name: "compare", answers: "metrics of one period beside another, by group", definition: OWN },
    AnalysisEntry {
        name: "forecast",
        answers: "what a sum comes to in the next hours, days or weeks, with an interval and a backtest",
        definition: "season by STL (Cleveland et al. 1990), the rest by ETS(A,Ad,N) (Hyndman et al. 2008)",
    },
    AnalysisEntry {
        name: "funnel",
        answers: "how many people went from step to step, in order and in time",
        definition: OWN,
    },
    AnalysisEntry { name: "heatmap", answers: "where on an ad people clicked, in a grid", definition: OWN },
    AnalysisEntry {
        name: "percentiles",
        answers: "how a number is distributed: percentiles, count, sum, average, by group",
        definition: "nearest rank, exact",
    },
    AnalysisEntry {
        name: "sample",
        answers: "raw events, drawn uniformly, the same for the same seed",
        definition: "those with the smallest hashes of their places in the log",
    },
    AnalysisEntry {
        name: "series",
        answers: "a sum over time, its moving average, its linear trend, its index by hour and weekday",
        definition: "ordinary least squares; means of seasons",
    },
    AnalysisEntry { name: "top", answers: "the values of a dimension with most of a metric", definition: OWN },
];

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
            properties: Property::NAMES.into(),
            analyses: ANALYSES.into(),
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
