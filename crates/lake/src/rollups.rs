//! Cells as rows of `rollups`, and rows merged into fewer.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use hashbrown::HashMap;
use tally_model::report::Base;
use tally_model::{
    Cell, CellKey, CellRef, Cells, Class, Counter, Counts, Dimension, Grain, Kind, NumberedKey, Texts, View,
    bucket_start_us,
};

use crate::error::{LakeError, Result};
use crate::events::Columns;
use crate::files::FileLayout;
use crate::schema::{ROLLUP_DIMENSIONS, ROLLUP_STATISTICS, ROLLUPS, base_column, events_column, summed_bases};

pub(crate) const ROLLUPS_LAYOUT: FileLayout =
    FileLayout { statistics: &ROLLUP_STATISTICS, distinct: &["users"], rising: &[], looked_up: &[] };

/// The first and the last version of `events` that a row sums up.
pub(crate) type Versions = (i64, i64);

pub(crate) fn encode<'a>(rows: impl Iterator<Item = (CellRef<'a>, Versions)>) -> Result<RecordBatch> {
    let mut columns = CellColumns::default();
    rows.for_each(|(cell, versions)| columns.add(&cell, versions));
    columns.finish()
}

/// The same cut into slots: a grain, a view and a month each, so that a report reads nothing else.
pub(crate) fn encode_slots<'a>(rows: impl Iterator<Item = (CellRef<'a>, Versions)>) -> Result<Vec<RecordBatch>> {
    let mut slots: BTreeMap<(Grain, View, i64), CellColumns> = BTreeMap::new();
    let mut months: HashMap<i64, i64> = HashMap::new();
    for (cell, versions) in rows {
        let day_us = bucket_start_us(Grain::Day, cell.bucket_us);
        let month_us = *months.entry(day_us).or_insert_with(|| bucket_start_us(Grain::Month, day_us));
        slots.entry((cell.grain, cell.view, month_us)).or_default().add(&cell, versions);
    }
    slots.into_values().map(CellColumns::finish).collect()
}

/// Where the values of each view stand among the columns of dimensions.
static VALUE_COLUMNS: LazyLock<[Vec<usize>; View::ALL.len()]> = LazyLock::new(|| {
    let column = |own: &Dimension| ROLLUP_DIMENSIONS.iter().position(|dimension| dimension == own);
    View::ALL.map(|view| view.own_dimensions().iter().filter_map(column).collect())
});

/// Rows in the making, column by column.
#[derive(Default)]
struct CellColumns {
    grain: StringBuilder,
    view: StringBuilder,
    bucket: Vec<i64>,
    campaign_id: StringBuilder,
    dimensions: [StringBuilder; ROLLUP_DIMENSIONS.len()],
    currency: StringBuilder,
    sums: Vec<Vec<i64>>,
    users: BinaryBuilder,
    versions: (Vec<i64>, Vec<i64>),
}

impl CellColumns {
    fn add(&mut self, cell: &CellRef<'_>, versions: Versions) {
        self.grain.append_value(cell.grain.as_str());
        self.view.append_value(cell.view.as_str());
        self.bucket.push(cell.bucket_us);
        self.campaign_id.append_value(cell.campaign_id);
        let mut values = [None; ROLLUP_DIMENSIONS.len()];
        for (column, value) in VALUE_COLUMNS[cell.view as usize].iter().zip(cell.values) {
            values[*column] = value;
        }
        self.dimensions.iter_mut().zip(values).for_each(|(column, value)| column.append_option(value));
        self.currency.append_option(cell.currency);
        self.sums.resize_with(Counter::COUNT + 2, Vec::new);
        let Counts { events, cost_micros, revenue_micros } = &cell.counts;
        let counts = events.as_flattened().iter().map(|count| *count as i64);
        for (column, sum) in self.sums.iter_mut().zip(counts.chain([*cost_micros, *revenue_micros])) {
            column.push(sum);
        }
        self.users.append_option(cell.users.as_deref());
        self.versions.0.push(versions.0);
        self.versions.1.push(versions.1);
    }

