//! What a version of `attributions` brought, for whoever tells others of it.

use arrow::array::Array;
use tally_model::ConversionRow;

use crate::error::Result;
use crate::events::Columns;
use crate::files::read_file;
use crate::query::conversion_row;
use crate::writer::Lake;

impl Lake {
    /// The version that readers see.
    pub fn attributions_version(&self) -> i64 {
        self.view().attributions.version
    }

    /// The conversions that a version found something for. None in one that only merged files.
    pub async fn attributed_in(&self, version: i64) -> Result<Vec<ConversionRow>> {
        let (store, added) = {
            let table = self.attributions.lock().await;
            (table.store(), table.added_in(version).await?)
        };
        let mut found = Vec::new();
        for add in added {
            for rows in read_file(&store, &add.path, None).await? {
                let touch_ids = Columns(&rows).column("touch_id")?;
                for at in (0..rows.num_rows()).filter(|at| touch_ids.is_valid(*at)) {
                    found.push(conversion_row(&rows, at)?);
                }
            }
        }
        Ok(found)
    }
}
