//! A request checked: every name resolved, every time an instant.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::wrong::{error, quoted, unknown};
use super::{
    AsOfRequest, Base, Basis, Booking, Dimension, FilterRequest, GroupBy, Metric, OrderRequest, ReportError,
    ReportRequest,
};
use crate::Format;

/// Rows that a report may answer with when no `limit` is given, and at most.
const LIMIT_DEFAULT: usize = 10_000;
const LIMIT_MAX: usize = 1_000_000;

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
    pub consistency: Consistency,
    pub basis: Basis,
    /// Says how it is answered.
    pub explains: bool,
    pub as_of: Option<AsOf>,
    /// Only what is different now from what it was then.
    pub is_restated: bool,
}

/// How new the figures must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// What is in by now.
    Freshest,
    /// All that was acknowledged before the question.
    Acknowledged,
    /// Of closed time only.
    Exact,
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// A version of `events`.
    Version(i64),
    /// Microseconds since the Unix epoch.
    Time(i64),
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
    /// The names of the answer's columns, from the left: where it is compared with an earlier one, each figure stands twice.
    pub fn answer_columns(&self) -> Vec<String> {
        let groups = self.group_by.iter().map(|group| group.as_str().to_owned());
        let metrics = self.metrics.iter().map(|metric| metric.as_str().to_owned());
        match self.is_restated {
            false => groups.chain(metrics).collect(),
            true => groups.chain(metrics.flat_map(|name| [name.clone(), format!("{name}_as_of")])).collect(),
        }
    }

    /// Whether it counts people, for which sketches of them have to be merged.
    pub fn needs_users(&self) -> bool {
        self.metrics.iter().any(|metric| metric.bases().contains(&Base::Users))
    }

    /// The names that it can be ordered by, from the left.
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
            consistency: consistency(request.consistency.as_deref())?,
            basis: basis(request.basis.as_deref())?,
            explains: request.explain,
            as_of: as_of(request.as_of.as_ref())?,
            is_restated: request.restated,
        };
        check_attributed(&report)?;
        check_fill(&report)?;
        check_as_of(&report)?;
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

fn consistency(name: Option<&str>) -> Result<Consistency, ReportError> {
    match name {
        None | Some("freshest") => Ok(Consistency::Freshest),
        Some("acknowledged") => Ok(Consistency::Acknowledged),
        Some("exact") => Ok(Consistency::Exact),
        Some(other) => Err(unknown("consistency".to_owned(), other, vec!["freshest", "acknowledged", "exact"])),
    }
}

fn basis(name: Option<&str>) -> Result<Basis, ReportError> {
    match name {
        None | Some("net") => Ok(Basis::Net),
        Some("gross") => Ok(Basis::Gross),
        Some(other) => Err(unknown("basis".to_owned(), other, vec!["net", "gross"])),
    }
}

fn as_of(request: Option<&AsOfRequest>) -> Result<Option<AsOf>, ReportError> {
    match request {
        None => Ok(None),
        Some(AsOfRequest::Time(text)) => Ok(Some(AsOf::Time(instant("as_of", text)?))),
        Some(AsOfRequest::Version(version)) => Ok(Some(AsOf::Version(i64::try_from(*version).unwrap_or(i64::MAX)))),
    }
}

fn check_as_of(report: &Report) -> Result<(), ReportError> {
    match report.as_of {
        Some(_) if report.attribution.is_some() => Err(error(
            "as_of",
            "what a conversion is owed to is known as of now only",
            "leave it out, or leave out `attribution`",
        )),
        None if report.is_restated => {
            Err(error("restated", "there is nothing to compare with", "say since when, in `as_of`"))
        }
        _ => Ok(()),
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
    let gross = Some("gross").filter(|_| report.basis == Basis::Gross);
    let mut wrong = metrics.chain(groups).chain(filters).chain(gross);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(metric: &str) -> ReportError {
        let request = ReportRequest {
            metrics: vec![metric.to_owned()],
            from: "2019-11-24T00:00:00Z".to_owned(),
            to: "2019-12-01T00:00:00Z".to_owned(),
            ..ReportRequest::default()
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
