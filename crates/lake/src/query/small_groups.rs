//! Small groups of people are not told: below a number of people, what a group of an audience did is what a few persons did.
//!
//! Within each combination of the other groups (a campaign, a day), groups that are too small become one row `(other)`. Where that
//! would be too small itself, the next smallest group joins it, so that no group comes out as the whole less all others. Filters
//! by audience choose among the groups that are left, and are not handed to the engine: `gender in (f, x)` less `gender in (f)`
//! would be the few that are x. Only over one and the same time: what a group did from one to two o'clock is what it did until
//! two less what it did until one, and either may be large enough.

use std::borrow::Cow;

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use tally_model::report::{Base, Filter, GroupBy, Measure, Metric, Report, ReportError};
use tally_model::{Dimension, Kind};

use super::Queries;
use super::item::Item;
use super::moment::Moment;
use super::report::GROUPS_MAX;
use crate::error::{LakeError, Result};

/// In the place of an audience that is too small to be told. No value of an event: those have no brackets.
const OTHER: &str = "(other)";

impl Queries {
    /// The report that the engine is asked for a report.
    pub(super) fn made_of(&self, report: &Report) -> Report {
        SmallGroups::of(report, self.audience_people_min).map_or_else(|| report.clone(), |small| small.report)
    }

    /// Refuses a question about an audience, beside reports, where any group of it is small: what it tells cannot be told
    /// together with others.
    pub(super) async fn refuse_small(&self, about: &Report, by: Option<Dimension>) -> Result<()> {
        let dimensions = about.group_by.iter().filter_map(|group| match group {
            GroupBy::Dimension(dimension) => Some(*dimension),
            GroupBy::Time(_) => None,
        });
        let mut dimensions: Vec<Dimension> = dimensions.chain(by).collect();
        dimensions.dedup();
        let is_about_audience = dimensions.iter().any(|dimension| dimension.is_audience())
            || about.filters.iter().any(|filter| filter.dimension.is_audience());
        if self.audience_people_min == 0 || !is_about_audience {
            return Ok(());
        }
        let sizes = Report {
            metrics: vec![Metric::Users],
            group_by: dimensions.into_iter().map(GroupBy::Dimension).collect(),
            order_by: Vec::new(),
            limit: GROUPS_MAX,
            attribution: None,
            fill: None,
            ..about.clone()
        };
        let warning = warning(self.audience_people_min);
        if !self.report(&sizes).await?.meta.warnings.contains(&warning) {
            return Ok(());
        }
        Err(LakeError::Report(ReportError {
            field: "group_by".to_owned(),
            what: format!("some of the audiences have fewer than {} people", self.audience_people_min),
            cure: "group and filter by less, or ask about a longer time".to_owned(),
        }))
    }

    /// The report with filters by large segments only. An event has several, so their groups cannot be chosen from afterwards.
    /// And whether any was too small.
    pub(super) async fn only_large_segments<'a>(
        &self,
        moment: &Moment,
        report: &'a Report,
    ) -> Result<(Cow<'a, Report>, bool)> {
        let is_by_segment = |filter: &Filter| filter.dimension == Dimension::Segment;
        if self.audience_people_min == 0 || !report.filters.iter().any(is_by_segment) {
            return Ok((Cow::Borrowed(report), false));
        }
        let others = report.filters.iter().filter(|filter| !is_by_segment(filter)).cloned();
        let by_segment = Report {
            metrics: vec![Metric::Users],
            group_by: vec![GroupBy::Dimension(Dimension::Segment)],
            filters: others.collect(),
            order_by: Vec::new(),
            limit: GROUPS_MAX,
            attribution: None,
            fill: None,
            ..report.clone()
        };
        let answer = Box::pin(self.report_of(moment, &by_segment)).await?;
        let large: HashSet<&str> = answer.rows.iter().filter_map(|row| row[0].as_str()).collect();
        let (mut report, mut any_small) = (report.clone(), false);
        for filter in report.filters.iter_mut().filter(|filter| is_by_segment(filter)) {
            let listed = filter.values.len();
            filter.values.retain(|segment| large.contains(segment.as_str()));
            any_small |= filter.values.len() < listed;
        }
        Ok((Cow::Owned(report), any_small))
    }
}

