//! A report's request as JSON, and the same checked: every name resolved, every time an instant.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Booking, Dimension, GroupBy, Metric};
use crate::Format;

/// Rows that a report may answer with when no `limit` is given, and at most.
const LIMIT_DEFAULT: usize = 10_000;
const LIMIT_MAX: usize = 1_000_000;
/// How much of a wrong value is quoted back: an answer is no echo.
const QUOTE_CHARS_MAX: usize = 80;

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    #[schema(value_type = Vec<Metric>, min_items = 1)]
    pub metrics: Vec<String>,
    #[serde(default)]
    #[schema(value_type = Vec<GroupBy>)]
    pub group_by: Vec<String>,
    #[serde(default)]
    pub filters: Vec<FilterRequest>,
    /// RFC 3339, inclusive.
    #[schema(format = DateTime)]
    pub from: String,
    /// RFC 3339, exclusive.
    #[schema(format = DateTime)]
    pub to: String,
    /// IANA name; default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    #[serde(default)]
    pub order_by: Vec<OrderRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Format>)]
    pub format: Option<String>,
    /// `click_date` or `conversion_date`: conversions by what they are owed to, instead of by their own fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Booking>)]
    pub attribution: Option<String>,
    /// `zero` or `null`: one row also for a window without events, for each combination of the other groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(zero|null)$")]
    pub fill: Option<String>,
    /// `exact`: refused unless all of the time asked for lies before the watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(exact|freshest)$")]
    pub consistency: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterRequest {
    #[schema(value_type = Dimension)]
    pub field: String,
    /// `in` (default) or `not_in`; `eq` and `ne` are the same two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(in|not_in|eq|ne)$")]
    pub op: Option<String>,
    /// Null stands for events without this field.
    #[schema(min_items = 1)]
    pub values: Vec<Option<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// A column of the answer.
    pub field: String,
    #[serde(default)]
    pub desc: bool,
}

/// What is wrong with a request: the field, what it holds, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {what}; {cure}")]
pub struct ReportError {
    pub field: String,
    pub what: String,
    pub cure: String,
}

impl ReportError {
    /// An unknown name, with the nearest known one where there is one, else all of them.
    pub fn unknown(field: impl Into<String>, name: &str, known: Vec<&str>) -> Self {
        unknown(field.into(), name, known)
    }
}

/// A checked report.
#[derive(Debug, Clone)]
pub struct Report {
    pub metrics: Vec<Metric>,
    pub group_by: Vec<GroupBy>,
    pub filters: Vec<Filter>,
    pub from_us: i64,
    pub to_us: i64,
    pub time_zone: TimeZone,
    pub order_by: Vec<OrderBy>,
    pub limit: usize,
    pub format: Format,
    pub attribution: Option<Booking>,
    pub fill: Option<Fill>,
    /// Only figures of closed time are wanted.
    pub is_exact: bool,
}

/// What a window without events shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// What sums over nothing are: counts of zero, and rates of null.
    Zero,
    Null,
}

/// `In` keeps the events whose value is listed; `NotIn` all others, those without a value included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub dimension: Dimension,
    pub negated: bool,
    pub values: Vec<String>,
    /// Whether null is listed too.
    pub null: bool,
}

/// A column of the answer to order by, counted from the left: first the groups, then the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderBy {
    pub column: usize,
    pub direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

impl Report {
    /// The names of the answer's columns, from the left.
    pub fn columns(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.group_by.iter().map(|group| group.as_str()).chain(self.metrics.iter().map(|metric| metric.as_str()))
    }
}

impl TryFrom<&ReportRequest> for Report {
    type Error = ReportError;

    fn try_from(request: &ReportRequest) -> Result<Self, ReportError> {
        if request.metrics.is_empty() {
            return Err(error("metrics", "the list is empty", format!("name at least one of {}", metric_names())));
        }
        let metrics = parse_all("metrics", &request.metrics, Metric::parse, metric_list)?;
        let group_by =
            parse_all("group_by", &request.group_by, GroupBy::parse, || GroupBy::all().map(GroupBy::as_str).collect())?;
        let filters = request.filters.iter().enumerate().map(filter).collect::<Result<_, _>>()?;
        let from_us = instant("from", &request.from)?;
        let to_us = instant("to", &request.to)?;
        if from_us >= to_us {
            return Err(error(
                "to",
                format!("{} is not after `from`", quoted(&request.to)),
                "`from` is inclusive, `to` exclusive",
            ));
        }
        let mut report = Self {
            metrics,
            group_by,
            filters,
            from_us,
            to_us,
            time_zone: time_zone(request.time_zone.as_deref())?,
            order_by: Vec::new(),
            limit: limit(request.limit)?,
            format: format(request.format.as_deref())?,
            attribution: attribution(request.attribution.as_deref())?,
            fill: fill(request.fill.as_deref())?,
            is_exact: is_exact(request.consistency.as_deref())?,
        };
        check_attributed(&report)?;
        check_fill(&report)?;
        report.order_by =
            request.order_by.iter().enumerate().map(|order| order_by(&report, order)).collect::<Result<_, _>>()?;
        Ok(report)
    }
}

