//! `tally sql`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;
use tally_model::Format;

use super::query::{grouped, plain};
use super::say;
use crate::cli::{SqlArguments, SqlFormat};
use crate::client::Source;

pub async fn run(arguments: SqlArguments) -> Result<()> {
    let source = Source::of(&arguments.place).await?;
    let time_limit = Duration::from_secs(arguments.time_limit_s);
    if let Some(file) = &arguments.output {
        let format = format_of(file)?;
        return write_file(file, async |out| source.sql(&arguments.statement, format, time_limit, out).await).await;
    }
    let mut answer = Vec::new();
    match arguments.format {
        SqlFormat::Csv => source.sql(&arguments.statement, Format::Csv, time_limit, &mut io::stdout()).await,
        SqlFormat::Ndjson => source.sql(&arguments.statement, Format::Ndjson, time_limit, &mut io::stdout()).await,
        SqlFormat::Table => {
            source.sql(&arguments.statement, Format::Ndjson, time_limit, &mut answer).await?;
            print_table(&answer)
        }
    }
}

/// The format that a file's extension says.
pub(crate) fn format_of(file: &Path) -> Result<Format> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    Format::parse(extension).with_context(|| {
        let known = Format::ALL.map(Format::as_str).join(", .");
        format!("`{}` does not say in which format to write; end it in .{known}", file.display())
    })
}

/// Writes a file that is there only once it is whole.
pub(crate) async fn write_file(file: &Path, write: impl AsyncFnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let cannot = || format!("cannot write `{}`", file.display());
    let mut name = file.file_name().with_context(cannot)?.to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let mut out = BufWriter::new(File::create(&part).with_context(cannot)?);
    let written = write(&mut out).await.and_then(|()| out.flush().with_context(cannot));
    match written {
        Ok(()) => std::fs::rename(&part, file).with_context(cannot),
        Err(error) => {
            // What is left of it would only be taken for the answer.
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

fn print_table(lines: &[u8]) -> Result<()> {
    let rows: Vec<Value> = serde_json::Deserializer::from_slice(lines).into_iter().collect::<Result<_, _>>()?;
    let Some(columns) = rows.first().and_then(Value::as_object) else {
        say("0 rows");
        return Ok(());
    };
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(columns.keys());
    for row in rows.iter().filter_map(Value::as_object) {
        table.add_row(row.values().map(for_people));
    }
    for (at, name) in columns.keys().enumerate() {
        let is_number = rows.iter().any(|row| row[name].is_number());
        if let (true, Some(column)) = (is_number, table.column_mut(at)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say(table);
    let unit = if rows.len() == 1 { "row" } else { "rows" };
    say(format!("{} {unit}", rows.len()));
    Ok(())
}

fn for_people(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(number) => number.as_i64().map_or_else(|| number.to_string(), grouped),
        other => plain(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_says_its_format_or_what_it_could_say() {
        assert_eq!(format_of(Path::new("a/b.parquet")).unwrap(), Format::Parquet);
        let error = format_of(Path::new("report.xls")).unwrap_err().to_string();
        assert!(error.contains("end it in .json, .csv, .ndjson, .parquet, .arrow"), "{error}");
    }

    #[tokio::test]
    async fn a_file_is_there_only_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        let broken = write_file(&file, async |out| {
            out.write_all(b"half")?;
            anyhow::bail!("the server went away")
        });
        assert!(broken.await.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "half a file was left");
        write_file(&file, async |out| Ok(out.write_all(b"whole")?)).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"whole");
    }
}
