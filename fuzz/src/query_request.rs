//! Bytes as the body of `POST /v1/query`, with somebody behind it who answers anything. A question is answered in full and
//! in order or told what is wrong; what is told to help does help; and a question survives being written down again.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tally_api::{
    Api, ApiMetrics, CacheSettings, Freshness, Moment, Pieces, Query, QueryError, SqlQuestion, Table, router,
};
use tally_model::analysis::{
    Funnel, FunnelAnswer, HeatMap, HeatMapAnswer, Percentiles, PercentilesAnswer, Sample, SampleAnswer, Step,
};
use tally_model::report::{Answer, AnswerMeta, Base, Report, ReportRequest};
use tally_model::{
    CheckReport, ConversionFilter, ConversionRow, Days, EventId, Format, Life, Listed, Page, Quarantined, Reason,
    report,
};
use tower::ServiceExt;

use crate::runtime;

/// Docs/api.md: rows of a report.
const LIMIT_MAX: usize = 1_000_000;
/// A problem says what is wrong and does not send the question back.
const PROBLEM_BYTES_MAX: usize = 4 << 10;
/// A sum of money beyond it is an error before it gets here.
const MONEY_MAX: i64 = 4_600_000_000_000_000_000;

pub fn check(input: &[u8]) {
    let (status, body) = runtime::block_on(ask(input));
    let question = serde_json::from_slice::<ReportRequest>(input);
    let checked = question.as_ref().ok().map(Report::try_from);
    assert_eq!(status == 200, matches!(checked, Some(Ok(_))), "{status}: {}", String::from_utf8_lossy(&body));
    match (question, checked) {
        (Ok(question), Some(Ok(report))) => {
            check_report(&report);
            check_written_down(&question, &report);
            check_values(&report, input);
            check_answer(&report, &body);
        }
        (Ok(question), Some(Err(error))) => {
            check_problem(status, &body, Some(&error));
            check_cure(&question, &error);
        }
        (Err(error), _) if error.classify() == serde_json::error::Category::Data => check_unreadable(status, &body),
        _ => check_problem(status, &body, None),
    }
}

async fn ask(question: &[u8]) -> (u16, Vec<u8>) {
    let api = Api::new(Arc::new(Anything), ApiMetrics::register(&mut Registry::default()), CacheSettings::default());
    let request = Request::builder().method(Method::POST).uri("/v1/query").body(Body::from(question.to_vec()));
    let Ok(response) = router(api).oneshot(request.expect("nothing in it is in question")).await;
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body in memory is whole");
    (status, body.to_vec())
}

/// Knows an answer to everything, full of what is hard to write.
struct Anything;

/// Whether null and text in quotes, lines and commas come through.
fn rows(columns: usize) -> Vec<Vec<Value>> {
    let values = [json!("a, \"b\"\r\nc"), Value::Null, json!(i64::MIN), json!(0.1), json!("=1+1"), json!("")];
    (0..3).map(|row| (0..columns).map(|column| values[(row + column) % values.len()].clone()).collect()).collect()
}

#[async_trait]
impl Moment for Anything {
    fn version(&self) -> i64 {
        7
    }

    fn state(&self, _: &Report) -> String {
        "7".to_owned()
    }

    fn is_heavy(&self, _: &Report) -> bool {
        false
    }

    async fn answer(&self, report: &Report) -> Result<Answer, QueryError> {
        let columns = report.answer_columns();
        let meta = AnswerMeta { source: "events".into(), table_version: 7, users_error: None, warnings: Vec::new() };
        Ok(Answer { rows: rows(columns.len()), columns, meta })
    }

    async fn explain(&self, _: &Report) -> Result<Value, QueryError> {
        Ok(json!({}))
    }
}

#[async_trait]
impl Query for Anything {
    fn freshness(&self) -> Freshness {
        Freshness { watermark_us: 1_574_553_600_000_000 }
    }

    async fn catch_up(&self) -> Result<(), QueryError> {
        Ok(())
    }

    async fn moment(&self, _: &Report) -> Result<Arc<dyn Moment>, QueryError> {
        Ok(Arc::new(Anything))
    }

    fn encode(&self, answer: Arc<Answer>, format: Format) -> Result<Pieces, QueryError> {
        let told = format!("{} rows as {}", answer.rows.len(), format.as_str());
        Ok(Box::new(std::iter::once(Ok(told.into()))))
    }

