//! What is kept for each group: the engine's own accumulators, and two of ours for what most statements ask, rows and money.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int64Type;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::aggregates::AggregateOutputMode;

use super::tuples::Places;
use crate::sql::functions::MONEY;

/// The groups of the rows of a batch, and which of the rows count.
pub(super) struct Rows<'a> {
    pub places: &'a Places,
    pub rows: usize,
    /// How many groups there are by now.
    pub groups: usize,
    /// Where it is the same for all, the place of each row for who wants it so, made once.
    pub of_same: &'a OnceLock<Vec<usize>>,
    /// Without nulls: where it is not known whether a row counts, it does not.
    pub filter: Option<&'a BooleanArray>,
}

impl Rows<'_> {
    fn each(&self) -> &[usize] {
        match self.places {
            Places::Same(place) => self.of_same.get_or_init(|| vec![*place; self.rows]),
            Places::Each(places) => places,
        }
    }
}

pub(super) enum Accumulator {
    Engines(Box<dyn GroupsAccumulator>),
    Count(Counts),
    Micros(SumsOfMicros),
}

impl Accumulator {
    pub fn add(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        match self {
            Accumulator::Engines(of) => of.update_batch(values, rows.each(), rows.filter, rows.groups),
            Accumulator::Count(counts) => {
                counts.add(rows);
                Ok(())
            }
            Accumulator::Micros(sums) => sums.add(values, rows),
        }
    }

    pub fn finish(self, mode: AggregateOutputMode) -> Result<Vec<ArrayRef>> {
        match (self, mode) {
            (Accumulator::Engines(mut of), AggregateOutputMode::Partial) => of.state(EmitTo::All),
            (Accumulator::Engines(mut of), AggregateOutputMode::Final) => Ok(vec![of.evaluate(EmitTo::All)?]),
            // Of these, what is known of a part is of the form of the whole.
            (Accumulator::Count(counts), _) => Ok(vec![Arc::new(Int64Array::from(counts.counts))]),
            (Accumulator::Micros(sums), _) => Ok(vec![Arc::new(sums.finish())]),
        }
    }

    pub fn size(&self) -> usize {
        match self {
            Accumulator::Engines(of) => of.size(),
            Accumulator::Count(Counts { counts }) => counts.capacity() * size_of::<i64>(),
            Accumulator::Micros(SumsOfMicros { sums, has_any }) => {
                sums.capacity() * size_of::<i128>() + has_any.capacity()
            }
        }
    }
}

/// `count(*)` by group.
#[derive(Debug, Default)]
pub(super) struct Counts {
    counts: Vec<i64>,
}

impl Counts {
    fn add(&mut self, rows: &Rows<'_>) {
        self.counts.resize(rows.groups, 0);
        match (rows.places, rows.filter) {
            (Places::Same(place), None) => self.counts[*place] += rows.rows as i64,
            (Places::Same(place), Some(filter)) => self.counts[*place] += filter.values().count_set_bits() as i64,
            (Places::Each(places), None) => places.iter().for_each(|place| self.counts[*place] += 1),
            (Places::Each(places), Some(filter)) => {
                let rows = places.iter().zip(filter.values());
                rows.for_each(|(place, counts)| self.counts[*place] += i64::from(counts));
            }
        }
    }
}

/// `sum` of money by group, of micros.
#[derive(Debug, Default)]
pub(super) struct SumsOfMicros {
    sums: Vec<i128>,
    /// Whether a group has any number at all. A sum of none is null.
    has_any: Vec<bool>,
}

impl SumsOfMicros {
    fn add(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<()> {
        let micros = values.first().and_then(|values| values.as_primitive_opt::<Int64Type>());
        let micros = micros.ok_or_else(|| DataFusionError::Internal("micros are not whole numbers".to_owned()))?;
        self.sums.resize(rows.groups, 0);
        self.has_any.resize(rows.groups, false);
        let has_all = rows.filter.is_none() && micros.null_count() == 0;
        let is_wanted = |row: usize| rows.filter.is_none_or(|filter| filter.value(row)) && micros.is_valid(row);
        let values = micros.values();
        match rows.places {
            // Its sum need not go through memory for each row.
            Places::Same(place) if has_all && !values.is_empty() => {
                self.sums[*place] += values.iter().map(|micros| i128::from(*micros)).sum::<i128>();
                self.has_any[*place] = true;
            }
            Places::Same(place) => {
                for (_, micros) in values.iter().enumerate().filter(|(row, _)| is_wanted(*row)) {
                    self.add_one(*place, *micros);
                }
            }
            Places::Each(places) => {
                for (row, (place, micros)) in places.iter().zip(values).enumerate() {
                    if has_all || is_wanted(row) {
                        self.add_one(*place, *micros);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_one(&mut self, place: usize, micros: i64) {
        self.sums[place] += i128::from(micros);
        self.has_any[place] = true;
    }

    fn finish(self) -> Decimal128Array {
        let mut is_valid = BooleanBufferBuilder::new(self.has_any.len());
        is_valid.append_slice(&self.has_any);
        Decimal128Array::new(self.sums.into(), Some(NullBuffer::new(is_valid.finish()))).with_data_type(MONEY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Batches of one group and of several, with and without conditions and values that are not there.
        #[test]
        fn each_group_has_the_rows_that_are_wanted(
            batches in prop::collection::vec(
                (
                    prop::collection::vec((0..4_usize, prop::option::weighted(0.9, any::<i64>()), any::<bool>()), 0..50),
                    any::<(bool, bool, bool)>(),
                ),
                1..6,
            ),
        ) {
            const GROUPS: usize = 5;
            let (mut sums, mut counts) = (Accumulator::Micros(SumsOfMicros::default()), Accumulator::Count(Counts::default()));
            let (mut expected_sums, mut expected_counts) = ([None::<i128>; GROUPS], [0_i64; GROUPS]);
            for (rows, (is_one_group, has_nulls, has_filter)) in batches {
                let each: Vec<usize> = rows.iter().map(|row| if is_one_group { 2 } else { row.0 }).collect();
                let places = if is_one_group { Places::Same(2) } else { Places::Each(each.clone()) };
                let values = rows.iter().map(|row| if has_nulls { row.1 } else { Some(row.1.unwrap_or(7)) });
                let values: Int64Array = values.collect();
                let filter: BooleanArray = rows.iter().map(|row| Some(row.2)).collect();
                for (row, place) in each.iter().enumerate() {
                    if has_filter && !filter.value(row) {
                        continue;
                    }
                    expected_counts[*place] += 1;
                    if values.is_valid(row) {
                        *expected_sums[*place].get_or_insert(0) += i128::from(values.value(row));
                    }
                }
                let filter = has_filter.then_some(&filter);
                let rows = Rows { places: &places, rows: rows.len(), groups: GROUPS, of_same: &OnceLock::new(), filter };
                prop_assert_eq!(rows.each(), &each);
                let values: ArrayRef = Arc::new(values);
                sums.add(&[values], &rows).unwrap();
                counts.add(&[], &rows).unwrap();
            }
            let (sums, counts) =
                (sums.finish(AggregateOutputMode::Partial).unwrap(), counts.finish(AggregateOutputMode::Final).unwrap());
            let expected: Decimal128Array = expected_sums.into_iter().collect();
            prop_assert_eq!(sums[0].as_primitive::<arrow::datatypes::Decimal128Type>(), &expected.with_data_type(MONEY));
            prop_assert_eq!(counts[0].as_primitive::<Int64Type>(), &Int64Array::from(expected_counts.to_vec()));
        }
    }
}
