//! A table version as a DataFusion table: a cached list of files, pruned by what the log says of them, into a plain scan.
//!
//! The library's own provider replays the log for each query, and its scan cannot be shipped to other processes.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::indexed_files::IndexedFiles;
use crate::attribution::ATTRIBUTIONS_LAYOUT;
use crate::events::EVENTS_LAYOUT;
use crate::layout::FileLayout;
use crate::table::TableVersion;

#[derive(Debug)]
pub(crate) struct FileTable {
    table: TableVersion,
    schema: TableSchema,
}

impl FileTable {
    pub fn new(table: TableVersion, partition_columns: &[&str]) -> Self {
        let is_partition = |field: &FieldRef| partition_columns.contains(&field.name().as_str());
        let (partitions, in_files): (Vec<FieldRef>, Vec<FieldRef>) =
            table.schema.fields().iter().cloned().partition(is_partition);
        Self {
            table,
            schema: TableSchema::builder(Arc::new(Schema::new(in_files))).with_table_partition_cols(partitions).build(),
        }
    }

    /// The same with texts as views, which are compared and grouped by their first bytes.
    pub fn with_text_views(mut self) -> Self {
        let viewed = |field: &FieldRef| match field.data_type() {
            DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
            _ => field.clone(),
        };
        let in_files: Vec<FieldRef> = self.schema.file_schema().fields().iter().map(viewed).collect();
        let partitions = self.schema.table_partition_cols().clone();
        self.schema =
            TableSchema::builder(Arc::new(Schema::new(in_files))).with_table_partition_cols(partitions).build();
        self
    }

    /// The files that may hold rows that match.
    fn matching(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<PartitionedFile>> {
        let files = &self.table.files;
        let mut keep = vec![true; files.len()];
        if let (Some(filter), false) = (conjunction(filters.to_vec()), files.is_empty()) {
            let schema = self.schema.table_schema();
            let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema.clone())?)?;
            let pruning = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(filter)?;
            let statistics = files.iter().map(|file| file.statistics.clone()).collect();
            keep = pruning.prune(&PrunableStatistics::new(statistics, schema.clone()))?;
        }
        Ok(files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.scan.clone()).collect())
    }
}

/// Whether files have a Bloom filter of a column.
fn is_looked_up(column: &&Column) -> bool {
    let has_filter = |layout: &FileLayout| layout.looked_up.contains(&column.name.as_str());
    [EVENTS_LAYOUT, ATTRIBUTIONS_LAYOUT].iter().any(has_filter)
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        self.schema.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.matching(state, filters)?;
        if files.is_empty() {
            // A scan of no groups has no partitions, which a plan that sorts or limits in one takes for a mistake.
            let schema = self.schema.table_schema();
            let columns =
                projection.map_or_else(|| Ok(schema.clone()), |columns| schema.project(columns).map(Arc::new))?;
            return Ok(Arc::new(EmptyExec::new(columns)));
        }
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let url = ObjectStoreUrl::local_filesystem();
        let store = state.runtime_env().object_store(&url)?;
        let metadata_cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let mut options = state.default_table_options().parquet.clone();
        // There is none of any other column, and to find that out takes longer than to read a few pages.
        options.global.bloom_filter_on_read =
            filters.iter().any(|filter| filter.column_refs().iter().any(is_looked_up));
        // Groups of rows are not asked: most files have one, of which the log says the same, and the pages are asked, which say more.
        options.global.pruning = false;
        let files = IndexedFiles(CachedParquetFileReaderFactory::new(store, metadata_cache));
        // Which rows match is asked of the files by the optimizer, from the filter above the scan.
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(files));
        let scan = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_limit(limit)
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}
