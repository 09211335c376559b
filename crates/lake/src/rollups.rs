//! Cells as rows of `rollups`, and rows merged into fewer.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use hashbrown::HashMap;
use tally_model::report::Base;
use tally_model::{Cell, CellKey, Class, Counts, Grain, Kind, Users, View};

use crate::error::{LakeError, Result};
use crate::events::Columns;
use crate::files::FileLayout;
use crate::schema::{ROLLUP_DIMENSIONS, ROLLUP_STATISTICS, ROLLUPS, base_column, events_column, summed_bases};

pub(crate) const ROLLUPS_LAYOUT: FileLayout =
    FileLayout { statistics: &ROLLUP_STATISTICS, distinct: &["users"], rising: &[], looked_up: &[] };

/// The first and the last version of `events` that a row sums up.
pub(crate) type Versions = (i64, i64);

pub(crate) fn encode(rows: &[(&Cell, Versions)]) -> Result<RecordBatch> {
    let keys = || rows.iter().map(|(cell, _)| &cell.key);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(keys().map(|key| key.grain.as_str()))),
        Arc::new(StringArray::from_iter_values(keys().map(|key| key.view.as_str()))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(keys().map(|key| key.bucket_us)).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(keys().map(|key| &*key.campaign_id))),
    ];
    for dimension in ROLLUP_DIMENSIONS {
        let at = View::ALL.map(|view| view.own_dimensions().iter().position(|own| *own == dimension));
        let value = |key: &CellKey| at[key.view as usize].and_then(|at| key.values[at].clone());
        columns.push(Arc::new(keys().map(value).collect::<StringArray>()));
    }
    columns.push(Arc::new(StringArray::from_iter(keys().map(|key| key.currency.as_deref()))));
    for base in summed_bases() {
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(cell, _)| sum_of(&cell.counts, base)))));
    }
    let users = rows.iter().map(|(cell, _)| cell.users.as_ref().map(Users::to_bytes));
    columns.push(Arc::new(users.collect::<BinaryArray>()));
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, versions)| versions.0))));
    columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, versions)| versions.1))));
    Ok(RecordBatch::try_new(ROLLUPS.clone(), columns)?)
}

/// Every sum of a cell with the name of its column, in column order.
pub(crate) fn summed(counts: &Counts) -> impl Iterator<Item = (&'static str, i64)> {
    summed_bases().into_iter().map(|base| (base_column(base), sum_of(counts, base)))
}

fn sum_of(counts: &Counts, base: Base) -> i64 {
    match base {
        Base::Events(kind, class) => counts.of(kind, class) as i64,
        Base::CostMicros => counts.cost_micros,
        Base::RevenueMicros => counts.revenue_micros,
        Base::Users => 0,
    }
}

/// Adds up the rows of equal key. Sorted, so that the result is a function of what goes in, and prunes well.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    texts: HashMap<Arc<str>, ()>,
    rows: HashMap<CellKey, (Cell, Versions)>,
}

impl Merger {
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = Columns(batch);
        let (grain, view) = (columns.texts("grain")?, columns.texts("view")?);
        let (bucket, campaign_id) = (columns.times("bucket")?, columns.texts("campaign_id")?);
        let currency = columns.texts("currency")?;
        let users = columns.column("users")?.as_binary::<i32>();
        let first = columns.numbers("events_version_first")?;
        let last = columns.numbers("events_version_last")?;
        let counts = CountColumns::of(&columns)?;
        let dimensions = ROLLUP_DIMENSIONS
            .map(|dimension| columns.texts(dimension.as_str()).map(|column| (dimension, column)))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        for at in 0..batch.num_rows() {
            let unknown = |what: &str, value: &str| LakeError::Damaged { what: format!("{value:?} is no {what}") };
            let view = View::parse(view.value(at)).ok_or_else(|| unknown("view", view.value(at)))?;
            let grain = Grain::parse(grain.value(at)).ok_or_else(|| unknown("grain", grain.value(at)))?;
            let mut values = [const { None }; 3];
            for (value, own) in values.iter_mut().zip(view.own_dimensions()) {
                let column = dimensions.iter().find(|(dimension, _)| dimension == own).map(|(_, column)| *column);
                *value = column.filter(|column| column.is_valid(at)).map(|column| self.text(column.value(at)));
            }
            let key = CellKey {
                grain,
                view,
                campaign_id: self.text(campaign_id.value(at)),
                bucket_us: bucket.value(at),
                currency: currency.is_valid(at).then(|| self.text(currency.value(at))),
                values,
            };
            let (cell, versions) = self
                .rows
                .entry(key.clone())
                .or_insert_with(|| (Cell { key, counts: Counts::default(), users: None }, (i64::MAX, i64::MIN)));
            cell.counts.merge(&counts.at(at)?);
            *versions = (versions.0.min(first.value(at)), versions.1.max(last.value(at)));
            if users.is_valid(at) {
                let merged = cell.users.get_or_insert_default().merge_bytes(users.value(at));
                merged.map_err(|error| LakeError::Damaged { what: error.to_string() })?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<(Cell, Versions)> {
        let mut rows: Vec<(Cell, Versions)> = self.rows.into_values().collect();
        rows.sort_unstable_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        rows
    }

    /// One copy of each text, however many cells carry it.
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some((known, ())) = self.texts.get_key_value(text) {
            return known.clone();
        }
        let text: Arc<str> = Arc::from(text);
        self.texts.insert(text.clone(), ());
        text
    }
}

/// The number columns of a batch.
struct CountColumns<'a> {
    events: Vec<(Kind, Class, &'a Int64Array)>,
    cost_micros: &'a Int64Array,
    revenue_micros: &'a Int64Array,
}

impl<'a> CountColumns<'a> {
    fn of(columns: &Columns<'a>) -> Result<Self> {
        let mut events = Vec::new();
        for kind in Kind::ALL {
            for class in Class::ALL {
                events.push((kind, class, columns.numbers(events_column(kind, class))?));
            }
        }
        let cost_micros = columns.numbers(base_column(Base::CostMicros))?;
        Ok(Self { events, cost_micros, revenue_micros: columns.numbers(base_column(Base::RevenueMicros))? })
    }

    fn at(&self, row: usize) -> Result<Counts> {
        let mut counts = Counts {
            cost_micros: self.cost_micros.value(row),
            revenue_micros: self.revenue_micros.value(row),
            ..Counts::default()
        };
        for (kind, class, column) in &self.events {
            let count = u64::try_from(column.value(row));
            let count = count.map_err(|_| LakeError::Damaged { what: "a rollup holds a negative count".to_owned() })?;
            counts.events[*kind as usize][*class as usize] = count;
        }
        Ok(counts)
    }
}
