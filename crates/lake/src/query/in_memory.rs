//! Sums by group from cells that are in memory, as the engine would give them from the files.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use tally_model::report::{Base, Filter, GroupBy, Report};
use tally_model::{Cells, Counter, Dimension, Grain, NumberedKey, TextNumber, Users, View};

use super::Queries;
use super::bucket::window_start_us;
use super::item::Item;
use super::report::{Asked, GROUPS_MAX, sum_that_fits, too_many_groups};
use super::small_groups::Group;
use crate::cell_cache::{FileCells, Slot};
use crate::error::{Doing, LakeError, Result};
use crate::live_file::LiveFile;
use crate::table::TableVersion;

/// Cells that are added up where the question is; more of them elsewhere, so that others get their turn.
const CELLS_AT_ONCE: usize = 50_000;

impl Queries {
    /// The groups of a report, if all the cells that it needs are in memory. Else they will be, if there is room.
    pub(super) async fn groups_in_memory(
        &self,
        rollups: &TableVersion,
        (view, grain): (View, Grain),
        report: &Report,
        asked: &Asked,
    ) -> Option<Result<Vec<Group>>> {
        let files = self.cells_in_memory(rollups, (view, grain), report)?;
        let slots = files.iter().filter_map(|file| file.slot(grain, view));
        let cells: usize = slots.map(|slot| slot.cells.len()).sum();
        let (report, asked) = (report.clone(), asked.clone());
        let add_up = move || sums(files.iter().filter_map(|file| file.slot(grain, view)), view, &report, &asked);
        if cells <= CELLS_AT_ONCE {
            return Some(add_up());
        }
        Some(tokio::task::spawn_blocking(add_up).await.doing("add up cells").and_then(|sums| sums))
    }

    /// The files that a report needs, with their cells, if all are there.
    pub(super) fn cells_in_memory(
        &self,
        rollups: &TableVersion,
        (view, grain): (View, Grain),
        report: &Report,
    ) -> Option<Vec<Arc<FileCells>>> {
        let needed: Vec<&Arc<LiveFile>> =
            rollups.files.iter().filter(|file| may_hold(file, (view, grain), report)).collect();
        let needs_users = report.needs_users();
        let (mut there, mut missing) = (Vec::with_capacity(needed.len()), Vec::new());
        for file in &needed {
            match self.cells.get(file.path(), needs_users) {
                Some(cells) => there.push(cells),
                None => missing.push(file.path().to_owned()),
            }
        }
        if missing.is_empty() {
            return Some(there);
        }
        if self.cells.has_room_for(&needed, needs_users) {
            self.cells.load(rollups.store.clone(), missing, needs_users);
        }
        None
    }
}

/// Whether the log's statistics let a file have a cell that is asked for. Without statistics, it may.
fn may_hold(file: &LiveFile, (view, grain): (View, Grain), report: &Report) -> bool {
    let Some(bounds) = file.cell_bounds() else { return true };
    let is_within = |bounds: &(String, String), value: &str| *bounds.0 <= *value && *value <= *bounds.1;
    is_within(&bounds.grain, grain.as_str())
        && is_within(&bounds.view, view.as_str())
        && bounds.bucket_us.0 < report.to_us
        && bounds.bucket_us.1 >= report.from_us
        && report.filters.iter().all(|filter| {
            filter.dimension != Dimension::CampaignId
                || filter.negated
                || filter.values.iter().any(|campaign| is_within(&bounds.campaign_id, campaign))
        })
}

fn sums<'a>(slots: impl Iterator<Item = &'a Slot>, view: View, report: &Report, asked: &Asked) -> Result<Vec<Group>> {
    let mut found =
        Found { asked, report, view, names: Names::default(), windows: HashMap::new(), groups: HashMap::new() };
    if report.group_by.is_empty() {
        // Sums over nothing are a row of their own.
        found.groups.entry(Box::default()).or_insert_with(|| Sums::new(asked));
    }
    for slot in slots {
        found.add(slot)?;
    }
    found.groups()
}

/// What is found, by group: each value is the number of a name, or the start of a window.
struct Found<'a> {
    asked: &'a Asked,
    report: &'a Report,
    view: View,
    names: Names<'a>,
    windows: HashMap<i64, i64>,
    groups: HashMap<Box<[i64]>, Sums<'a>>,
}

/// Names over all files. None is 0.
#[derive(Default)]
struct Names<'a> {
    numbers: HashMap<&'a str, i64>,
    names: Vec<&'a str>,
}

struct Sums<'a> {
    /// In the order of the bases asked for.
    sums: Vec<i128>,
    users: Option<Users>,
    currencies: Option<(&'a str, &'a str)>,
}

