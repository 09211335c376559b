//! What a report can say, and the formula of each. Everything is a function of sums that merge.

use crate::{Class, Kind};

/// Which events of a kind are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Counted: what is billed.
    Net,
    /// Everything that came in.
    Gross,
    Duplicate,
    /// General and sophisticated invalid traffic together.
    Invalid,
    InvalidGivt,
    InvalidSivt,
    Quarantined,
}

impl Measure {
    pub const ALL: [Measure; 7] = [
        Measure::Net,
        Measure::Gross,
        Measure::Duplicate,
        Measure::Invalid,
        Measure::InvalidGivt,
        Measure::InvalidSivt,
        Measure::Quarantined,
    ];

    /// The classes whose sum it is.
    pub fn classes(self) -> &'static [Class] {
        match self {
            Measure::Net => &[Class::Counted],
            Measure::Gross => &Class::ALL,
            Measure::Duplicate => &[Class::Duplicate],
            Measure::Invalid => &[Class::InvalidGivt, Class::InvalidSivt],
            Measure::InvalidGivt => &[Class::InvalidGivt],
            Measure::InvalidSivt => &[Class::InvalidSivt],
            Measure::Quarantined => &[Class::Quarantined],
        }
    }

    fn name(self, kind: Kind) -> &'static str {
        let names = match kind {
            Kind::Impression => [
                "impressions",
                "gross_impressions",
                "duplicate_impressions",
                "invalid_impressions",
                "invalid_givt_impressions",
                "invalid_sivt_impressions",
                "quarantined_impressions",
            ],
            Kind::Click => [
                "clicks",
                "gross_clicks",
                "duplicate_clicks",
                "invalid_clicks",
                "invalid_givt_clicks",
                "invalid_sivt_clicks",
                "quarantined_clicks",
            ],
            Kind::Conversion => [
                "conversions",
                "gross_conversions",
                "duplicate_conversions",
                "invalid_conversions",
                "invalid_givt_conversions",
                "invalid_sivt_conversions",
                "quarantined_conversions",
            ],
        };
        names[self as usize]
    }
}

/// Which events rates divide by and are of. Amounts are of counted events in either case: nothing else is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Basis {
    /// Counted events.
    #[default]
    Net,
    /// All that came in.
    Gross,
}

/// A sum that is stored, and that every metric is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    Events(Kind, Class),
    CostMicros,
    RevenueMicros,
    Users,
}

/// A figure that can be asked for. Rates are of net figures unless gross ones are asked for; a division by zero is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    Events(Kind, Measure),
    /// Click-through rate: clicks / impressions.
    Ctr,
    /// Conversion rate: conversions / clicks.
    Cvr,
    /// Revenue per click, in units of the currency.
    Rpc,
    /// Cost per acquisition: cost / conversions, in units of the currency.
    Cpa,
    /// Cost per click, in units of the currency.
    Cpc,
    /// Cost per thousand impressions, in units of the currency.
    Cpm,
    /// Return on ad spend: revenue / cost.
    Roas,
    /// Revenue less cost.
    MarginMicros,
    CostMicros,
    RevenueMicros,
    /// Distinct users among counted events; exact from raw events, estimated from rollups.
    Users,
}

