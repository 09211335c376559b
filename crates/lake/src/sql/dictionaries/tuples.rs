//! Numbers for the combinations of texts that groups are told apart by.
//!
//! The columns of a batch have few texts each, and what they make together has a place in a table: a row costs a multiplication and
//! an addition for each column, and one look into the table.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::numbers::NULL;

/// Combinations that a table is made for: four bytes each. Columns that could make more are looked up row by row.
const PLACES_MAX: usize = 1 << 18;
/// Tables in use at once are one a thread.
const TABLES_MAX: usize = 16;
/// What a combination costs besides its numbers.
const TUPLE_BYTES: usize = 16;
/// In a table, of a combination that was not met yet.
const UNKNOWN: u32 = u32::MAX;

/// One column of a batch.
pub(super) enum Codes<'a> {
    /// For each row the place of its text, and the number that each place has. A row without a text has the place after all others.
    Dictionary { places: Vec<u32>, numbers: Arc<Vec<u32>> },
    /// Each row by its number.
    Numbers(&'a [u32]),
    /// The same number in all rows.
    Same(u32),
}

/// The groups of the rows of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// One for all rows, as where files are sorted by what is asked for.
    Same(usize),
    Each(Vec<usize>),
}

impl Places {
    /// The group of each of so many rows.
    pub fn into_each(self, rows: usize) -> Vec<usize> {
        match self {
            Places::Same(place) => vec![place; rows],
            Places::Each(places) => places,
        }
    }
}

/// The combinations that one aggregate has met, numbered in the order that it met them.
#[derive(Debug)]
pub(super) struct Tuples {
    width: usize,
    known: Mutex<Known>,
    tables: Mutex<VecDeque<Arc<Table>>>,
}

#[derive(Debug)]
struct Known {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The numbers of one combination after the other.
    numbers: Vec<u32>,
    /// Towards the statement's limit.
    memory: MemoryReservation,
}

/// The numbers of the combinations of some dictionaries.
#[derive(Debug)]
struct Table {
    of: Vec<Axis>,
    tuples: Mutex<Vec<u32>>,
}

#[derive(Debug, Clone)]
enum Axis {
    Dictionary(Arc<Vec<u32>>),
    Same(u32),
}

impl Axis {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Axis::Dictionary(a), Axis::Dictionary(b)) => Arc::ptr_eq(a, b),
            (Axis::Same(a), Axis::Same(b)) => a == b,
            _ => false,
        }
    }
}

impl Codes<'_> {
    fn axis(&self) -> Option<Axis> {
        match self {
            Codes::Dictionary { numbers, .. } => Some(Axis::Dictionary(numbers.clone())),
            Codes::Same(number) => Some(Axis::Same(*number)),
            Codes::Numbers(_) => None,
        }
    }

    /// How many places a table needs for it.
    fn places(&self) -> usize {
        match self {
            Codes::Dictionary { numbers, .. } => numbers.len() + 1,
            Codes::Same(_) => 1,
            Codes::Numbers(_) => usize::MAX,
        }
    }

    fn number(&self, row: usize) -> u32 {
        match self {
            Codes::Dictionary { places, numbers } => numbers.get(places[row] as usize).copied().unwrap_or(NULL),
            Codes::Numbers(numbers) => numbers[row],
            Codes::Same(number) => *number,
        }
    }
}

impl Tuples {
    pub fn new(width: usize, pool: &Arc<dyn MemoryPool>) -> Self {
        let known = Known {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            numbers: Vec::new(),
            memory: MemoryConsumer::new("groups of texts").register(pool),
        };
        Self { width, known: Mutex::new(known), tables: Mutex::default() }
    }

    /// The number of each row's combination, and how many there are by now.
    pub fn number(&self, columns: &[Codes<'_>], rows: usize) -> Result<(Places, usize)> {
        let of: Option<Vec<Axis>> = columns.iter().map(Codes::axis).collect();
        let places = columns.iter().try_fold(1_usize, |places, column| places.checked_mul(column.places()));
        let numbers = match (of, places) {
            (_, Some(1)) if rows > 0 => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                Places::Same(known.number_of_row(columns, 0, &mut vec![NULL; self.width])? as usize)
            }
            (Some(of), Some(places)) if places <= PLACES_MAX => self.by_table(of, places, columns, rows)?,
            _ => {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                let mut tuple = vec![NULL; self.width];
                let number = |row| known.number_of_row(columns, row, &mut tuple).map(|number| number as usize);
                Places::Each((0..rows).map(number).collect::<Result<_>>()?)
            }
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((numbers, known.numbers.len() / self.width))
    }

    fn by_table(&self, of: Vec<Axis>, places: usize, columns: &[Codes<'_>], rows: usize) -> Result<Places> {
        let mut at = vec![0_u32; rows];
        for column in columns {
            if let Codes::Dictionary { places, numbers } = column {
                let radix = numbers.len() as u32 + 1;
                at.iter_mut().zip(places).for_each(|(at, place)| *at = *at * radix + place);
            }
        }
        let table = self.table(of, places);
        let mut tuples = table.tuples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tuple = vec![NULL; self.width];
        let mut number = |row: usize, at: u32| -> Result<usize> {
            let found = &mut tuples[at as usize];
            if *found == UNKNOWN {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                *found = known.number_of_row(columns, row, &mut tuple)?;
            }
            Ok(*found as usize)
        };
        match at.first() {
            Some(first) if are_all(&at, *first) => Ok(Places::Same(number(0, *first)?)),
            _ => Ok(Places::Each(at.iter().enumerate().map(|(row, at)| number(row, *at)).collect::<Result<_>>()?)),
        }
    }

    fn table(&self, of: Vec<Axis>, places: usize) -> Arc<Table> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of = |table: &&Arc<Table>| table.of.iter().zip(&of).all(|(a, b)| a.is(b));
        if let Some(table) = tables.iter().find(is_of) {
            return table.clone();
        }
        let table = Arc::new(Table { of, tuples: Mutex::new(vec![UNKNOWN; places]) });
        tables.truncate(TABLES_MAX - 1);
        tables.push_front(table.clone());
        table
    }

    /// One number of each of the combinations that are named by theirs.
    pub fn part(&self, tuples: &[u32], part: usize) -> Vec<u32> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |tuple: &u32| known.numbers.get(*tuple as usize * self.width + part).copied().unwrap_or(NULL);
        tuples.iter().map(number).collect()
    }
}