pub(super) fn warning(people_min: u64) -> String {
    format!("audiences of fewer than {people_min} people are told together, as `{OTHER}`, or not at all")
}

/// One group with its sums.
pub(super) struct Group {
    pub values: Vec<Item>,
    pub sums: HashMap<Base, i64>,
    /// The first and the last currency of its amounts, by their names; none where that is not watched, or there are none.
    pub currencies: Option<(String, String)>,
    /// Whether it is several groups: distinct people do not add up.
    pub is_merged: bool,
}

impl Group {
    pub fn row(&self, report: &Report) -> Vec<Item> {
        let sum = |base: Base| self.sums.get(&base).copied().unwrap_or(0);
        let figure = |metric: &Metric| match metric {
            Metric::Users if self.is_merged => Item::Null,
            metric => Item::of(metric.value_on(report.basis, sum)),
        };
        self.values.iter().cloned().chain(report.metrics.iter().map(figure)).collect()
    }

    pub fn mixes_currencies(&self) -> bool {
        self.currencies.as_ref().is_some_and(|(first, last)| first != last)
    }

    /// How many people: distinct users; where nobody has an id, events, which nobody can tell apart by person.
    fn people(&self) -> i64 {
        let users = self.sums.get(&Base::Users).copied().unwrap_or(0);
        let events = self.sums.iter().filter(|(base, _)| matches!(base, Base::Events(..))).map(|(_, sum)| *sum);
        if users > 0 { users } else { events.sum() }
    }

    fn add(&mut self, other: &Group) {
        for (base, sum) in &other.sums {
            let total = self.sums.entry(*base).or_default();
            *total = total.saturating_add(*sum);
        }
        self.currencies = match (self.currencies.take(), other.currencies.clone()) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (own, others) => own.or(others),
        };
        self.is_merged = true;
    }
}

/// What a report about an audience is made of.
pub(super) struct SmallGroups {
    people_min: i64,
    /// The report whose groups are small or not: by every audience that it groups or filters by, and filtered by none of them.
    pub report: Report,
    filters: Vec<Filter>,
    /// Columns of the groups that are an audience, of which a person is in one.
    audience: Vec<usize>,
    /// The column of segments, of which a person may be in many: they are no parts of a whole, so none is what others leave of it.
    segment: Option<usize>,
    /// How many of the groups were asked for.
    asked: usize,
}

impl SmallGroups {
    /// None where a report is about no audience.
    pub fn of(report: &Report, people_min: u64) -> Option<Self> {
        let is_chosen = |filter: &Filter| filter.dimension.is_audience() && filter.dimension != Dimension::Segment;
        let (filters, others): (Vec<Filter>, Vec<Filter>) = report.filters.iter().cloned().partition(is_chosen);
        let mut group_by = report.group_by.clone();
        for filter in &filters {
            let group = GroupBy::Dimension(filter.dimension);
            if !group_by.contains(&group) {
                group_by.push(group);
            }
        }
        let is_audience = |group: &GroupBy| matches!(group, GroupBy::Dimension(dimension) if dimension.is_audience());
        let segment = group_by.iter().position(|group| *group == GroupBy::Dimension(Dimension::Segment));
        let audience = (0..group_by.len()).filter(|at| is_audience(&group_by[*at]) && Some(*at) != segment);
        let audience: Vec<usize> = audience.collect();
        if people_min == 0 || (audience.is_empty() && segment.is_none()) {
            return None;
        }
        let people_min = i64::try_from(people_min).unwrap_or(i64::MAX);
        let asked = report.group_by.len();
        let mut metrics = report.metrics.clone();
        let people = Kind::ALL.map(|kind| Metric::Events(kind, Measure::Gross)).into_iter().chain([Metric::Users]);
        metrics.extend(people.filter(|metric| !report.metrics.contains(metric)));
        let report = Report { metrics, group_by, filters: others, ..report.clone() };
        Some(Self { people_min, report, filters, audience, segment, asked })
    }