impl Metric {
    pub fn all() -> impl Iterator<Item = Metric> {
        let events = Kind::ALL.into_iter().flat_map(|kind| Measure::ALL.map(|measure| Metric::Events(kind, measure)));
        events.chain([
            Metric::Ctr,
            Metric::Cvr,
            Metric::Rpc,
            Metric::Cpa,
            Metric::Cpc,
            Metric::Cpm,
            Metric::Roas,
            Metric::MarginMicros,
            Metric::CostMicros,
            Metric::RevenueMicros,
            Metric::Users,
        ])
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Events(kind, measure) => measure.name(kind),
            Metric::Ctr => "ctr",
            Metric::Cvr => "cvr",
            Metric::Rpc => "rpc",
            Metric::Cpa => "cpa",
            Metric::Cpc => "cpc",
            Metric::Cpm => "cpm",
            Metric::Roas => "roas",
            Metric::MarginMicros => "margin_micros",
            Metric::CostMicros => "cost_micros",
            Metric::RevenueMicros => "revenue_micros",
            Metric::Users => "users",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|metric| metric.as_str() == name)
    }

    /// The sums that it is computed from.
    pub fn bases(self) -> Vec<Base> {
        let net = |kind| Base::Events(kind, Class::Counted);
        match self {
            Metric::Events(kind, measure) => measure.classes().iter().map(|class| Base::Events(kind, *class)).collect(),
            Metric::Ctr => vec![net(Kind::Click), net(Kind::Impression)],
            Metric::Cvr => vec![net(Kind::Conversion), net(Kind::Click)],
            Metric::Rpc => vec![Base::RevenueMicros, net(Kind::Click)],
            Metric::Cpa => vec![Base::CostMicros, net(Kind::Conversion)],
            Metric::Cpc => vec![Base::CostMicros, net(Kind::Click)],
            Metric::Cpm => vec![Base::CostMicros, net(Kind::Impression)],
            Metric::Roas | Metric::MarginMicros => vec![Base::RevenueMicros, Base::CostMicros],
            Metric::CostMicros => vec![Base::CostMicros],
            Metric::RevenueMicros => vec![Base::RevenueMicros],
            Metric::Users => vec![Base::Users],
        }
    }

    /// The sums that it is computed from on a basis.
    pub fn bases_on(self, basis: Basis) -> Vec<Base> {
        match (self, basis) {
            (Metric::Events(..), _) | (_, Basis::Net) => self.bases(),
            (_, Basis::Gross) => self.bases().into_iter().flat_map(all_classes).collect(),
        }
    }

    /// Its value on a basis, given the sum of each base.
    pub fn value_on(self, basis: Basis, sum: impl Fn(Base) -> i64) -> Value {
        match (self, basis) {
            (Metric::Events(..), _) | (_, Basis::Net) => self.value(sum),
            (_, Basis::Gross) => self.value(|base| all_classes(base).into_iter().map(&sum).sum()),
        }
    }

    /// Whether it adds up amounts of money, which means something in one currency only.
    pub fn is_money(self) -> bool {
        self.bases().iter().any(|base| matches!(base, Base::CostMicros | Base::RevenueMicros))
    }

    /// Its value, given the sum of each base.
    pub fn value(self, sum: impl Fn(Base) -> i64) -> Value {
        let bases = self.bases();
        match self {
            Metric::Events(..) | Metric::CostMicros | Metric::RevenueMicros | Metric::Users => {
                Value::Whole(bases.iter().map(|base| sum(*base)).sum())
            }
            Metric::Ctr | Metric::Cvr | Metric::Roas => ratio(sum(bases[0]) as f64, sum(bases[1]) as f64),
            Metric::MarginMicros => Value::Whole(sum(bases[0]).saturating_sub(sum(bases[1]))),
            Metric::Cpm => ratio(sum(bases[0]) as f64 / 1e3, sum(bases[1]) as f64),
            Metric::Rpc | Metric::Cpa | Metric::Cpc => ratio(sum(bases[0]) as f64 / 1e6, sum(bases[1]) as f64),
        }
    }
}

/// For counted events, those of every class; any other base is itself.
fn all_classes(base: Base) -> Vec<Base> {
    match base {
        Base::Events(kind, _) => Class::ALL.into_iter().map(|class| Base::Events(kind, class)).collect(),
        other => vec![other],
    }
}

/// The value of a metric in one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Whole(i64),
    Ratio(f64),
    Null,
}

fn ratio(of: f64, to: f64) -> Value {
    if to == 0.0 { Value::Null } else { Value::Ratio(of / to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_metric() {
        for metric in Metric::all() {
            assert_eq!(Metric::parse(metric.as_str()), Some(metric));
        }
        assert_eq!(Metric::parse("gross_clicks"), Some(Metric::Events(Kind::Click, Measure::Gross)));
    }

    #[test]
    fn formulas_are_of_net_figures_and_division_by_zero_is_null() {
        let sums = |base| match base {
            Base::Events(Kind::Impression, Class::Counted) => 1_000,
            Base::Events(Kind::Impression, _) => 7,
            Base::Events(Kind::Click, Class::Counted) => 20,
            Base::CostMicros => 5_000_000,
            Base::RevenueMicros => 10_000_000,
            _ => 0,
        };
        assert_eq!(Metric::Ctr.value(sums), Value::Ratio(0.02));
        assert_eq!(Metric::Ctr.value_on(Basis::Gross, sums), Value::Ratio(20.0 / 1_028.0));
        assert_eq!(Metric::Cpm.value_on(Basis::Gross, sums), Value::Ratio(5_000.0 / 1_028.0));
        assert_eq!(Metric::parse("clicks").unwrap().value_on(Basis::Gross, sums), Value::Whole(20));
        assert_eq!(Metric::Cpc.value(sums), Value::Ratio(0.25));
        assert_eq!(Metric::Cpm.value(sums), Value::Ratio(5.0));
        assert_eq!(Metric::MarginMicros.value(sums), Value::Whole(5_000_000));
        assert_eq!(Metric::Roas.value(sums), Value::Ratio(2.0));
        assert_eq!(Metric::Cpa.value(sums), Value::Null, "no conversions");
        assert_eq!(Metric::Events(Kind::Impression, Measure::Gross).value(sums), Value::Whole(1_028));
        assert_eq!(Metric::Events(Kind::Impression, Measure::Invalid).value(sums), Value::Whole(14));
    }
}