fn filter((at, request): (usize, &FilterRequest)) -> Result<Filter, ReportError> {
    let names = || Dimension::ALL.map(Dimension::as_str).to_vec();
    let dimension = Dimension::parse(&request.field)
        .ok_or_else(|| unknown(format!("filters[{at}].field"), &request.field, names()))?;
    let negated = match request.op.as_deref() {
        None | Some("in" | "eq") => false,
        Some("not_in" | "ne") => true,
        Some(other) => return Err(unknown(format!("filters[{at}].op"), other, vec!["in", "not_in", "eq", "ne"])),
    };
    let null = request.values.iter().any(Option::is_none);
    let values: Vec<String> = request.values.iter().flatten().cloned().collect();
    if values.is_empty() && !null {
        return Err(error(
            format!("filters[{at}].values"),
            "the list is empty",
            "give at least one value, or null for events without one",
        ));
    }
    Ok(Filter { dimension, negated, values, null })
}

fn order_by(report: &Report, (at, request): (usize, &OrderRequest)) -> Result<OrderBy, ReportError> {
    let column = report
        .columns()
        .position(|name| name == request.field)
        .ok_or_else(|| unknown(format!("order_by[{at}].field"), &request.field, report.columns().collect()))?;
    let direction = if request.desc { Direction::Descending } else { Direction::Ascending };
    Ok(OrderBy { column, direction })
}

fn instant(field: &str, text: &str) -> Result<i64, ReportError> {
    text.parse::<Timestamp>().map(|at| at.as_microsecond()).map_err(|_| {
        error(
            field,
            format!("{} is not a time with a zone", quoted(text)),
            "write RFC 3339, such as 2019-11-24T00:00:00Z or 2019-11-24T00:00:00+09:00",
        )
    })
}

fn time_zone(name: Option<&str>) -> Result<TimeZone, ReportError> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    TimeZone::get(name).map_err(|_| {
        error(
            "time_zone",
            format!("{} is not a known time zone", quoted(name)),
            "use an IANA name, such as Europe/Berlin or UTC",
        )
    })
}

fn limit(limit: Option<usize>) -> Result<usize, ReportError> {
    match limit.unwrap_or(LIMIT_DEFAULT) {
        0 => Err(error("limit", "0 rows", "ask for at least one row")),
        n if n > LIMIT_MAX => Err(error("limit", format!("{n} rows"), format!("ask for at most {LIMIT_MAX}"))),
        n => Ok(n),
    }
}

fn format(name: Option<&str>) -> Result<Format, ReportError> {
    let Some(name) = name else { return Ok(Format::default()) };
    Format::parse(name).ok_or_else(|| unknown("format".to_owned(), name, Format::ALL.map(Format::as_str).to_vec()))
}

fn attribution(name: Option<&str>) -> Result<Option<Booking>, ReportError> {
    let booking = |name| Booking::parse(name).ok_or_else(|| unknown("attribution".to_owned(), name, bookings()));
    name.map(booking).transpose()
}

fn fill(name: Option<&str>) -> Result<Option<Fill>, ReportError> {
    match name {
        None => Ok(None),
        Some("zero") => Ok(Some(Fill::Zero)),
        Some("null") => Ok(Some(Fill::Null)),
        Some(other) => Err(unknown("fill".to_owned(), other, vec!["zero", "null"])),
    }
}

fn check_fill(report: &Report) -> Result<(), ReportError> {
    let units = report.group_by.iter().filter(|group| matches!(group, GroupBy::Time(_))).count();
    if report.fill.is_none() || units == 1 {
        return Ok(());
    }
    Err(error("fill", format!("the report is grouped by {units} units of time"), "group by one, such as `day`"))
}

fn is_exact(name: Option<&str>) -> Result<bool, ReportError> {
    match name {
        None | Some("freshest") => Ok(false),
        Some("exact") => Ok(true),
        Some(other) => Err(unknown("consistency".to_owned(), other, vec!["freshest", "exact"])),
    }
}

fn bookings() -> Vec<&'static str> {
    Booking::ALL.map(Booking::as_str).to_vec()
}

/// A report by attribution tells what clicks and views brought, and knows of conversions no more than those.
fn check_attributed(report: &Report) -> Result<(), ReportError> {
    if report.attribution.is_none() {
        return Ok(());
    }
    let (no, cure) = ("is not known by attribution", "leave it out, or leave out `attribution`");
    let metrics = report.metrics.iter().filter(|metric| !metric.can_be_attributed()).map(|metric| metric.as_str());
    let groups = report.group_by.iter().filter(|group| !group.can_be_attributed()).map(|group| group.as_str());
    let filters = report.filters.iter().map(|filter| filter.dimension);
    let filters = filters.filter(|dimension| !dimension.can_be_attributed()).map(Dimension::as_str);
    let mut wrong = metrics.chain(groups).chain(filters);
    wrong.next().map_or(Ok(()), |name| Err(error("attribution", format!("{} {no}", quoted(name)), cure)))
}