    async fn sql(&self, _question: SqlQuestion) -> Result<Table, QueryError> {
        Err(QueryError::Statement("no SQL is asked here".to_owned()))
    }

    async fn check(&self, _recount: bool) -> Result<CheckReport, QueryError> {
        Ok(CheckReport::default())
    }

    async fn check_days(&self, _days: Days) -> Result<CheckReport, QueryError> {
        Ok(CheckReport::default())
    }

    async fn funnel(&self, asked: &Funnel) -> Result<FunnelAnswer, QueryError> {
        let steps = Step::all(&asked.steps, &vec![8; asked.steps.len()]);
        Ok(FunnelAnswer { steps, segments: Vec::new(), table_version: 7 })
    }

    async fn heat_map(&self, asked: &HeatMap) -> Result<HeatMapAnswer, QueryError> {
        Ok(HeatMapAnswer { columns: asked.columns, rows: asked.rows, ..HeatMapAnswer::default() })
    }

    async fn percentiles(&self, _asked: &Percentiles) -> Result<PercentilesAnswer, QueryError> {
        Ok(PercentilesAnswer { groups: Vec::new(), source: "events", table_version: 7, warnings: Vec::new() })
    }

    async fn sample(&self, _asked: &Sample) -> Result<SampleAnswer, QueryError> {
        Ok(SampleAnswer { rows: Vec::new(), matching: 0, table_version: 7 })
    }

    async fn quarantined(&self, _reason: Option<Reason>, _page: Page) -> Result<Listed<Quarantined>, QueryError> {
        Ok(Listed { rows: Vec::new(), next: None })
    }

    async fn conversions(&self, _: &ConversionFilter, _page: Page) -> Result<Listed<ConversionRow>, QueryError> {
        Ok(Listed { rows: Vec::new(), next: None })
    }

    async fn life(&self, id: EventId) -> Result<Life, QueryError> {
        Ok(Life { event_id: id.to_string(), events_version: 7, sightings: Vec::new() })
    }
}

fn check_report(report: &Report) {
    let columns: Vec<_> = report.columns().collect();
    assert!(!report.metrics.is_empty(), "a report of nothing");
    for (at, column) in columns.iter().enumerate() {
        assert!(!columns[..at].contains(column), "two columns are `{column}`");
    }
    assert!(report.from_us < report.to_us, "from {} to {}", report.from_us, report.to_us);
    assert!((1..=LIMIT_MAX).contains(&report.limit), "{} rows", report.limit);
    assert!(report.filters.iter().all(|filter| filter.null || !filter.values.is_empty()), "a filter on nothing");
    assert!(report.order_by.iter().all(|order| order.column < columns.len()), "ordered by a column that is not there");
}

/// The command line writes questions as JSON, and the server reads them.
fn check_written_down(question: &ReportRequest, report: &Report) {
    let written = serde_json::to_string(question).expect("texts and numbers can be written");
    let read: ReportRequest = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    let again = Report::try_from(&read).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(format!("{report:?}"), format!("{again:?}"), "{written}");
}