/// Without a branch for each, so that many are compared at a time.
fn are_all(numbers: &[u32], number: u32) -> bool {
    numbers.iter().fold(0, |differs, other| differs | (other ^ number)) == 0
}

impl Known {
    fn number_of_row(&mut self, columns: &[Codes<'_>], row: usize, tuple: &mut [u32]) -> Result<u32> {
        tuple.iter_mut().zip(columns).for_each(|(number, column)| *number = column.number(row));
        let width = tuple.len();
        let (numbers, hasher) = (&self.numbers, &self.hasher);
        let of = |at: u32| &numbers[at as usize * width..][..width];
        let hash = hasher.hash_one(&*tuple);
        if let Some(found) = self.index.find(hash, |at| of(*at) == tuple) {
            return Ok(*found);
        }
        self.memory.try_grow(size_of_val(tuple) + TUPLE_BYTES)?;
        let new = (self.numbers.len() / width) as u32;
        self.numbers.extend_from_slice(tuple);
        let (numbers, hasher) = (&self.numbers, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one(&numbers[*at as usize * width..][..width]);
        self.index.insert_unique(hash, new, rehash);
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};
    use proptest::prelude::*;

    use super::*;

    fn pool() -> Arc<dyn MemoryPool> {
        Arc::new(UnboundedMemoryPool::default())
    }

    proptest! {
        /// Whatever the batches hold, equal rows have equal numbers, others have not, and a number gives its row back.
        #[test]
        fn a_number_stands_for_one_combination(
            batches in prop::collection::vec(
                (prop::collection::vec(1..9_u32, 1..5), 0..3_u32, prop::collection::vec((0..9_u32, 0..9_u32), 1..30)),
                1..6,
            ),
        ) {
            let tuples = Tuples::new(3, &pool());
            let mut rows_of: Vec<(usize, [u32; 3])> = Vec::new();
            for (texts, same, rows) in batches {
                let numbers = Arc::new(texts);
                let places: Vec<u32> = rows.iter().map(|(place, _)| place % (numbers.len() as u32 + 1)).collect();
                let each: Vec<u32> = rows.iter().map(|(_, number)| *number).collect();
                // By table where each column is a dictionary or one value, and row by row otherwise.
                let dictionary = || Codes::Dictionary { places: places.clone(), numbers: numbers.clone() };
                for columns in [
                    [dictionary(), dictionary(), Codes::Same(same)],
                    [dictionary(), dictionary(), Codes::Numbers(&each)],
                    [Codes::Same(numbers[0]), Codes::Same(same), Codes::Same(same)],
                ] {
                    let row = |at: usize| [columns[0].number(at), columns[1].number(at), columns[2].number(at)];
                    let (found, known) = tuples.number(&columns, rows.len()).unwrap();
                    let found = found.into_each(rows.len());
                    prop_assert!(found.iter().all(|number| *number < known));
                    rows_of.extend(found.into_iter().enumerate().map(|(at, number)| (number, row(at))));
                }
            }
            for (number, row) in &rows_of {
                let back: Vec<u32> = (0..3).map(|part| tuples.part(&[*number as u32], part)[0]).collect();
                prop_assert_eq!(&back[..], &row[..]);
                prop_assert!(rows_of.iter().all(|(other, of)| (other == number) == (of == row)));
            }
        }
    }

    #[test]
    fn combinations_count_towards_the_memory_of_a_statement() {
        let tuples = Tuples::new(1, &(Arc::new(GreedyMemoryPool::new(50)) as Arc<dyn MemoryPool>));
        assert_eq!(tuples.number(&[Codes::Numbers(&[7, 8, 7])], 3).unwrap(), (Places::Each(vec![0, 1, 0]), 2));
        assert!(tuples.number(&[Codes::Numbers(&[9])], 1).is_err());
    }
}
