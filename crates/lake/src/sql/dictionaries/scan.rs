//! Scans that give texts as the dictionaries that stand in the files.

use std::collections::BTreeSet;
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
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_plan::ExecutionPlan;

use super::Passed;
use super::per_dictionary::dictionary_type;
use crate::schema::REPEATED_TEXTS;

/// The scan with those of the wanted columns as dictionaries that hold texts which repeat. None where there are none, or where
/// a file does not say which columns it has: it was written by an older binary.
pub(super) fn with_dictionaries(scan: &DataSourceExec, wanted: &BTreeSet<usize>) -> Result<Option<Passed>> {
    let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>() else { return Ok(None) };
    let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else { return Ok(None) };
    let Some(given) = source.projection() else { return Ok(None) };
    let columns = given.as_ref();
    let is_repeated = |at: &usize| {
        let column = columns.get(*at).and_then(|given| given.expr.downcast_ref::<Column>());
        column.is_some_and(|column| REPEATED_TEXTS.contains(&column.name()))
    };
    let dictionaries: BTreeSet<usize> = wanted.iter().copied().filter(is_repeated).collect();
    let names: BTreeSet<&str> =
        dictionaries.iter().filter_map(|at| columns[*at].expr.downcast_ref::<Column>().map(Column::name)).collect();
    let Some(files) = read_as_dictionaries(config, &names) else { return Ok(None) };
    if dictionaries.is_empty() {
        return Ok(None);
    }
    let fields = scan.schema();
    let kept = fields.fields().iter().enumerate().map(|(at, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        let kept = if dictionaries.contains(&at) { Arc::new(Kept { column }) } else { column };
        ProjectionExpr::new(kept, field.name().clone())
    });
    let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(files).build();
    let Some(config) = config.try_swapping_with_projection(&ProjectionExprs::new(kept))? else { return Ok(None) };
    let plan: Arc<dyn ExecutionPlan> = Arc::new(DataSourceExec::new(config));
    Ok(Some(Passed { plan, dictionaries }))
}

/// The same files, to be read with some columns as dictionaries.
fn read_as_dictionaries(config: &FileScanConfig, names: &BTreeSet<&str>) -> Option<Vec<FileGroup>> {
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

/// A column of a file, as a dictionary. Where the scan would cast one to texts, it does not.
#[derive(Debug)]
struct Kept {
    column: Arc<dyn PhysicalExpr>,
}

impl PhysicalExpr for Kept {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        match array.data_type() {
            DataType::Dictionary(..) => Ok(ColumnarValue::Array(array)),
            // A column that the file lacks, as nulls.
            _ => Ok(ColumnarValue::Array(cast(&array, &dictionary_type())?)),
        }
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        let field = self.column.return_field(input)?;
        Ok(Arc::new(Field::new(field.name(), dictionary_type(), field.is_nullable())))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(column) = children.pop() else { return Ok(self) };
        let uncast = column.downcast_ref::<CastExpr>().map(|cast| cast.expr().clone());
        Ok(Arc::new(Self { column: uncast.unwrap_or(column) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dictionary({})", self.column)
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column)
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
    }
}