impl<'a> Found<'a> {
    fn add(&mut self, slot: &'a Slot) -> Result<()> {
        let cells = &slot.cells;
        let campaigns = only_campaigns(self.report);
        let mut filters: Vec<Matches<'a, '_>> =
            self.report.filters.iter().map(|filter| Matches::new(filter, cells)).collect();
        let mut numbers = vec![-1; cells.texts().numbers()];
        let mut key = Vec::with_capacity(self.report.group_by.len());
        let mut add = |at: usize| -> Result<()> {
            let of = cells.key(at);
            if !filters.iter_mut().all(|filter| filter.keeps(value_of(self.view, of, filter.filter.dimension))) {
                return Ok(());
            }
            key.clear();
            for group in &self.report.group_by {
                key.push(match group {
                    GroupBy::Time(unit) => *self
                        .windows
                        .entry(of.bucket_us)
                        .or_insert_with(|| window_start_us(*unit, &self.report.time_zone, of.bucket_us)),
                    GroupBy::Dimension(dimension) => {
                        let number = value_of(self.view, of, *dimension);
                        let known = &mut numbers[number as usize];
                        if *known < 0 {
                            *known = cells.texts().text(number).map_or(0, |name| self.names.number(name));
                        }
                        *known
                    }
                });
            }
            if !self.groups.contains_key(key.as_slice()) {
                if self.groups.len() >= GROUPS_MAX {
                    return Err(too_many_groups());
                }
                self.groups.insert(key.as_slice().into(), Sums::new(self.asked));
            }
            match self.groups.get_mut(key.as_slice()) {
                Some(sums) => sums.add(cells, at, self.asked),
                None => Ok(()),
            }
        };
        let places = |campaign| slot.places(campaign, self.report.from_us..self.report.to_us);
        match campaigns {
            None => places(None).try_for_each(&mut add),
            Some(campaigns) => campaigns.iter().try_for_each(|campaign| places(Some(campaign)).try_for_each(&mut add)),
        }
    }

    fn groups(self) -> Result<Vec<Group>> {
        let Self { asked, report, names, groups, .. } = self;
        let groups = groups.into_iter().map(|(key, sums)| {
            let values = report.group_by.iter().zip(&key).map(|(group, value)| match group {
                GroupBy::Time(unit) => Item::Time(*unit, *value),
                GroupBy::Dimension(_) => names.item(*value),
            });
            let mut told = HashMap::with_capacity(asked.bases.len());
            for (base, sum) in asked.bases.iter().zip(&sums.sums) {
                let users = || sums.users.as_ref().map_or(0, |users| users.estimate().round() as i64);
                told.insert(*base, if *base == Base::Users { users() } else { sum_that_fits(*sum)? });
            }
            let currencies = sums.currencies.map(|(first, last)| (first.to_owned(), last.to_owned()));
            Ok(Group { values: values.collect(), sums: told, currencies, is_merged: false })
        });
        groups.collect()
    }
}

impl<'a> Names<'a> {
    fn number(&mut self, name: &'a str) -> i64 {
        *self.numbers.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() as i64
        })
    }

    fn item(&self, number: i64) -> Item {
        let name = usize::try_from(number - 1).ok().and_then(|at| self.names.get(at));
        name.map_or(Item::Null, |name| Item::Text((*name).to_owned()))
    }
}

impl<'a> Sums<'a> {
    fn new(asked: &Asked) -> Self {
        Self { sums: vec![0; asked.bases.len()], users: None, currencies: None }
    }

    fn add(&mut self, cells: &'a Cells, at: usize, asked: &Asked) -> Result<()> {
        let (cost_micros, revenue_micros) = cells.money_micros(at);
        for (sum, base) in self.sums.iter_mut().zip(&asked.bases) {
            *sum += match base {
                Base::Events(kind, class) => {
                    let wanted = Counter::of(*kind, *class);
                    let counters = cells.counters(at).iter();
                    counters.filter(|(counter, _)| *counter == wanted).map(|(_, count)| i128::from(*count)).sum()
                }
                Base::CostMicros => i128::from(cost_micros),
                Base::RevenueMicros => i128::from(revenue_micros),
                Base::Users => {
                    let sketch = cells.sketch(at);
                    if !sketch.is_empty() {
                        let merged = self.users.get_or_insert_default().merge_bytes(sketch);
                        merged.map_err(|error| LakeError::Damaged { what: error.to_string() })?;
                    }
                    0
                }
            };
        }
        if asked.watches_currency && (cost_micros != 0 || revenue_micros != 0) {
            // An amount without a currency is one more currency.
            let currency = cells.texts().text(cells.key(at).currency).unwrap_or_default();
            let (first, last) = self.currencies.unwrap_or((currency, currency));
            self.currencies = Some((first.min(currency), last.max(currency)));
        }
        Ok(())
    }
}

/// The campaigns that a report is about, where it names them, each once.
fn only_campaigns(report: &Report) -> Option<BTreeSet<&str>> {
    let filter = report.filters.iter().find(|filter| filter.dimension == Dimension::CampaignId && !filter.negated)?;
    Some(filter.values.iter().map(String::as_str).collect())
}

/// A filter over the numbers of one file's texts; what was found of a number once stays.
struct Matches<'a, 'f> {
    filter: &'f Filter,
    cells: &'a Cells,
    known: HashMap<TextNumber, bool>,
}

impl<'a, 'f> Matches<'a, 'f> {
    fn new(filter: &'f Filter, cells: &'a Cells) -> Self {
        Self { filter, cells, known: HashMap::new() }
    }

    fn keeps(&mut self, number: TextNumber) -> bool {
        *self.known.entry(number).or_insert_with(|| {
            let is_listed = match self.cells.texts().text(number) {
                None => self.filter.null,
                Some(text) => self.filter.values.iter().any(|value| value == text),
            };
            is_listed != self.filter.negated
        })
    }
}

/// The number of a cell's value.
fn value_of(view: View, key: &NumberedKey, dimension: Dimension) -> TextNumber {
    match dimension {
        Dimension::CampaignId => key.campaign,
        Dimension::Currency => key.currency,
        other => {
            let own = view.own_dimensions().iter().position(|own| *own == other);
            own.map_or(0, |at| key.values[at])
        }
    }
}
