//! Cells as rows of `rollups`, and rows merged into fewer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use hashbrown::HashMap;
use tally_model::report::Base;
use tally_model::{
    CellRef, Cells, Class, Counter, Counts, Dimension, Grain, Kind, NumberedKey, SketchError, TextNumber, Texts, Users,
    View, bucket_start_us,
};

use crate::error::{LakeError, Result};
use crate::events::Columns;
use crate::layout::{FileLayout, ZSTD_LEVEL};
use crate::new_file::PIECE_ROWS;
use crate::schema::{ROLLUP_DIMENSIONS, ROLLUP_STATISTICS, ROLLUPS, base_column, events_column, summed_bases};

pub(crate) const ROLLUPS_LAYOUT: FileLayout = FileLayout {
    zstd_level: ZSTD_LEVEL,
    statistics: &ROLLUP_STATISTICS,
    few_values: &[
        "grain",
        "view",
        "variant",
        "country",
        "region",
        "age_group",
        "gender",
        "device",
        "os",
        "browser",
        "currency",
        "duplicate_impressions",
        "invalid_givt_impressions",
        "invalid_sivt_impressions",
        "quarantined_impressions",
        "clicks",
        "duplicate_clicks",
        "invalid_givt_clicks",
        "invalid_sivt_clicks",
        "quarantined_clicks",
        "conversions",
        "duplicate_conversions",
        "invalid_givt_conversions",
        "invalid_sivt_conversions",
        "quarantined_conversions",
    ],
    often_read: &[],
    distinct: &["users"],
    rising: &[],
    looked_up: &[],
};

/// The first and the last version of `events` that a row sums up.
pub(crate) type Versions = (i64, i64);

pub(crate) fn encode<'a>(rows: impl Iterator<Item = (CellRef<'a>, Versions)>) -> Result<Vec<RecordBatch>> {
    let mut columns = CellColumns::default();
    rows.for_each(|(cell, versions)| columns.add(&cell, versions));
    columns.finish()
}

/// The same cut into slots: a grain, a view and a month each, so that a report reads nothing else.
pub(crate) fn encode_slots<'a>(rows: impl Iterator<Item = (CellRef<'a>, Versions)>) -> Result<Vec<Vec<RecordBatch>>> {
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

/// Rows in the making, column by column, and piece by piece.
#[derive(Default)]
struct CellColumns {
    closed: Vec<Vec<ArrayRef>>,
    grain: StringBuilder,
    view: StringBuilder,
    bucket: Vec<i64>,
    campaign_id: StringBuilder,
    dimensions: [StringBuilder; ROLLUP_DIMENSIONS.len()],
    currency: StringBuilder,
    sums: [Vec<i64>; Counter::COUNT + 2],
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
        let Counts { events, cost_micros, revenue_micros } = &cell.counts;
        let counts = events.as_flattened().iter().map(|count| *count as i64);
        for (column, sum) in self.sums.iter_mut().zip(counts.chain([*cost_micros, *revenue_micros])) {
            column.push(sum);
        }
        self.users.append_option(cell.users.as_deref());
        self.versions.0.push(versions.0);
        self.versions.1.push(versions.1);
        if self.bucket.len() == PIECE_ROWS {
            self.close();
        }
    }

    fn close(&mut self) {
        fn numbers(numbers: &mut Vec<i64>) -> ArrayRef {
            let room = Vec::with_capacity(numbers.len());
            Arc::new(Int64Array::from(std::mem::replace(numbers, room)))
        }
        let buckets = std::mem::take(&mut self.bucket);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.grain.finish()),
            Arc::new(self.view.finish()),
            Arc::new(TimestampMicrosecondArray::from(buckets).with_timezone("UTC")),
            Arc::new(self.campaign_id.finish()),
        ];
        columns.extend(self.dimensions.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns.push(Arc::new(self.currency.finish()));
        columns.extend(self.sums.iter_mut().map(numbers));
        columns.push(Arc::new(self.users.finish()));
        columns.extend([numbers(&mut self.versions.0), numbers(&mut self.versions.1)]);
        self.closed.push(columns);
    }

    fn finish(mut self) -> Result<Vec<RecordBatch>> {
        if !self.bucket.is_empty() {
            self.close();
        }
        let pieces = self.closed.into_iter();
        pieces.map(|columns| Ok(RecordBatch::try_new(ROLLUPS.clone(), columns)?)).collect()
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
pub(crate) fn merge(batches: &[RecordBatch]) -> Result<(Cells, Vec<Versions>)> {
    let sources: Vec<CellRows<'_>> = batches.iter().map(CellRows::of).collect::<Result<_>>()?;
    let mut numbers = Numbers::default();
    let mut places = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (source, batch) in batches.iter().enumerate() {
        for at in 0..batch.num_rows() {
            places.push((sources[source].key(at, &mut numbers)?, source, at));
        }
    }
    let (texts, sorted) = numbers.texts.sorted();
    for (key, ..) in &mut places {
        for number in [&mut key.campaign, &mut key.currency].into_iter().chain(&mut key.values) {
            *number = sorted[*number as usize];
        }
    }
    places.sort_unstable();

    let (mut cells, mut versions) = (Cells::default(), Vec::new());
    for equal in places.chunk_by(|(before, ..), (after, ..)| before == after) {
        let mut counts = Counts::default();
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        let mut users = Sketched::None;
        for (_, source, at) in equal {
            let rows = &sources[*source];
            counts.merge(&rows.counts.at(*at)?);
            first = first.min(rows.versions.0.value(*at));
            last = last.max(rows.versions.1.value(*at));
            users.merge(rows.users(*at))?;
        }
        versions.push((first, last));
        add_counts(&mut cells, equal[0].0, &counts, &users.to_bytes());
    }
    Ok((cells.with_texts(&Arc::new(texts)), versions))
}

/// The sketch of a cell's users in the making. Most cells have one, which is stored as it was.
enum Sketched<'a> {
    None,
    One(&'a [u8]),
    Many(Box<Users>),
}

impl<'a> Sketched<'a> {
    fn merge(&mut self, sketch: Option<&'a [u8]>) -> Result<()> {
        let Some(sketch) = sketch else { return Ok(()) };
        let damaged = |error: SketchError| LakeError::Damaged { what: error.to_string() };
        match self {
            Self::None => *self = Self::One(sketch),
            Self::One(first) => {
                let mut users = Users::default();
                users.merge_bytes(first).and_then(|()| users.merge_bytes(sketch)).map_err(damaged)?;
                *self = Self::Many(Box::new(users));
            }
            Self::Many(users) => users.merge_bytes(sketch).map_err(damaged)?,
        }
        Ok(())
    }

    fn to_bytes(&self) -> Cow<'a, [u8]> {
        match self {
            Self::None => Cow::Borrowed(&[]),
            Self::One(sketch) => Cow::Borrowed(sketch),
            Self::Many(users) => Cow::Owned(users.to_bytes()),
        }
    }
}

