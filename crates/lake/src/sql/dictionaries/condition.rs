//! Conditions on one text column, decided once for each text instead of for each row.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, RecordBatch, StringArray, StringViewBuilder,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::as_text;
use super::per_dictionary::{PerDictionary, dictionary_of};

/// What the engine makes of `LIKE '%word%'` and `LIKE 'word%'`.
const FUNCTIONS: [&str; 2] = ["contains", "starts_with"];

/// The columns that conditions within an expression are about, each condition about one.
pub(super) fn columns(expression: &Arc<dyn PhysicalExpr>) -> BTreeSet<usize> {
    match column_of_condition(expression) {
        Some(column) => BTreeSet::from([column.index()]),
        None => expression.children().into_iter().flat_map(columns).collect(),
    }
}

/// The expression over columns some of which are dictionaries: conditions about one of them are decided by text, and all else
/// sees texts.
pub(super) fn once_per_text(
    expression: &Arc<dyn PhysicalExpr>,
    dictionaries: &BTreeSet<usize>,
) -> Result<Arc<dyn PhysicalExpr>> {
    if let Some(column) = column_of_condition(expression)
        && dictionaries.contains(&column.index())
    {
        return Ok(Arc::new(OncePerText::new(expression, column)?));
    }
    if let Some(column) = expression.downcast_ref::<Column>() {
        let is_dictionary = dictionaries.contains(&column.index());
        return Ok(if is_dictionary { as_text(Arc::new(column.clone())) } else { expression.clone() });
    }
    let children = expression.children();
    if children.is_empty() {
        return Ok(expression.clone());
    }
    let made = children.into_iter().map(|child| once_per_text(child, dictionaries)).collect::<Result<Vec<_>>>()?;
    expression.clone().with_new_children(made)
}

/// The only column of a condition that cannot fail, whatever text it meets: it may be asked about texts that no row has any more.
fn column_of_condition(expression: &Arc<dyn PhysicalExpr>) -> Option<Column> {
    if expression.is::<Column>() || expression.is::<Literal>() {
        return None;
    }
    let mut found = None;
    is_about_one(expression, &mut found).then_some(found).flatten()
}

fn is_about_one(expression: &Arc<dyn PhysicalExpr>, found: &mut Option<Column>) -> bool {
    if let Some(column) = expression.downcast_ref::<Column>() {
        return found.get_or_insert_with(|| column.clone()) == column;
    }
    let cannot_fail = match expression.downcast_ref::<BinaryExpr>() {
        Some(binary) => is_comparison(*binary.op()),
        None => match expression.downcast_ref::<ScalarFunctionExpr>() {
            Some(function) => FUNCTIONS.contains(&function.name()),
            None => {
                expression.is::<Literal>()
                    || expression.is::<LikeExpr>()
                    || expression.is::<InListExpr>()
                    || expression.is::<IsNullExpr>()
                    || expression.is::<IsNotNullExpr>()
                    || expression.is::<NotExpr>()
            }
        },
    };
    cannot_fail && expression.children().into_iter().all(|child| is_about_one(child, found))
}

fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
            | Operator::And
            | Operator::Or
    )
}

/// A condition about a dictionary.
#[derive(Debug)]
struct OncePerText {
    /// About the only column of a batch of texts.
    of_text: Arc<dyn PhysicalExpr>,
    dictionary: Arc<dyn PhysicalExpr>,
    decided: Arc<PerDictionary<Decided>>,
}

/// What holds of each text of a dictionary, and of none at all.
#[derive(Debug)]
struct Decided {
    texts: BooleanArray,
    null: Option<bool>,
}

impl OncePerText {
    fn new(condition: &Arc<dyn PhysicalExpr>, column: Column) -> Result<Self> {
        let of_text = condition.clone().transform_up(|part| match part.is::<Column>() {
            true => Ok(Transformed::yes(Arc::new(Column::new("text", 0)) as Arc<dyn PhysicalExpr>)),
            false => Ok(Transformed::no(part)),
        })?;
        Ok(Self { of_text: of_text.data, dictionary: Arc::new(column), decided: Arc::default() })
    }

    fn decide(&self, texts: &StringArray) -> Result<Decided> {
        let mut asked = StringViewBuilder::with_capacity(texts.len() + 1);
        texts.iter().for_each(|text| asked.append_option(text));
        asked.append_null();
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8View, true)]));
        let asked: ArrayRef = Arc::new(asked.finish());
        let batch = RecordBatch::try_new(schema, vec![asked])?;
        let answers = self.of_text.evaluate(&batch)?.into_array(batch.num_rows())?;
        let answers = answers.as_boolean_opt();
        let answers = answers.ok_or_else(|| DataFusionError::Internal(format!("{} is no condition", self.of_text)))?;
        let null = answers.is_valid(texts.len()).then(|| answers.value(texts.len()));
        Ok(Decided { texts: answers.slice(0, texts.len()), null })
    }
}

