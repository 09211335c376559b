//! The newest words about conversions, and what each is owed to.

use arrow::array::{Array, RecordBatch};
use datafusion::logical_expr::{ident, lit};
use tally_model::{ConversionFilter, ConversionRow, EventId, Listed, Page};

use super::Queries;
use super::life::time_text;
use super::page::{newest_first, page_of};
use crate::error::{LakeError, Result};
use crate::events::Columns;

impl Queries {
    pub async fn conversions(&self, filter: &ConversionFilter, page: Page) -> Result<Listed<ConversionRow>> {
        let mut rows = self.table(&self.current().attributions, &[])?;
        let texts = [
            ("status", filter.status.map(|status| status.as_str())),
            ("resolution", filter.resolution.map(|resolution| resolution.as_str())),
            ("txn_id", filter.txn_id.as_deref()),
        ];
        for (column, value) in texts {
            if let Some(value) = value {
                rows = rows.filter(ident(column).eq(lit(value)))?;
            }
        }
        page_of(newest_first(rows, page)?, page, conversion_row).await
    }
}

pub(crate) fn conversion_row(rows: &RecordBatch, at: usize) -> Result<ConversionRow> {
    let columns = Columns(rows);
    let text = |name| -> Result<Option<String>> {
        let column = columns.texts(name)?;
        Ok(column.is_valid(at).then(|| column.value(at).to_owned()))
    };
    let needed = |name| -> Result<String> { Ok(text(name)?.unwrap_or_default()) };
    let time = |name| -> Result<Option<String>> {
        let column = columns.times(name)?;
        Ok(column.is_valid(at).then(|| time_text(column.value(at))))
    };
    let id = |name| -> Result<Option<String>> {
        use arrow::array::AsArray;
        let ids = columns.column(name)?.as_binary_opt::<i32>();
        let ids = ids.ok_or_else(|| LakeError::Damaged { what: format!("column `{name}` is not binary") })?;
        let id = ids.is_valid(at).then(|| EventId::from_slice(ids.value(at)).unwrap_or_default());
        Ok(id.map(|id| id.to_string()))
    };
    let to_convert = columns.numbers("time_to_convert_s")?;
    Ok(ConversionRow {
        event_id: id("event_id")?.unwrap_or_default(),
        transaction_id: id("transaction_id")?.unwrap_or_default(),
        txn_id: text("txn_id")?,
        status: needed("status")?,
        verdict: needed("verdict")?,
        received_at: time("received_at")?.unwrap_or_default(),
        occurred_at: time("occurred_at")?.unwrap_or_default(),
        revenue_micros: columns.numbers("revenue_micros")?.value(at),
        currency: text("currency")?,
        resolution: needed("resolution")?,
        click_id: text("click_id")?,
        touch_id: id("touch_id")?,
        touched_at: time("touched_at")?,
        campaign_id: text("campaign_id")?,
        ad_id: text("ad_id")?,
        time_to_convert_s: to_convert.is_valid(at).then(|| to_convert.value(at)),
    })
}
