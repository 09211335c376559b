//! How the files of a table are written.

use arrow::array::{Array, RecordBatch};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

/// Rows of one row group: the unit that readers skip by, and that a writer holds in memory.
const ROW_GROUP_ROWS: usize = 512 * 1024;
/// Higher levels save little on these columns.
pub(crate) const ZSTD_LEVEL: i32 = 3;
/// Of files that a commit writes, to be merged into others soon: a compressor of this level has smaller tables to set up.
const FRESH_ZSTD_LEVEL: i32 = 1;

#[derive(Debug, Clone, Copy)]
pub(crate) struct FileLayout {
    pub zstd_level: i32,
    /// Columns whose least and greatest values go into the log.
    pub statistics: &'static [&'static str],
    /// Columns of a few values: their numbers take some bits each, and a compressor would have to be set up for every column.
    pub few_values: &'static [&'static str],
    /// Columns that most questions read: a compressor would save a hundredth of a file, and undoing it is a good part of reading them.
    pub often_read: &'static [&'static str],
    /// Columns without repeats: a dictionary would only cost.
    pub distinct: &'static [&'static str],
    /// Columns that rise slowly: differences take a byte or two.
    pub rising: &'static [&'static str],
    /// Columns that single values are looked up by.
    pub looked_up: &'static [&'static str],
}

impl FileLayout {
    /// The same for files that will not be there for long.
    pub fn fresh(self) -> Self {
        Self { zstd_level: FRESH_ZSTD_LEVEL, ..self }
    }

    /// For a file of at most so many rows, of which the first are at hand.
    pub fn properties(&self, first: &[RecordBatch], rows_max: usize) -> WriterProperties {
        let column = |name: &str| ColumnPath::from(name);
        let level = ZstdLevel::try_new(self.zstd_level).unwrap_or_default();
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_statistics_enabled(EnabledStatistics::None);
        let uncompressed = self.few_values.iter().chain(self.often_read).copied().chain(columns_of_nulls(first));
        for name in uncompressed {
            properties = properties.set_column_compression(column(name), Compression::UNCOMPRESSED);
        }
        for name in self.often_read {
            // Where there are too many values for a dictionary.
            properties = properties.set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
        }
        for name in self.statistics {
            properties = properties.set_column_statistics_enabled(column(name), EnabledStatistics::Page);
        }
        for name in self.distinct {
            properties = properties.set_column_dictionary_enabled(column(name), false);
        }
        for name in self.rising {
            properties = properties
                .set_column_dictionary_enabled(column(name), false)
                .set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
        }
        for name in self.looked_up {
            properties = properties
                .set_column_bloom_filter_enabled(column(name), true)
                .set_column_bloom_filter_fpp(column(name), 0.01)
                .set_column_bloom_filter_max_ndv(column(name), rows_max.min(ROW_GROUP_ROWS) as u64);
        }
        properties.build()
    }
}

/// The columns that have no value at all in these rows.
fn columns_of_nulls(rows: &[RecordBatch]) -> impl Iterator<Item = &str> {
    let fields = rows.first().map(|first| first.schema_ref().fields()).into_iter().flatten().enumerate();
    let is_null = |at: usize| rows.iter().all(|rows| rows.column(at).null_count() == rows.num_rows());
    fields.filter(move |(at, _)| is_null(*at)).map(|(_, field)| field.name().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::ATTRIBUTIONS_LAYOUT;
    use crate::events::EVENTS_LAYOUT;
    use crate::rollups::ROLLUPS_LAYOUT;
    use crate::schema::{ATTRIBUTIONS, EVENTS_FILE, ROLLUPS};

    #[test]
    fn every_column_that_a_layout_names_is_in_its_table() {
        for (layout, schema) in
            [(EVENTS_LAYOUT, &EVENTS_FILE), (ROLLUPS_LAYOUT, &ROLLUPS), (ATTRIBUTIONS_LAYOUT, &ATTRIBUTIONS)]
        {
            let FileLayout { zstd_level: _, statistics, few_values, often_read, distinct, rising, looked_up } = layout;
            for name in [statistics, few_values, often_read, distinct, rising, looked_up].into_iter().flatten() {
                assert!(schema.field_with_name(name).is_ok(), "no column `{name}`");
            }
        }
    }
}
