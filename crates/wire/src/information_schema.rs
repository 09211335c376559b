//! `information_schema` as Postgres has it: the engine's own, but `columns` with the types that Postgres knows and the columns that
//! tools read (`udt_name`), and the tables about keys, which are empty, since views have none.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProviderList, MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::prelude::SessionContext;
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::pgwire::api::Type;

const NAME: &str = "information_schema";

const CONSTRAINT: &[&str] = &["constraint_catalog", "constraint_schema", "constraint_name"];
const TABLE: &[&str] = &["table_catalog", "table_schema", "table_name"];
/// Tables that say which columns are keys of what, with their columns.
const ABOUT_KEYS: [(&str, [&[&str]; 3]); 4] = [
    ("table_constraints", [CONSTRAINT, TABLE, &["constraint_type"]]),
    ("key_column_usage", [CONSTRAINT, TABLE, &["column_name"]]),
    ("constraint_column_usage", [TABLE, &["column_name"], CONSTRAINT]),
    ("referential_constraints", [CONSTRAINT, &["unique_constraint_schema"], &["unique_constraint_name"]]),
];

/// Takes the place of the engine's.
pub(crate) fn register(context: &SessionContext, catalog: &str) -> Result<()> {
    let state = context.state_ref();
    let catalogs = {
        let mut state = state.write();
        state.config_mut().options_mut().catalog.information_schema = false;
        state.catalog_list().clone()
    };
    // The list leads to this schema: held here, neither would ever go.
    let schema = InformationSchema { catalogs: Arc::downgrade(&catalogs) };
    if let Some(catalog) = catalogs.catalog(catalog) {
        catalog.register_schema(NAME, Arc::new(schema))?;
    }
    Ok(())
}

#[derive(Debug)]
struct InformationSchema {
    catalogs: Weak<dyn CatalogProviderList>,
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        let Some(catalogs) = self.catalogs.upgrade() else { return Vec::new() };
        let about_keys = ABOUT_KEYS.iter().map(|(name, _)| (*name).to_owned());
        InformationSchemaProvider::new(catalogs).table_names().into_iter().chain(about_keys).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(catalogs) = self.catalogs.upgrade() else { return Ok(None) };
        if name == "columns" {
            return in_memory(columns(catalogs.as_ref()).await?).map(Some);
        }
        if let Some((_, columns)) = ABOUT_KEYS.iter().find(|(known, _)| *known == name) {
            let none = columns.concat().into_iter().map(|column| (column, text(std::iter::empty())));
            return in_memory(none.collect()).map(Some);
        }
        InformationSchemaProvider::new(catalogs).table(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

fn in_memory(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let columns = columns.into_iter().map(|(name, values)| (name, values, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

fn text(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

struct Column {
    catalog: String,
    schema: String,
    table: String,
    /// From 1 on, as Postgres counts.
    position: i32,
    field: Arc<Field>,
}

impl Column {
    /// As the wire sends it.
    fn kind(&self) -> Type {
        into_pg_type(self.field.data_type()).unwrap_or(Type::TEXT)
    }

    /// The name that the standard gives the type.
    fn data_type(&self) -> String {
        let kind = self.kind();
        match kind {
            Type::BOOL => "boolean",
            Type::INT2 => "smallint",
            Type::INT4 => "integer",
            Type::INT8 => "bigint",
            Type::FLOAT4 => "real",
            Type::FLOAT8 => "double precision",
            Type::VARCHAR => "character varying",
            Type::TIMESTAMP => "timestamp without time zone",
            Type::TIMESTAMPTZ => "timestamp with time zone",
            _ if kind.name().starts_with('_') => "ARRAY",
            _ => kind.name(),
        }
        .to_owned()
    }

    fn precision_and_scale(&self) -> Option<(i32, i32)> {
        match (self.field.data_type(), self.kind()) {
            (DataType::Decimal128(precision, scale), _) => Some((i32::from(*precision), i32::from(*scale))),
            (_, Type::INT2) => Some((16, 0)),
            (_, Type::INT4) => Some((32, 0)),
            (_, Type::INT8) => Some((64, 0)),
            _ => None,
        }
    }
}

async fn columns(catalogs: &dyn CatalogProviderList) -> Result<Vec<(&'static str, ArrayRef)>> {
    let mut found: Vec<Column> = Vec::new();
    for catalog_name in catalogs.catalog_names() {
        let Some(catalog) = catalogs.catalog(&catalog_name) else { continue };
        for schema_name in catalog.schema_names().into_iter().filter(|name| name != NAME) {
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            for table_name in schema.table_names() {
                let Some(table) = schema.table(&table_name).await? else { continue };
                found.extend(table.schema().fields().iter().zip(1..).map(|(field, position)| Column {
                    catalog: catalog_name.clone(),
                    schema: schema_name.clone(),
                    table: table_name.clone(),
                    position,
                    field: field.clone(),
                }));
            }
        }
    }
    let of = |value: &dyn Fn(&Column) -> String| text(found.iter().map(|column| Some(value(column))));
    let all = |value: &str| text(found.iter().map(|_| Some(value.to_owned())));
    let none = || text(found.iter().map(|_| None));
    let number = |value: &dyn Fn(&Column) -> Option<i32>| -> ArrayRef {
        Arc::new(found.iter().map(value).collect::<Int32Array>())
    };
    Ok(vec![
        ("table_catalog", of(&|column| column.catalog.clone())),
        ("table_schema", of(&|column| column.schema.clone())),
        ("table_name", of(&|column| column.table.clone())),
        ("column_name", of(&|column| column.field.name().clone())),
        ("ordinal_position", number(&|column| Some(column.position))),
        ("column_default", none()),
        ("is_nullable", of(&|column| if column.field.is_nullable() { "YES" } else { "NO" }.to_owned())),
        ("data_type", of(&Column::data_type)),
        ("character_maximum_length", number(&|_| None)),
        ("numeric_precision", number(&|column| column.precision_and_scale().map(|(precision, _)| precision))),
        ("numeric_scale", number(&|column| column.precision_and_scale().map(|(_, scale)| scale))),
        (
            "datetime_precision",
            number(&|column| matches!(column.kind(), Type::TIMESTAMP | Type::TIMESTAMPTZ).then_some(6)),
        ),
        ("udt_catalog", of(&|column| column.catalog.clone())),
        ("udt_schema", all("pg_catalog")),
        ("udt_name", of(&|column| column.kind().name().to_owned())),
        ("is_identity", all("NO")),
        ("identity_generation", none()),
        ("is_generated", all("NEVER")),
        ("is_updatable", all("NO")),
    ])
}
