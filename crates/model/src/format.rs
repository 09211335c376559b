//! The forms in which rows leave: by name in a request, by type in an answer, by extension on disk.

/// How the rows of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// One document, with what is known about the answer.
    #[default]
    Json,
    Csv,
    /// A JSON object on each line.
    Ndjson,
    Parquet,
    /// Apache Arrow's IPC stream.
    Arrow,
}

impl Format {
    pub const ALL: [Format; 5] = [Format::Json, Format::Csv, Format::Ndjson, Format::Parquet, Format::Arrow];

    /// Its name in a request, and the extension of its files.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Ndjson => "application/x-ndjson",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_format() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.as_str()), Some(format));
        }
        assert_eq!(Format::parse("xlsx"), None);
    }
}