fn add_counts(cells: &mut Cells, key: NumberedKey, counts: &Counts, sketch: &[u8]) {
    let counters = Counter::all().zip(counts.events.as_flattened().iter().copied());
    let money = (counts.cost_micros, counts.revenue_micros);
    cells.add(key, counters.filter(|(_, count)| *count > 0), money, sketch);
}

/// Rows as cells, in their order.
pub(crate) fn decode(batches: &[RecordBatch]) -> Result<Cells> {
    decode_rows(batches, batches.iter().map(CellRows::of).collect::<Result<_>>()?)
}

/// The same without sketches of users, whose column need not be there.
pub(crate) fn decode_without_users(batches: &[RecordBatch]) -> Result<Cells> {
    decode_rows(batches, batches.iter().map(CellRows::without_users).collect::<Result<_>>()?)
}

fn decode_rows<'a>(batches: &'a [RecordBatch], sources: Vec<CellRows<'a>>) -> Result<Cells> {
    let (mut numbers, mut cells) = (Numbers::default(), Cells::default());
    for (rows, batch) in sources.iter().zip(batches) {
        for at in 0..batch.num_rows() {
            let key = rows.key(at, &mut numbers)?;
            add_counts(&mut cells, key, &rows.counts.at(at)?, rows.users(at).unwrap_or_default());
        }
    }
    Ok(cells.with_texts(&Arc::new(numbers.texts)))
}

/// Numbers texts that often are those of the row before.
#[derive(Default)]
struct Numbers<'a> {
    texts: Texts,
    before: [(Option<&'a str>, TextNumber); 5],
}

impl<'a> Numbers<'a> {
    fn number(&mut self, column: usize, text: Option<&'a str>) -> TextNumber {
        let (before, number) = &mut self.before[column];
        if *before != text {
            (*before, *number) = (text, self.texts.number(text));
        }
        *number
    }
}

/// The columns of a batch, to be read row by row.
struct CellRows<'a> {
    grain: &'a StringArray,
    view: &'a StringArray,
    bucket: &'a TimestampMicrosecondArray,
    campaign_id: &'a StringArray,
    currency: &'a StringArray,
    dimensions: Vec<&'a StringArray>,
    users: Option<&'a BinaryArray>,
    versions: (&'a Int64Array, &'a Int64Array),
    counts: CountColumns<'a>,
}