    /// The groups that are told, and whether any was too small to be.
    pub fn fold(&self, groups: Vec<Group>) -> (Vec<Group>, bool) {
        let mut contexts: HashMap<String, Vec<Group>> = HashMap::new();
        for group in groups {
            let others = group.values.iter().enumerate().filter(|(at, _)| !self.audience.contains(at));
            contexts.entry(format!("{:?}", others.collect::<Vec<_>>())).or_default().push(group);
        }
        let mut told: Vec<Group> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        // Several audiences that a filter lists, and several small ones, are told as one group.
        let mut tell = |group: Group| match places.entry(format!("{:?}", group.values)) {
            Entry::Occupied(place) => told[*place.get()].add(&group),
            Entry::Vacant(place) => {
                place.insert(told.len());
                told.push(group);
            }
        };
        let mut any_small = false;
        for mut context in contexts.into_values() {
            let small = self.small(&mut context);
            any_small |= small > 0;
            let mut other: Option<Group> = None;
            for (at, mut group) in context.into_iter().enumerate() {
                if at < small {
                    match &mut other {
                        Some(other) => other.add(&group),
                        None => other = Some(group),
                    }
                } else if self.filters.iter().all(|filter| self.passes(filter, &group)) {
                    group.values.truncate(self.asked);
                    tell(group);
                }
            }
            // Who is in there passes no filter by name.
            if let (Some(mut other), true) = (other, self.filters.is_empty()) {
                // Even together they are few: so is the segment.
                let segment = self.segment.filter(|_| other.people() < self.people_min);
                for at in self.audience.iter().copied().chain(segment) {
                    other.values[at] = Item::Text(OTHER.to_owned());
                }
                tell(other);
            }
        }
        (told, any_small)
    }

    /// Puts the groups that are folded in front, and says how many they are.
    fn small(&self, context: &mut [Group]) -> usize {
        context.sort_by_cached_key(|group| (group.people(), format!("{:?}", group.values)));
        let mut small = context.iter().take_while(|group| group.people() < self.people_min).count();
        if small == 0 {
            return 0;
        }
        let mut people: i64 = context[..small].iter().map(Group::people).sum();
        while people < self.people_min && small < context.len() {
            people += context[small].people();
            small += 1;
        }
        small
    }