    fn finish(mut self) -> Result<RecordBatch> {
        self.sums.resize_with(Counter::COUNT + 2, Vec::new);
        let numbers = |numbers: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(numbers)) };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.grain.finish()),
            Arc::new(self.view.finish()),
            Arc::new(TimestampMicrosecondArray::from(self.bucket).with_timezone("UTC")),
            Arc::new(self.campaign_id.finish()),
        ];
        columns.extend(self.dimensions.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.currency.finish()));
        columns.extend(self.sums.into_iter().map(numbers));
        columns.push(Arc::new(self.users.finish()));
        columns.extend([numbers(self.versions.0), numbers(self.versions.1)]);
        Ok(RecordBatch::try_new(ROLLUPS.clone(), columns)?)
    }
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
        let rows = CellRows::of(batch)?;
        for at in 0..batch.num_rows() {
            let Named { grain, view, bucket_us, campaign_id, currency, values } = rows.named(at)?;
            let key = CellKey {
                grain,
                view,
                campaign_id: self.text(campaign_id),
                bucket_us,
                currency: currency.map(|currency| self.text(currency)),
                values: values.map(|value| value.map(|value| self.text(value))),
            };
            let (cell, versions) = self
                .rows
                .entry(key.clone())
                .or_insert_with(|| (Cell { key, counts: Counts::default(), users: None }, (i64::MAX, i64::MIN)));
            cell.counts.merge(&rows.counts.at(at)?);
            let (first, last) = rows.versions(at);
            *versions = (versions.0.min(first), versions.1.max(last));
            if let Some(users) = rows.users(at) {
                let merged = cell.users.get_or_insert_default().merge_bytes(users);
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

type DecodedSlot = (Grain, View, Cells);

/// Rows as cells by grain and view, with the texts that their numbers stand for.
pub(crate) fn decode(batches: &[RecordBatch]) -> Result<(Texts, Vec<DecodedSlot>)> {
    let mut texts = Texts::default();
    let mut slots: Vec<DecodedSlot> = Vec::new();
    for batch in batches {
        let rows = CellRows::of(batch)?;
        for at in 0..batch.num_rows() {
            let Named { grain, view, bucket_us, campaign_id, currency, values } = rows.named(at)?;
            let known = slots.iter().rposition(|(of_grain, of_view, _)| (*of_grain, *of_view) == (grain, view));
            let slot = known.unwrap_or_else(|| {
                slots.push((grain, view, Cells::default()));
                slots.len() - 1
            });
            let (campaign, currency) = (texts.number(Some(campaign_id)), texts.number(currency));
            let values = values.map(|value| texts.number(value));
            let key = NumberedKey { grain, view, bucket_us, campaign, currency, values };
            let counts = rows.counts.at(at)?;
            let counters = Counter::all().zip(counts.events.as_flattened().iter().copied());
            let money = (counts.cost_micros, counts.revenue_micros);
            slots[slot].2.add(key, counters.filter(|(_, count)| *count > 0), money, rows.users(at).unwrap_or_default());
        }
    }
    Ok((texts, slots))
}

/// The columns of a batch, to be read row by row.
struct CellRows<'a> {
    grain: &'a StringArray,
    view: &'a StringArray,
    bucket: &'a TimestampMicrosecondArray,
    campaign_id: &'a StringArray,
    currency: &'a StringArray,
    dimensions: Vec<&'a StringArray>,
    users: &'a BinaryArray,
    versions: (&'a Int64Array, &'a Int64Array),
    counts: CountColumns<'a>,
}

/// A cell's key as it stands in a row.
struct Named<'a> {
    grain: Grain,
    view: View,
    bucket_us: i64,
    campaign_id: &'a str,
    currency: Option<&'a str>,
    values: [Option<&'a str>; 3],
}

impl<'a> CellRows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let columns = Columns(batch);
        let dimensions = ROLLUP_DIMENSIONS.iter().map(|dimension| columns.texts(dimension.as_str()));
        Ok(Self {
            grain: columns.texts("grain")?,
            view: columns.texts("view")?,
            bucket: columns.times("bucket")?,
            campaign_id: columns.texts("campaign_id")?,
            currency: columns.texts("currency")?,
            dimensions: dimensions.collect::<Result<_>>()?,
            users: columns.column("users")?.as_binary::<i32>(),
            versions: (columns.numbers("events_version_first")?, columns.numbers("events_version_last")?),
            counts: CountColumns::of(&columns)?,
        })
    }

    fn named(&self, at: usize) -> Result<Named<'a>> {
        let unknown = |what: &str, value: &str| LakeError::Damaged { what: format!("{value:?} is no {what}") };
        let (grain, view) = (self.grain.value(at), self.view.value(at));
        let view = View::parse(view).ok_or_else(|| unknown("view", view))?;
        let text = |column: &'a StringArray| column.is_valid(at).then(|| column.value(at));
        let mut values = [None; 3];
        for (value, column) in values.iter_mut().zip(&VALUE_COLUMNS[view as usize]) {
            *value = text(self.dimensions[*column]);
        }
        Ok(Named {
            grain: Grain::parse(grain).ok_or_else(|| unknown("grain", grain))?,
            view,
            bucket_us: self.bucket.value(at),
            campaign_id: self.campaign_id.value(at),
            currency: text(self.currency),
            values,
        })
    }

    fn users(&self, at: usize) -> Option<&'a [u8]> {
        self.users.is_valid(at).then(|| self.users.value(at))
    }

    fn versions(&self, at: usize) -> Versions {
        (self.versions.0.value(at), self.versions.1.value(at))
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