fn parse_all<T: PartialEq>(
    field: &str,
    names: &[String],
    parse: impl Fn(&str) -> Option<T>,
    known: impl Fn() -> Vec<&'static str>,
) -> Result<Vec<T>, ReportError> {
    let mut parsed = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let item = parse(name).ok_or_else(|| unknown(format!("{field}[{at}]"), name, known()))?;
        if parsed.contains(&item) {
            return Err(error(
                format!("{field}[{at}]"),
                format!("{} stands twice", quoted(name)),
                "name each column once",
            ));
        }
        parsed.push(item);
    }
    Ok(parsed)
}

fn metric_list() -> Vec<&'static str> {
    Metric::all().map(Metric::as_str).collect()
}

fn metric_names() -> String {
    metric_list().join(", ")
}

/// An unknown name, with the nearest known one where there is one, else all of them.
fn unknown(field: String, name: &str, known: Vec<&str>) -> ReportError {
    // What is longer than any name is none that was mistyped.
    let characters = Some(name.chars().count()).filter(|count| *count <= QUOTE_CHARS_MAX);
    let nearest = characters.and_then(|count| {
        let (distance, candidate) = known.iter().map(|candidate| (edits(name, candidate), *candidate)).min()?;
        (distance <= 2 || distance * 3 <= count).then_some(candidate)
    });
    let cure = match nearest {
        Some(candidate) => format!("did you mean {candidate:?}?"),
        None => format!("use one of {}", known.join(", ")),
    };
    error(field, format!("{} is not known", quoted(name)), cure)
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{:?}..", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Levenshtein distance, for short names.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn error(field: impl Into<String>, what: impl Into<String>, cure: impl Into<String>) -> ReportError {
    ReportError { field: field.into(), what: what.into(), cure: cure.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(metric: &str) -> ReportError {
        let request = ReportRequest {
            metrics: vec![metric.to_owned()],
            group_by: Vec::new(),
            filters: Vec::new(),
            from: "2019-11-24T00:00:00Z".to_owned(),
            to: "2019-12-01T00:00:00Z".to_owned(),
            time_zone: None,
            order_by: Vec::new(),
            limit: None,
            format: None,
            attribution: None,
            fill: None,
            consistency: None,
        };
        Report::try_from(&request).unwrap_err()
    }

    #[test]
    fn a_wrong_name_is_quoted_in_part_and_not_guessed_at() {
        let long = error_of(&"x".repeat(200_000));
        assert!(long.what.len() < 100, "{} bytes of it were sent back", long.what.len());
        assert!(long.cure.starts_with("use one of "), "{}", long.cure);
        // Nine bytes, and three characters: all of them are wrong.
        let foreign = error_of("点击率");
        assert!(foreign.cure.starts_with("use one of "), "{}", foreign.cure);
        assert_eq!(error_of("gross_click").cure, "did you mean \"gross_clicks\"?");
    }

    fn check(json: &str, says: &str) {
        let request: ReportRequest = serde_json::from_str(json).expect("well-formed");
        match Report::try_from(&request) {
            Ok(report) => panic!("was accepted: {report:?}"),
            Err(error) => assert_eq!(error.to_string(), says),
        }
    }

    #[test]
    fn a_wrong_request_is_told_what_where_and_how_to_mend_it() {
        let request = |rest: &str| {
            format!(r#"{{"metrics":["clicks"],"from":"2019-11-24T00:00:00Z","to":"2019-12-01T00:00:00Z"{rest}}}"#)
        };
        check(
            &request(r#","attribution":"click""#),
            r#"`attribution`: "click" is not known; use one of click_date, conversion_date"#,
        );
        for (wrong, name) in [
            (r#","group_by":["segment"]"#, "segment"),
            (r#","filters":[{"field":"reason","values":["same_id"]}]"#, "reason"),
        ] {
            let says = format!(
                "`attribution`: {name:?} is not known by attribution; leave it out, or leave out `attribution`"
            );
            check(&request(&format!(r#"{wrong},"attribution":"click_date""#)), &says);
        }
        check(
            &request(r#","group_by":["campagn_id"]"#),
            r#"`group_by[0]`: "campagn_id" is not known; did you mean "campaign_id"?"#,
        );
        check(
            &request(r#","order_by":[{"field":"ctr"}]"#),
            r#"`order_by[0].field`: "ctr" is not known; use one of clicks"#,
        );
        check(&request(r#","limit":0"#), "`limit`: 0 rows; ask for at least one row");
        check(
            &request(r#","time_zone":"Mars/Olympus""#),
            r#"`time_zone`: "Mars/Olympus" is not a known time zone; use an IANA name, such as Europe/Berlin or UTC"#,
        );
        check(
            r#"{"metrics":["clicks"],"from":"2019-11-24","to":"2019-12-01T00:00:00Z"}"#,
            r#"`from`: "2019-11-24" is not a time with a zone; write RFC 3339, such as 2019-11-24T00:00:00Z or 2019-11-24T00:00:00+09:00"#,
        );
    }
}