    fn passes(&self, filter: &Filter, group: &Group) -> bool {
        let column = self.report.group_by.iter().position(|by| *by == GroupBy::Dimension(filter.dimension));
        let is_listed = match column.map(|at| &group.values[at]) {
            Some(Item::Text(value)) => filter.values.contains(value),
            _ => filter.null,
        };
        is_listed != filter.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::Class;
    use tally_model::report::ReportRequest;

    fn report(group_by: &str, filters: &str) -> Report {
        let json = format!(
            r#"{{"metrics":["clicks","users"],"group_by":[{group_by}],"filters":[{filters}],
                "from":"2024-05-01T00:00:00Z","to":"2024-05-02T00:00:00Z"}}"#
        );
        Report::try_from(&serde_json::from_str::<ReportRequest>(&json).unwrap()).unwrap()
    }

    const CLICKS: Base = Base::Events(Kind::Click, Class::Counted);

    fn group(values: &[&str], users: i64, clicks: i64) -> Group {
        let values = values.iter().map(|value| Item::Text((*value).to_owned())).collect();
        Group { values, sums: [(Base::Users, users), (CLICKS, clicks)].into(), currencies: None, is_merged: false }
    }

    /// Groups as `value/clicks`, in order.
    fn told(small: &SmallGroups, groups: Vec<Group>) -> Vec<String> {
        let text = |item: &Item| if let Item::Text(text) = item { text.clone() } else { "?".to_owned() };
        let (groups, _) = small.fold(groups);
        let mut told: Vec<String> = groups
            .iter()
            .map(|g| format!("{}/{}", g.values.iter().map(text).collect::<Vec<_>>().join(","), g.sums[&CLICKS]))
            .collect();
        told.sort();
        told
    }

    #[test]
    fn a_small_group_is_told_with_another_and_never_alone() {
        let small = SmallGroups::of(&report(r#""gender""#, ""), 10).unwrap();
        let groups = || vec![group(&["f"], 100, 120), group(&["m"], 200, 230), group(&["x"], 3, 5)];
        assert_eq!(told(&small, groups()), ["(other)/125", "m/230"], "alone it would be the whole less the others");
        assert_eq!(told(&small, vec![group(&["x"], 3, 5)]), ["(other)/5"], "which says no more than a report of all");
        let large = SmallGroups::of(&report(r#""gender""#, ""), 3).unwrap();
        assert_eq!(told(&large, groups()), ["f/120", "m/230", "x/5"]);
        assert!(SmallGroups::of(&report(r#""country""#, ""), 10).is_none());
        assert!(SmallGroups::of(&report(r#""gender""#, ""), 0).is_none());
    }

    #[test]
    fn groups_of_one_currency_each_mix_them_where_they_are_told_together() {
        let paid = |value: &str, users: i64, currency: &str| {
            let currencies = Some((currency.to_owned(), currency.to_owned()));
            Group { currencies, ..group(&[value], users, users) }
        };
        let groups = || vec![paid("f", 100, "EUR"), paid("m", 200, "USD"), paid("x", 3, "EUR")];
        let mixing = |filter: &str| {
            let small = SmallGroups::of(&report("", filter), 3).unwrap();
            small.fold(groups()).0.iter().filter(|group| group.mixes_currencies()).count()
        };
        assert_eq!(mixing(r#"{"field":"gender","values":["f","m"]}"#), 1);
        assert_eq!(mixing(r#"{"field":"gender","values":["f","x"]}"#), 0, "what is left out mixes nothing");
    }

    #[test]
    fn a_small_segment_takes_no_large_one_with_it() {
        let by_segment = SmallGroups::of(&report(r#""segment""#, ""), 10).unwrap();
        let groups = vec![group(&["many"], 100, 120), group(&["rare"], 3, 5), group(&["rarer"], 2, 4)];
        assert_eq!(told(&by_segment, groups), ["(other)/9", "many/120"]);
        let by_both = SmallGroups::of(&report(r#""segment","gender""#, ""), 10).unwrap();
        let groups = vec![group(&["many", "f"], 50, 60), group(&["many", "x"], 3, 5), group(&["rare", "x"], 2, 4)];
        assert_eq!(told(&by_both, groups), ["(other),(other)/4", "many,(other)/65"]);
    }

    #[test]
    fn filters_choose_among_what_is_told() {
        let groups = || vec![group(&["f"], 100, 120), group(&["m"], 200, 230), group(&["x"], 3, 5)];
        let of = |values: &str, op: &str| {
            let filter = format!(r#"{{"field":"gender","op":"{op}","values":[{values}]}}"#);
            told(&SmallGroups::of(&report("", &filter), 10).unwrap(), groups())
        };
        assert_eq!(of(r#""f","x""#, "in"), of(r#""x""#, "in"), "nothing is left of either");
        assert_eq!(of(r#""m""#, "in"), ["/230"]);
        assert_eq!(of(r#""x""#, "not_in"), ["/230"]);
    }

    proptest! {
        /// Whatever the groups are: nothing is lost, and nothing small can be had, neither by itself nor as a remainder.
        #[test]
        fn totals_stay_and_no_remainder_is_small(sizes in prop::collection::vec((0usize..3, 0i64..40), 1..12)) {
            let small = SmallGroups::of(&report(r#""campaign_id","age_group""#, ""), 10).unwrap();
            let groups: Vec<Group> = sizes
                .iter()
                .enumerate()
                .map(|(at, (campaign, users))| group(&[&format!("c{campaign}"), &format!("a{at}")], *users, users * 2))
                .collect();
            let (told, _) = small.fold(groups);
            for campaign in 0..3 {
                let name = Item::Text(format!("c{campaign}"));
                let of_campaign: Vec<&Group> = told.iter().filter(|group| group.values[0] == name).collect();
                let clicks: i64 = of_campaign.iter().map(|group| group.sums[&CLICKS]).sum();
                let whole: i64 = sizes.iter().filter(|(of, _)| *of == campaign).map(|(_, users)| users * 2).sum();
                prop_assert_eq!(clicks, whole);
                let too_small = of_campaign.iter().filter(|group| group.people() < 10).count();
                prop_assert!(too_small == 0 || of_campaign.len() == 1);
            }
        }
    }
}
