//! Numbers for texts, the same throughout a statement whatever dictionary a text stands in.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{DictionaryArray, StringArray};
use arrow::datatypes::Int32Type;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::per_dictionary::PerDictionary;

/// The number of no text.
pub(super) const NULL: u32 = 0;

/// What a text costs besides its bytes: its end, and its place in the table at the least that it is filled.
const TEXT_BYTES: usize = 24;

/// The texts of one column, numbered from 1 in the order that they were met.
#[derive(Debug)]
pub(super) struct Numbers {
    known: Mutex<Known>,
    of_dictionaries: PerDictionary<Vec<u32>>,
}

#[derive(Debug)]
struct Known {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    texts: String,
    ends: Vec<usize>,
    /// Towards the statement's limit.
    memory: MemoryReservation,
}

impl Numbers {
    pub fn new(pool: &Arc<dyn MemoryPool>) -> Self {
        let known = Known {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            texts: String::new(),
            ends: Vec::new(),
            memory: MemoryConsumer::new("texts of groups").register(pool),
        };
        Self { known: Mutex::new(known), of_dictionaries: PerDictionary::default() }
    }

    /// The number of each text of a dictionary, in their order.
    pub fn of(&self, rows: &DictionaryArray<Int32Type>) -> Result<Arc<Vec<u32>>> {
        self.of_dictionaries.get_or_make(rows, |texts| self.number(texts))
    }

    fn number(&self, texts: &StringArray) -> Result<Vec<u32>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        texts.iter().map(|text| text.map_or(Ok(NULL), |text| known.number(text))).collect()
    }

    /// The texts of numbers, in their order.
    pub fn each_text(&self, numbers: impl Iterator<Item = u32>, mut each: impl FnMut(Option<&str>)) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.for_each(|number| each(known.text(number)));
    }
}

impl Known {
    fn number(&mut self, text: &str) -> Result<u32> {
        let hash = self.hasher.hash_one(text);
        let (texts, ends, hasher) = (&self.texts, &self.ends, &self.hasher);
        if let Some(found) = self.index.find(hash, |number| text_of(texts, ends, *number) == Some(text)) {
            return Ok(*found);
        }
        self.memory.try_grow(text.len() + TEXT_BYTES)?;
        self.texts.push_str(text);
        self.ends.push(self.texts.len());
        let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let (texts, ends) = (&self.texts, &self.ends);
        let rehash = |number: &u32| hasher.hash_one(text_of(texts, ends, *number).unwrap_or_default());
        self.index.insert_unique(hash, number, rehash);
        Ok(number)
    }

    fn text(&self, number: u32) -> Option<&str> {
        text_of(&self.texts, &self.ends, number)
    }
}

fn text_of<'a>(texts: &'a str, ends: &[usize], number: u32) -> Option<&'a str> {
    let place = usize::try_from(number).ok()?.checked_sub(1)?;
    let start = place.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
    texts.get(start..*ends.get(place)?)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};

    use super::*;

    fn dictionary(rows: &[&str]) -> DictionaryArray<Int32Type> {
        rows.iter().copied().collect()
    }

    #[test]
    fn a_text_has_the_same_number_in_every_dictionary() {
        let numbers = Numbers::new(&(Arc::new(UnboundedMemoryPool::default()) as Arc<dyn MemoryPool>));
        assert_eq!(*numbers.of(&dictionary(&["a", "", "a"])).unwrap(), [1, 2]);
        assert_eq!(*numbers.of(&dictionary(&["é", "", "a"])).unwrap(), [3, 2, 1]);
        let mut texts = Vec::new();
        numbers.each_text([3, 0, 2, 1].into_iter(), |text| texts.push(text.map(str::to_owned)));
        assert_eq!(texts, [Some("é".to_owned()), None, Some(String::new()), Some("a".to_owned())]);
    }

    #[test]
    fn texts_count_towards_the_memory_of_a_statement() {
        let numbers = Numbers::new(&(Arc::new(GreedyMemoryPool::new(40)) as Arc<dyn MemoryPool>));
        assert_eq!(*numbers.of(&dictionary(&["short", "short"])).unwrap(), [1]);
        assert!(numbers.of(&dictionary(&["another"])).is_err());
    }
}
