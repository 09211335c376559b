//! What is made of a dictionary is made once, for all batches of its row group.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;

/// Dictionaries in use at once are one a thread; a page of one has a megabyte at most.
const KEPT_MAX: usize = 16;

/// How texts that repeat are held.
pub(super) fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A column that is known to be a dictionary, of one batch.
pub(super) fn dictionary_of(column: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<DictionaryArray<Int32Type>> {
    let array = column.evaluate(batch)?.into_array(batch.num_rows())?;
    let dictionary = array.as_dictionary_opt::<Int32Type>().cloned();
    dictionary.ok_or_else(|| DataFusionError::Internal(format!("{column} is no dictionary but {}", array.data_type())))
}

/// What was made of the dictionaries that were seen last.
pub(super) struct PerDictionary<T>(Mutex<VecDeque<(ArrayRef, Arc<T>)>>);

impl<T> Default for PerDictionary<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for PerDictionary<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerDictionary")
    }
}

impl<T> PerDictionary<T> {
    pub fn get_or_make(
        &self,
        dictionary: &DictionaryArray<Int32Type>,
        make: impl FnOnce(&StringArray) -> Result<T>,
    ) -> Result<Arc<T>> {
        let texts = dictionary.values();
        if let Some(made) = self.get(texts) {
            return Ok(made);
        }
        let strings = texts.as_string_opt::<i32>();
        let strings = strings.ok_or_else(|| DataFusionError::Internal("a dictionary of no texts".to_owned()))?;
        let made = Arc::new(make(strings)?);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.truncate(KEPT_MAX - 1);
        kept.push_front((texts.clone(), made.clone()));
        Ok(made)
    }

    fn get(&self, texts: &ArrayRef) -> Option<Arc<T>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(of, _)| is_same(of, texts)).map(|(_, made)| made.clone())
    }
}

/// Whether two arrays are the same memory. What is kept is not given back, so nothing else can have come to stand there.
fn is_same(a: &ArrayRef, b: &ArrayRef) -> bool {
    let place = |array: &ArrayRef| {
        let texts = array.as_string_opt::<i32>()?;
        Some((texts.len(), texts.value_offsets().as_ptr(), texts.value_data().as_ptr()))
    };
    Arc::ptr_eq(a, b) || place(a).is_some_and(|place_of_a| place(b) == Some(place_of_a))
}
