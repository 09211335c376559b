//! Scans that give columns as they stand in the files: texts as dictionaries, money as micros.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, DynamicFilterTracking};
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_plan::ExecutionPlan;

use super::micros::before_widening;
use super::per_dictionary::dictionary_type;
use super::{Passed, Wanted};
use crate::schema::REPEATED_TEXTS;

/// The scan with those of the wanted columns as dictionaries that hold texts which repeat, and with micros where it would make money
/// of them. None where there are none, or where a file does not say which columns it has: it was written by an older binary.
pub(super) fn as_stored(scan: &DataSourceExec, wanted: &Wanted) -> Result<Option<Passed>> {
    let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>() else { return Ok(None) };
    let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else { return Ok(None) };
    let Some(given) = source.projection() else { return Ok(None) };
    let columns = given.as_ref();
    let name_of = |at: usize| columns.get(at)?.expr.downcast_ref::<Column>().map(Column::name);
    let is_repeated = |at: &usize| name_of(*at).is_some_and(|name| REPEATED_TEXTS.contains(&name));
    let dictionaries: BTreeSet<usize> = wanted.dictionaries.iter().copied().filter(is_repeated).collect();
    let money_of = |at: &usize| {
        let money = &columns.get(*at)?.expr;
        before_widening(money).map(|_| (*at, money.clone()))
    };
    let micros: BTreeMap<usize, Arc<dyn PhysicalExpr>> = wanted.micros.iter().filter_map(money_of).collect();
    let names: BTreeSet<&str> = dictionaries.iter().filter_map(|at| name_of(*at)).collect();
    let Some(files) = read_as_dictionaries(config, &names) else { return Ok(None) };
    if dictionaries.is_empty() && micros.is_empty() {
        return Ok(None);
    }
    let fields = scan.schema();
    let stored = fields.fields().iter().enumerate().map(|(at, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        let stored = if dictionaries.contains(&at) {
            Arc::new(Kept { column, data_type: dictionary_type() })
        } else if micros.contains_key(&at) {
            Arc::new(Kept { column, data_type: DataType::Int64 })
        } else {
            column
        };
        ProjectionExpr::new(stored, field.name().clone())
    });
    let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(files).build();
    let Some(config) = config.try_swapping_with_projection(&ProjectionExprs::new(stored))? else { return Ok(None) };
    let plan: Arc<dyn ExecutionPlan> = Arc::new(DataSourceExec::new(config));
    Ok(Some(Passed { plan, dictionaries, micros }))
}

/// The same files, to be read with some columns as dictionaries.
fn read_as_dictionaries(config: &FileScanConfig, names: &BTreeSet<&str>) -> Option<Vec<FileGroup>> {
    // A condition that becomes stricter while a statement runs leaves out whole files.
    let is_watched = config
        .file_source()
        .filter()
        .is_some_and(|filter| DynamicFilterTracking::classify(&filter).contains_dynamic_filter());
    // Most files have the same columns, so that one schema serves them.
    let mut made: Vec<(SchemaRef, SchemaRef)> = Vec::new();
    let groups = config.file_groups.iter().map(|group| {
        let files = group.iter().map(|file| {
            let columns = file.arrow_schema.as_ref()?;
            let with_dictionaries = match made.iter().find(|(of, _)| Arc::ptr_eq(of, columns)) {
                Some((_, made)) => made.clone(),
                None => {
                    let new = Arc::new(dictionaries_in(columns, names));
                    made.push((columns.clone(), new.clone()));
                    new
                }
            };
            let mut file = file.clone();
            file.arrow_schema = Some(with_dictionaries);
            if !is_watched {
                // The table has asked them already, and planning is over.
                file.statistics = None;
            }
            Some(file)
        });
        Some(FileGroup::new(files.collect::<Option<Vec<_>>>()?))
    });
    groups.collect()
}

fn dictionaries_in(columns: &Schema, names: &BTreeSet<&str>) -> Schema {
    let fields = columns.fields().iter().map(|field| match names.contains(field.name().as_str()) {
        true => Arc::new(field.as_ref().clone().with_data_type(dictionary_type())),
        false => field.clone(),
    });
    Schema::new(fields.collect::<Vec<FieldRef>>())
}

/// A column of a file as it is stored. Where the scan would cast it to texts, or make money of it, it does not.
#[derive(Debug)]
struct Kept {
    column: Arc<dyn PhysicalExpr>,
    data_type: DataType,
}

impl PhysicalExpr for Kept {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        if *array.data_type() == self.data_type {
            return Ok(ColumnarValue::Array(array));
        }
        // A column that the file lacks, as nulls.
        Ok(ColumnarValue::Array(cast(&array, &self.data_type)?))
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        let field = self.column.return_field(input)?;
        Ok(Arc::new(Field::new(field.name(), self.data_type.clone(), field.is_nullable())))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(column) = children.pop() else { return Ok(self) };
        let uncast = column.downcast_ref::<CastExpr>().map(|cast| cast.expr().clone());
        let stored = uncast.or_else(|| before_widening(&column)).unwrap_or(column);
        Ok(Arc::new(Self { column: stored, data_type: self.data_type.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.data_type {
            DataType::Dictionary(..) => write!(f, "dictionary({})", self.column),
            _ => write!(f, "micros({})", self.column),
        }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.data_type == other.data_type
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.data_type.hash(state);
    }
}
