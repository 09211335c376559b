//! What clients ask a server about itself before they trust it: they read a version of Postgres out of the answer, and choose by
//! it what else they ask. This says whose wire it is, and as which Postgres it understands itself.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, Int32Array, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Ident;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response};
use datafusion_postgres::pgwire::error::PgWireResult;
use futures::stream;

/// The version that the library's catalog has the tables of.
const VERSION: &str = "16.6";
const VERSION_NUMBER: &str = "160006";

/// Settings that are asked for by name, and what stands in a Postgres that was just installed.
const SETTINGS: [(&str, &str); 10] = [
    ("server_version", VERSION),
    ("server_version_num", VERSION_NUMBER),
    ("server_encoding", "UTF8"),
    ("search_path", "public"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("transaction_read_only", "on"),
    ("default_transaction_read_only", "on"),
];

/// The types that values here can have, by the name and the number that Postgres knows them by.
const TYPES: [(&str, i32); 20] = [
    ("bool", 16),
    ("boolean", 16),
    ("bytea", 17),
    ("bigint", 20),
    ("int8", 20),
    ("smallint", 21),
    ("int2", 21),
    ("integer", 23),
    ("int4", 23),
    ("text", 25),
    ("real", 700),
    ("float4", 700),
    ("double precision", 701),
    ("float8", 701),
    ("varchar", 1043),
    ("date", 1082),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("interval", 1186),
    ("numeric", 1700),
];

pub(crate) fn register(context: &SessionContext) {
    let version = format!("PostgreSQL {VERSION} (Tally {}, Apache DataFusion)", env!("CARGO_PKG_VERSION"));
    let said = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from(version.as_str())));
    context.register_udf(create_udf("version", vec![], DataType::Utf8, Volatility::Stable, Arc::new(said)));
    let said = |arguments: &[ColumnarValue]| {
        let values: StringArray = names(arguments)?.iter().map(|name| name.as_deref().and_then(setting)).collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
    };
    let text = vec![DataType::Utf8];
    context.register_udf(create_udf(
        "current_setting",
        text.clone(),
        DataType::Utf8,
        Volatility::Stable,
        Arc::new(said),
    ));
    // Null for what is no type here, by which drivers know that there are no extensions.
    let said = |arguments: &[ColumnarValue]| {
        let number = |name: &str| TYPES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let numbers: Int32Array = names(arguments)?.iter().map(|name| name.as_deref().and_then(number)).collect();
        Ok(ColumnarValue::Array(Arc::new(numbers)))
    };
    context.register_udf(create_udf("to_regtype", text, DataType::Int32, Volatility::Stable, Arc::new(said)));
}

fn names(arguments: &[ColumnarValue]) -> Result<Vec<Option<String>>> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let names = arrays[0].as_string_opt::<i32>();
    let names = names.ok_or_else(|| DataFusionError::Internal("names are not text".to_owned()))?;
    Ok(names.iter().map(|name| name.map(str::to_owned)).collect())
}

fn setting(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// `SHOW` of what is known here.
pub(crate) fn shown(variable: &[Ident]) -> Option<PgWireResult<Response>> {
    let [name] = variable else { return None };
    let (name, value) = (name.value.to_lowercase(), setting(&name.value)?);
    let fields = Arc::new(vec![FieldInfo::new(name, None, None, Type::VARCHAR, FieldFormat::Text)]);
    let mut row = DataRowEncoder::new(fields.clone());
    let row = row.encode_field(&Some(value)).map(|()| row.take_row());
    Some(row.map(|row| Response::Query(QueryResponse::new(fields, stream::once(async { Ok(row) })))))
}