impl<'a> CellRows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let users = Columns(batch).column(base_column(Base::Users))?.as_binary::<i32>();
        Ok(Self { users: Some(users), ..Self::without_users(batch)? })
    }

    fn without_users(batch: &'a RecordBatch) -> Result<Self> {
        let columns = Columns(batch);
        let dimensions = ROLLUP_DIMENSIONS.iter().map(|dimension| columns.texts(dimension.as_str()));
        Ok(Self {
            grain: columns.texts("grain")?,
            view: columns.texts("view")?,
            bucket: columns.times("bucket")?,
            campaign_id: columns.texts("campaign_id")?,
            currency: columns.texts("currency")?,
            dimensions: dimensions.collect::<Result<_>>()?,
            users: None,
            versions: (columns.numbers("events_version_first")?, columns.numbers("events_version_last")?),
            counts: CountColumns::of(&columns)?,
        })
    }

    fn key(&self, at: usize, numbers: &mut Numbers<'a>) -> Result<NumberedKey> {
        let unknown = |what: &str, value: &str| LakeError::Damaged { what: format!("{value:?} is no {what}") };
        let (grain, view) = (self.grain.value(at), self.view.value(at));
        let view = View::parse(view).ok_or_else(|| unknown("view", view))?;
        let text = |column: &'a StringArray| column.is_valid(at).then(|| column.value(at));
        let mut values = [0; 3];
        for (place, column) in VALUE_COLUMNS[view as usize].iter().enumerate() {
            values[place] = numbers.number(2 + place, text(self.dimensions[*column]));
        }
        Ok(NumberedKey {
            grain: Grain::parse(grain).ok_or_else(|| unknown("grain", grain))?,
            view,
            campaign: numbers.number(0, Some(self.campaign_id.value(at))),
            bucket_us: self.bucket.value(at),
            currency: numbers.number(1, text(self.currency)),
            values,
        })
    }

    fn users(&self, at: usize) -> Option<&'a [u8]> {
        self.users.filter(|users| users.is_valid(at)).map(|users| users.value(at))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::{Cell, CellKey};

    /// A cell of a few campaigns, ads and hours, so that many are equal; with some of ten users.
    fn cell() -> impl Strategy<Value = Cell> {
        let key = ("[a-c]", 0..3_i64, prop::option::of("EUR|USD"), prop::option::of("[x-z]"));
        (key, 0..5_u64, -3..3_i64, prop::collection::vec(0..10_u64, 0..4)).prop_map(
            |((campaign, hour, currency, ad), clicks, cost_micros, users)| {
                let text = |text: String| Arc::from(text);
                let key = CellKey {
                    grain: Grain::Hour,
                    view: View::Campaign,
                    campaign_id: text(campaign),
                    bucket_us: hour * 3_600_000_000,
                    currency: currency.map(text),
                    values: [ad.map(text), None, None],
                };
                let mut counts = Counts { cost_micros, ..Counts::default() };
                counts.events[Kind::Click as usize][Class::Counted as usize] = clicks;
                let mut of_users = Users::default();
                users.iter().for_each(|user| of_users.add(*user));
                Cell { key, counts, users: (!users.is_empty()).then_some(of_users) }
            },
        )
    }

    proptest! {
        #[test]
        fn merged_cells_are_the_sums_of_equal_ones_in_the_order_of_their_keys(
            files in prop::collection::vec(prop::collection::vec(cell(), 1..20), 1..5),
        ) {
            let mut batches = Vec::new();
            let mut expected: BTreeMap<CellKey, (Counts, Option<Users>, Versions)> = BTreeMap::new();
            for (version, cells) in (0..).zip(&files) {
                batches.extend(encode(cells.iter().map(|cell| (cell.borrowed(), (version, version)))).unwrap());
                for Cell { key, counts, users } in cells {
                    let sum = expected.entry(key.clone()).or_insert((Counts::default(), None, (version, version)));
                    sum.0.merge(counts);
                    if let Some(users) = users {
                        sum.1.get_or_insert_default().merge(users);
                    }
                    sum.2.1 = version;
                }
            }
            let (cells, versions) = merge(&batches).unwrap();
            prop_assert_eq!(cells.len(), expected.len());
            for ((cell, versions), (key, (counts, users, of_versions))) in cells.iter().zip(versions).zip(expected) {
                prop_assert_eq!(cell.key(), key);
                prop_assert_eq!(cell.counts, counts);
                prop_assert_eq!(versions, of_versions);
                let estimate = |users: Option<Users>| users.map(|users| users.estimate().round());
                prop_assert_eq!(estimate(cell.users()), estimate(users));
            }
        }
    }
}
