//! A uniform sample of raw events, without the hashes of people.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use arrow::json::LineDelimitedWriter;
use datafusion::common::DataFusionError;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf, ident, lit};
use serde_json::{Map, Value as Json};
use tally_model::analysis::{Sample, SampleAnswer, draw};

use super::analysis::named;
use super::report::whole;
use super::{Queries, Source};
use crate::error::{LakeError, Result};
use crate::schema::EVENTS;
use crate::sql::{HIDDEN, id_text};

const DRAW: &str = "draw";
/// The partition of the table, which the time says too.
const NOT_TOLD: &str = "event_date";

impl Queries {
    pub async fn sample(&self, asked: &Sample) -> Result<SampleAnswer> {
        let view = self.current();
        let rows = self.source_rows(&view, Source::Events, &asked.about)?;
        let mut matching = 0;
        for batch in rows.clone().aggregate(vec![], vec![count(lit(1_i64)).alias("matching")])?.collect().await? {
            matching = u64::try_from(whole(named(&batch, "matching")?, 0)?).unwrap_or_default();
        }
        let names = EVENTS.fields().iter().map(|field| field.name().as_str());
        let names: Vec<&str> = names.filter(|name| !HIDDEN.contains(name) && *name != NOT_TOLD).collect();
        let column = |name: &&str| match *name {
            "event_id" => id_text().call(vec![ident("event_id")]).alias("event_id"),
            name => ident(name),
        };
        let drawn = draw_function(asked.seed).call(vec![ident("partition"), ident("offset")]).alias(DRAW);
        let columns: Vec<Expr> = names.iter().map(column).chain([drawn]).collect();
        let rows = rows.select(columns)?.sort(vec![ident(DRAW).sort(true, false)])?.limit(0, Some(asked.size))?;
        let batches = rows.select_columns(&names)?.collect().await?;
        Ok(SampleAnswer { rows: objects(&batches)?, matching, table_version: view.events_version() })
    }
}

fn draw_function(seed: u64) -> ScalarUDF {
    let draws = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let places = arrays[0].as_primitive_opt::<Int32Type>().zip(arrays[1].as_primitive_opt::<Int64Type>());
        let (partitions, offsets) =
            places.ok_or_else(|| DataFusionError::Internal("a place in the log is no number".to_owned()))?;
        let draws: UInt64Array =
            partitions.iter().zip(offsets).map(|(partition, offset)| Some(draw(seed, partition?, offset?))).collect();
        Ok(ColumnarValue::Array(Arc::new(draws)))
    };
    let arguments = vec![DataType::Int32, DataType::Int64];
    create_udf("draw", arguments, DataType::UInt64, Volatility::Immutable, Arc::new(draws))
}

fn objects(batches: &[RecordBatch]) -> Result<Vec<Map<String, Json>>> {
    let broken = |error: String| LakeError::Damaged { what: format!("events have no form in JSON: {error}") };
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).map_err(|error| broken(error.to_string()))?;
    writer.finish().map_err(|error| broken(error.to_string()))?;
    let lines = writer.into_inner();
    let objects = serde_json::Deserializer::from_slice(&lines).into_iter::<Map<String, Json>>();
    let whole = objects.map(|object| {
        let mut object = object.map_err(|error| broken(error.to_string()))?;
        // Kept as they came, and told as what they are.
        if let Some(props) = object.get_mut("props")
            && let Some(parsed) = props.as_str().and_then(|text| serde_json::from_str(text).ok())
        {
            *props = parsed;
        }
        Ok(object)
    });
    whole.collect()
}