impl Decided {
    fn of_rows(&self, rows: &DictionaryArray<Int32Type>) -> BooleanArray {
        let keys = rows.keys();
        let (values, nulls) = (keys.values(), keys.nulls().filter(|nulls| nulls.null_count() > 0));
        if nulls.is_none() && self.texts.null_count() == 0 {
            let holds = self.texts.values();
            return match holds.count_set_bits() {
                0 => BooleanBuffer::new_unset(rows.len()),
                all if all == holds.len() => BooleanBuffer::new_set(rows.len()),
                _ => bits_of(holds, values),
            }
            .into();
        }
        let place = |row: usize| usize::try_from(values[row]).unwrap_or_default();
        let is_null = |row: usize| nulls.is_some_and(|nulls| nulls.is_null(row));
        let holds = BooleanBuffer::collect_bool(rows.len(), |row| match is_null(row) {
            true => self.null.unwrap_or_default(),
            false => self.texts.value(place(row)),
        });
        let is_known = BooleanBuffer::collect_bool(rows.len(), |row| match is_null(row) {
            true => self.null.is_some(),
            false => self.texts.is_valid(place(row)),
        });
        BooleanArray::new(holds, Some(NullBuffer::new(is_known)))
    }
}

/// The bit of each row's text, 64 rows at a time. Where there are few texts, theirs are bits of a number too.
fn bits_of(holds: &BooleanBuffer, rows: &[i32]) -> BooleanBuffer {
    let words: Vec<u64> = if holds.len() <= 64 {
        let texts = holds.set_indices().fold(0_u64, |texts, at| texts | 1 << at);
        words_of(rows, |row| (texts >> (row & 63)) & 1)
    } else {
        let texts: Vec<u8> = holds.iter().map(u8::from).collect();
        words_of(rows, |row| {
            usize::try_from(row).ok().and_then(|row| texts.get(row)).map_or(0, |holds| u64::from(*holds))
        })
    };
    BooleanBuffer::new(words.into(), 0, rows.len())
}

fn words_of(rows: &[i32], bit: impl Fn(i32) -> u64) -> Vec<u64> {
    let word = |rows: &[i32]| match rows {
        // As where files are sorted by the column: compared many at a time, without a branch for each.
        [first, ..] if rows.iter().fold(0, |differs, row| differs | (row ^ first)) == 0 => {
            (u64::MAX >> (64 - rows.len())) * bit(*first)
        }
        _ => rows.iter().enumerate().fold(0, |word, (at, row)| word | bit(*row) << at),
    };
    rows.chunks(64).map(word).collect()
}

impl PhysicalExpr for OncePerText {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = dictionary_of(self.dictionary.as_ref(), batch)?;
        let decided = self.decided.get_or_make(&rows, |texts| self.decide(texts))?;
        Ok(ColumnarValue::Array(Arc::new(decided.of_rows(&rows))))
    }

    fn return_field(&self, _input: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.to_string(), DataType::Boolean, true)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.dictionary]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(dictionary) = children.pop() else { return Ok(self) };
        Ok(Arc::new(Self { of_text: self.of_text.clone(), dictionary, decided: self.decided.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OncePerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "once_per_text({}, {})", self.dictionary, self.of_text)
    }
}

impl PartialEq for OncePerText {
    fn eq(&self, other: &Self) -> bool {
        self.of_text.eq(&other.of_text) && self.dictionary.eq(&other.dictionary)
    }
}

impl Eq for OncePerText {}

impl Hash for OncePerText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of_text.hash(state);
        self.dictionary.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few texts and many, with and without rows that have none, and answers that are not known; also where one text stands in
        /// many rows one after the other.
        #[test]
        fn a_row_has_what_was_decided_of_its_text(
            texts in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 1..100),
            null in prop::option::of(any::<bool>()),
            rows in prop::collection::vec(prop::option::weighted(0.9, 0..100_i32), 0..300),
            has_nulls in any::<bool>(),
            are_known in any::<bool>(),
            repeats in prop_oneof![Just(1_usize), 1..200_usize],
        ) {
            let texts: Vec<Option<bool>> =
                texts.into_iter().map(|holds| if are_known { Some(holds.unwrap_or(true)) } else { holds }).collect();
            let count = texts.len() as i32;
            let rows: Vec<Option<i32>> = rows
                .into_iter()
                .map(|row| if has_nulls { row } else { Some(row.unwrap_or(0)) })
                .map(|row| row.map(|row| row % count))
                .flat_map(|row| std::iter::repeat_n(row, repeats))
                .collect();
            let values = StringArray::from_iter_values((0..count).map(|text| text.to_string()));
            let dictionary = DictionaryArray::new(rows.iter().copied().collect(), Arc::new(values));
            let expected: BooleanArray =
                rows.iter().map(|row| row.map_or(null, |row| texts[row as usize])).collect();
            let decided = Decided { texts: texts.iter().copied().collect(), null };
            prop_assert_eq!(decided.of_rows(&dictionary), expected);
        }
    }
}
