//! `tally query`.

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::Value;
use tally_model::report::{AsOfRequest, FilterRequest, OrderRequest, Report, ReportRequest};
use tally_model::{Clock, SystemClock};

use super::say;
use super::sql::{format_of, write_file};
use crate::cli::{OutputFormat, QueryArguments};
use crate::client::Source;

pub async fn run(arguments: QueryArguments) -> Result<()> {
    let source = Source::of(&arguments.place).await?;
    let request = request(&arguments)?;
    let columns = Report::try_from(&request)?.answer_columns();
    if let Some(file) = &arguments.output {
        let format = format_of(file)?;
        return write_file(file, async |out| source.report_as(&request, format, out).await).await;
    }
    let answer = source.report(&request).await?;
    match arguments.format {
        OutputFormat::Json => say(serde_json::to_string_pretty(&answer)?),
        OutputFormat::Csv => say(csv(&columns, &answer)?.trim_end()),
        OutputFormat::Table => print_table(&columns, &answer),
    }
    Ok(())
}

fn request(arguments: &QueryArguments) -> Result<ReportRequest> {
    let zone =
        TimeZone::get(&arguments.zone).with_context(|| format!("--zone {:?} is no time zone", arguments.zone))?;
    let (earliest, latest) = ("2000-01-01T00:00:00Z".to_owned(), end_of_next_month()?);
    let order =
        |name: &String| OrderRequest { field: name.trim_start_matches('-').to_owned(), desc: name.starts_with('-') };
    Ok(ReportRequest {
        metrics: arguments.metrics.clone(),
        group_by: arguments.by.clone(),
        filters: arguments.filters.iter().map(|text| filter(text)).collect::<Result<_>>()?,
        from: arguments.from.as_ref().map_or(Ok(earliest), |text| instant(text, &zone))?,
        to: arguments.to.as_ref().map_or(Ok(latest), |text| instant(text, &zone))?,
        time_zone: Some(arguments.zone.clone()),
        order_by: arguments.order.iter().map(order).collect(),
        limit: Some(arguments.limit),
        attribution: arguments.attribution.map(|booking| booking.name().to_owned()),
        as_of: arguments.as_of.as_ref().map(|text| as_of(text, &zone)).transpose()?,
        restated: arguments.restated,
        ..ReportRequest::default()
    })
}

/// Late enough for every event that can be in, and on the edge of a month, so that any rollup can answer.
fn end_of_next_month() -> Result<String> {
    let now = Timestamp::from_microsecond(SystemClock.now_us())?.to_zoned_datetime(TimeZone::UTC);
    let first = now.date().first_of_month().checked_add(2.months())?;
    Ok(format!("{first}T00:00:00Z"))
}

/// A number is a version.
fn as_of(text: &str, zone: &TimeZone) -> Result<AsOfRequest> {
    match text.parse() {
        Ok(version) => Ok(AsOfRequest::Version(version)),
        Err(_) => Ok(AsOfRequest::Time(instant(text, zone)?)),
    }
}

/// A time with a zone as it is; a date as the midnight that it begins with in the report's zone.
fn instant(text: &str, zone: &TimeZone) -> Result<String> {
    match text.parse::<jiff::civil::Date>() {
        Ok(date) if text.len() == 10 => Ok(date.to_zoned_datetime(zone.clone())?.timestamp().to_string()),
        _ => Ok(text.to_owned()),
    }
}

fn filter(text: &str) -> Result<FilterRequest> {
    let (field, values) = text.split_once('=').with_context(|| format!("--where {text:?} has no `=`"))?;
    let op = if field.ends_with('!') { "not_in" } else { "in" };
    let values = values.split(',').map(|value| (!value.is_empty()).then(|| value.to_owned())).collect();
    Ok(FilterRequest { field: field.trim_end_matches('!').to_owned(), op: Some(op.to_owned()), values })
}

fn csv(columns: &[String], answer: &Value) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns)?;
    for row in rows(answer) {
        writer.write_record(columns.iter().map(|column| plain(&row[column.as_str()])))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn print_table(columns: &[String], answer: &Value) {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(columns);
    for row in rows(answer) {
        table.add_row(columns.iter().map(|column| for_people(column, &row[column.as_str()])));
    }
    for (at, column) in columns.iter().enumerate() {
        let is_number = rows(answer).any(|row| row[column.as_str()].is_number());
        if let (true, Some(column)) = (is_number, table.column_mut(at)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    say(table);
    let meta = &answer["meta"];
    let as_of = meta["watermark"].as_str().map(|at| format!(", complete up to {at}")).unwrap_or_default();
    let n = rows(answer).count();
    let unit = if n == 1 { "row" } else { "rows" };
    say(format!("{n} {unit} from {}{as_of}", meta["source"].as_str().unwrap_or("?")));
    for warning in meta["warnings"].as_array().into_iter().flatten() {
        say(format!("warning: {}", warning.as_str().unwrap_or_default()));
    }
}

fn rows(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["rows"].as_array().into_iter().flatten()
}

pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whole numbers in groups of three, rates to four digits or as percent, null as a dash.
fn for_people(column: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => grouped(whole),
            (None, Some(rate)) if matches!(column, "ctr" | "cvr") => format!("{:.3} %", rate * 100.0),
            (None, Some(rate)) => format!("{rate:.4}"),
            (None, None) => number.to_string(),
        },
        other => plain(other),
    }
}

pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_filter_is_a_field_an_operator_and_values() {
        let negated = filter("country!=DE,").unwrap();
        assert_eq!((negated.field.as_str(), negated.op.as_deref()), ("country", Some("not_in")));
        assert_eq!(negated.values, [Some("DE".to_owned()), None]);
        assert!(filter("country").is_err());
    }

    #[test]
    fn a_date_is_midnight_in_the_reports_zone() {
        let zone = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(instant("2019-11-24", &zone).unwrap(), "2019-11-23T15:00:00Z");
        assert_eq!(instant("2019-11-24T00:00:00Z", &zone).unwrap(), "2019-11-24T00:00:00Z");
    }
}