/// Rates are null where the divisor is 0 and finite elsewhere, whatever was summed.
fn check_values(report: &Report, input: &[u8]) {
    let sum = |base: Base| {
        let seed = input.iter().fold(format!("{base:?}").len() as u64, |seed, byte| {
            (seed ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        match base {
            _ if seed.is_multiple_of(5) => 0,
            Base::CostMicros | Base::RevenueMicros => seed as i64 % MONEY_MAX,
            Base::Events(..) | Base::Users => (seed >> 24) as i64,
        }
    };
    for metric in &report.metrics {
        let zero = metric.bases().last().is_some_and(|divisor| sum(*divisor) == 0);
        match metric.value(sum) {
            report::Value::Whole(whole) => {
                let parts: i128 = metric.bases().iter().map(|base| i128::from(sum(*base))).sum();
                assert_eq!(i128::from(whole), parts, "{metric:?}");
            }
            report::Value::Ratio(ratio) => assert!(ratio.is_finite() && !zero, "{metric:?} is {ratio}"),
            report::Value::Null => assert!(zero, "{metric:?} is null"),
        }
    }
}

fn check_answer(report: &Report, body: &[u8]) {
    let columns = report.answer_columns();
    let expected = rows(columns.len());
    match report.format {
        Format::Json => {
            let answer: Value = serde_json::from_slice(body).expect("an answer in JSON");
            let found = answer["rows"].as_array().expect("rows");
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let found = found.as_object().expect("a row by its columns");
                assert!(found.keys().map(String::as_str).eq(columns.iter().map(String::as_str)), "{found:?}");
                assert!(found.values().eq(expected), "{found:?}");
            }
        }
        Format::Ndjson | Format::Parquet | Format::Arrow => {
            let whole = format!("{} rows as {}", expected.len(), report.format.as_str());
            assert_eq!(body, whole.as_bytes(), "what was encoded is not what is sent");
        }
        Format::Csv => {
            let mut reader = csv::Reader::from_reader(body);
            assert!(reader.headers().expect("a header").iter().eq(columns.iter().map(String::as_str)));
            let found: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let text = |value: &Value| match value {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert!(found.iter().map(str::to_owned).eq(expected.iter().map(text)), "{found:?}");
            }
        }
    }
}

fn check_problem(status: u16, body: &[u8], error: Option<&report::ReportError>) {
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(body));
    assert!(body.len() <= PROBLEM_BYTES_MAX, "a problem of {} bytes: {}", body.len(), String::from_utf8_lossy(body));
    let problem: Value = serde_json::from_slice(body).expect("a problem in JSON");
    let kind = if error.is_some() { "urn:tally:problem:question" } else { "urn:tally:problem:malformed" };
    assert_eq!((&problem["type"], &problem["status"]), (&json!(kind), &json!(400)));
    let says = |key: &str| problem[key].as_str().is_some_and(|text| !text.is_empty());
    assert!(says("title") && says("detail"), "{problem}");
    if let Some(error) = error {
        assert!(says("field") && says("what") && says("cure"), "{problem}");
        assert_eq!(problem["field"], error.field);
    }
}

/// JSON, and no report: the problem names the field, or says of the whole that it is none.
fn check_unreadable(status: u16, body: &[u8]) {
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(body));
    assert!(body.len() <= PROBLEM_BYTES_MAX, "a problem of {} bytes: {}", body.len(), String::from_utf8_lossy(body));
    let problem: Value = serde_json::from_slice(body).expect("a problem in JSON");
    assert_eq!(problem["type"], "urn:tally:problem:question", "{problem}");
    let says = |key: &str| problem[key].as_str().is_some_and(|text| !text.is_empty());
    assert!(says("field") && says("what") && says("cure"), "{problem}");
}

/// Where another name is suggested, it is near the one that was given, and known there.
fn check_cure(question: &ReportRequest, error: &report::ReportError) {
    let Some(known) = error.cure.strip_prefix("did you mean \"").and_then(|rest| rest.strip_suffix("\"?")) else {
        return;
    };
    let mut mended = question.clone();
    let given = std::mem::replace(name_at(&mut mended, &error.field), known.to_owned());
    let (given, near) = (given.chars().count(), known.chars().count());
    // Two letters are wrong, or one in three.
    assert!(given.abs_diff(near) <= 2 || given.abs_diff(near) * 3 <= given, "{error}");
    if let Err(still) = Report::try_from(&mended) {
        // A name that is known may stand there twice now.
        assert!(still.field != error.field || still.what.contains("stands twice"), "{error}; then {still}");
    }
}

/// The name that an error is about: `metrics[0]`, `filters[1].field`.
fn name_at<'a>(question: &'a mut ReportRequest, field: &str) -> &'a mut String {
    let mut parts = field.split(['[', ']']);
    let (list, at) = (parts.next().unwrap_or_default(), parts.next().and_then(|at| at.parse::<usize>().ok()));
    let name = match (list, at, parts.next()) {
        ("metrics", Some(at), _) => question.metrics.get_mut(at),
        ("group_by", Some(at), _) => question.group_by.get_mut(at),
        ("filters", Some(at), Some(".field")) => question.filters.get_mut(at).map(|filter| &mut filter.field),
        ("filters", Some(at), Some(".op")) => question.filters.get_mut(at).and_then(|filter| filter.op.as_mut()),
        ("order_by", Some(at), _) => question.order_by.get_mut(at).map(|order| &mut order.field),
        ("format", None, _) => question.format.as_mut(),
        ("fill", None, _) => question.fill.as_mut(),
        ("attribution", None, _) => question.attribution.as_mut(),
        ("consistency", None, _) => question.consistency.as_mut(),
        ("basis", None, _) => question.basis.as_mut(),
        _ => None,
    };
    name.unwrap_or_else(|| panic!("`{field}` is no field that has names"))
}
