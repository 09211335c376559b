use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value, json};
use tally_model::Place;
use tally_model::analysis::{Distribution, Step};
use tally_model::report::AnswerMeta;
use tower::ServiceExt;

use super::*;

/// Knows one campaign.
struct Fixed;

#[async_trait]
impl Moment for Fixed {
    fn version(&self) -> i64 {
        7
    }

    fn state(&self, _: &Report) -> String {
        "7".to_owned()
    }

    fn is_heavy(&self, _: &Report) -> bool {
        false
    }

    async fn explain(&self, _: &Report) -> Result<Value, QueryError> {
        Ok(json!({"source": "campaign_day"}))
    }

    async fn answer(&self, report: &Report) -> Result<Answer, QueryError> {
        Ok(Answer {
            columns: report.answer_columns(),
            rows: vec![vec![json!("a, \"b\""), json!(3), Value::Null]],
            meta: AnswerMeta {
                source: "campaign_day".to_owned(),
                table_version: 7,
                users_error: None,
                warnings: Vec::new(),
            },
        })
    }
}

#[async_trait]
impl Query for Fixed {
    fn freshness(&self) -> Freshness {
        Freshness { watermark_us: 1_574_553_600_000_000 }
    }

    /// Takes a moment.
    async fn catch_up(&self) -> Result<(), QueryError> {
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn moment(&self, _: &Report) -> Result<Arc<dyn Moment>, QueryError> {
        Ok(Arc::new(Fixed))
    }

    fn encode(&self, answer: Arc<Answer>, format: Format) -> Result<Pieces, QueryError> {
        let told = format!("{} rows as {}", answer.rows.len(), format.as_str());
        Ok(Box::new(std::iter::once(Ok(told.into()))))
    }

    async fn sql(&self, question: SqlQuestion) -> Result<Table, QueryError> {
        if question.statement.starts_with("DROP") {
            return Err(QueryError::Statement("DropTable is not done here".to_owned()));
        }
        let lines = ["{\"n\":1}\n{\"n\":2}\n", "{\"n\":3}\n"].map(|lines| Ok(lines.into()));
        let broken = question.statement.ends_with("broken").then(|| Err(QueryError::Failed("a disk".to_owned())));
        let body = futures::stream::iter(lines.into_iter().chain(broken)).boxed();
        Ok(Table { columns: vec![("n".to_owned(), "bigint")], table_version: 7, body })
    }

    /// Takes a while, and tells in `received` how many were asked of it.
    async fn check(&self, recount: bool) -> Result<CheckReport, QueryError> {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let received = ASKED.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut report = CheckReport { recounted: recount, received, ..CheckReport::default() };
        if recount {
            report.expect(|| "clicks".to_owned(), 1, 2);
        }
        Ok(report)
    }

    async fn check_days(&self, days: Days) -> Result<CheckReport, QueryError> {
        let mut report = CheckReport { recounted: true, ..CheckReport::default() };
        report.expect(|| days.to_string(), 1, 2);
        Ok(report)
    }

    async fn life(&self, id: EventId) -> Result<Life, QueryError> {
        Ok(Life { event_id: id.to_string(), events_version: 7, sightings: Vec::new() })
    }

    async fn funnel(&self, asked: &Funnel) -> Result<FunnelAnswer, QueryError> {
        let steps = Step::all(&asked.steps, &vec![8; asked.steps.len()]);
        Ok(FunnelAnswer { steps, segments: Vec::new(), table_version: 7 })
    }

    async fn heat_map(&self, asked: &HeatMap) -> Result<HeatMapAnswer, QueryError> {
        Ok(HeatMapAnswer { columns: asked.columns, rows: asked.rows, ..HeatMapAnswer::default() })
    }

    async fn percentiles(&self, asked: &Percentiles) -> Result<PercentilesAnswer, QueryError> {
        let percentiles = asked.percentiles.iter().map(|percentile| json!(percentile)).collect();
        let group = asked.about.group_by.iter().map(|_| None).collect();
        let one = Distribution { group, count: 4, sum: json!(10), percentiles, ..Distribution::default() };
        Ok(PercentilesAnswer { groups: vec![one], source: "events", table_version: 7, warnings: Vec::new() })
    }

    async fn sample(&self, asked: &Sample) -> Result<SampleAnswer, QueryError> {
        let row = Map::from_iter([("seed".to_owned(), json!(asked.seed))]);
        Ok(SampleAnswer { rows: vec![row; asked.size], matching: 1_000, table_version: 7 })
    }

    async fn quarantined(&self, reason: Option<Reason>, page: Page) -> Result<Listed<Quarantined>, QueryError> {
        let listed = Quarantined {
            event_id: "e".to_owned(),
            partition: 1,
            offset: i64::try_from(page.limit).unwrap_or_default(),
            received_at: String::new(),
            occurred_at: String::new(),
            kind: "click".to_owned(),
            campaign_id: String::new(),
            reason: reason.map_or("any", Reason::as_str).to_owned(),
            why: String::new(),
        };
        Ok(Listed { rows: vec![listed], next: page.after })
    }

    async fn conversions(&self, filter: &ConversionFilter, page: Page) -> Result<Listed<ConversionRow>, QueryError> {
        // As many as are asked for, each of which says what was asked.
        let rows = vec![
            ConversionRow {
                event_id: String::new(),
                transaction_id: String::new(),
                txn_id: filter.txn_id.clone(),
                status: filter.status.map_or("any", |status| status.as_str()).to_owned(),
                verdict: String::new(),
                received_at: String::new(),
                occurred_at: String::new(),
                revenue_micros: 0,
                currency: None,
                resolution: filter.resolution.map_or("any", |resolution| resolution.as_str()).to_owned(),
                click_id: None,
                touch_id: None,
                touched_at: None,
                campaign_id: None,
                ad_id: None,
                time_to_convert_s: None,
            };
            page.limit
        ];
        Ok(Listed { rows, next: page.after })
    }
}

async fn send(method: &str, path: &str, body: &str) -> (StatusCode, String, String) {
    let app =
        router(Api::new(Arc::new(Fixed), ApiMetrics::register(&mut Registry::default()), CacheSettings::default()));
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = app.oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

fn question(rest: &str) -> String {
    format!(
        r#"{{"metrics":["clicks","ctr"],"group_by":["campaign_id"],"from":"2019-11-24T00:00:00Z","to":"2019-12-01T00:00:00Z"{rest}}}"#
    )
}

#[tokio::test]
async fn a_report_comes_as_rows_with_their_provenance() {
    let (status, _, body) = send("POST", "/v1/query", &question("")).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["rows"], json!([{"campaign_id": "a, \"b\"", "clicks": 3, "ctr": null}]));
    assert_eq!(body["meta"]["source"], "campaign_day");
    assert_eq!(body["meta"]["watermark"], "2019-11-24T00:00:00.000Z");
    assert_eq!(body["meta"]["table_version"], 7);
}

#[tokio::test]
async fn csv_is_quoted_where_it_must_be() {
    let (status, kind, body) = send("POST", "/v1/query", &question(r#","format":"csv""#)).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "text/csv; charset=utf-8"));
    assert_eq!(body, "campaign_id,clicks,ctr\n\"a, \"\"b\"\"\",3,\n");
}

#[tokio::test]
async fn wrong_questions_are_told_what_is_wrong() {
    for (body, says) in [
        ("{", "the body is not the expected JSON"),
        (r#"{"metric":["clicks"]}"#, r#"`metric`: \"metric\" is not known; did you mean \"metrics\"?"#),
        (r#"{"metrics":["clicks"],"from":1}"#, "`from`: invalid type: integer `1`, expected a string"),
        (r#"{"metrics":["clicks"]}"#, "`from`: it is missing"),
        (
            &question(r#","filters":[{"feild":"country","values":["DE"]}]"#),
            r#"`filters[0].feild`: \"feild\" is not known; did you mean \"field\"?"#,
        ),
        (&question(r#","format":"xml""#), "\"xml\" is not known; use one of json, csv"),
        (&question(r#","filters":[{"field":"contry","values":["DE"]}]"#), "did you mean \\\"country\\\"?"),
    ] {
        let (status, kind, answer) = send("POST", "/v1/query", body).await;
        assert_eq!((status, kind.as_str()), (StatusCode::BAD_REQUEST, "application/problem+json"), "{answer}");
        assert!(answer.replace("\\\"", "\"").contains(&says.replace("\\\"", "\"")), "{answer}");
    }
    assert_eq!(send("GET", "/v1/events/nonsense", "").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(send("GET", "/v1/events/1b77f811-2a29-52a0-accf-20ec92eb1587", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(send("GET", "/v1/verify?recount=perhaps", "").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_wrong_question_is_not_sent_back_whole() {
    let long = "\u{1F600}".repeat(50_000);
    for body in [format!(r#"{{"{long}":1}}"#), format!(r#"{{"metrics":["{long}"],"from":"","to":""}}"#)] {
        let (status, _, answer) = send("POST", "/v1/query", &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.len() < 4_096, "an answer of {} bytes", answer.len());
    }
}

#[tokio::test]
async fn a_contradiction_shows_in_the_status() {
    assert_eq!(send("GET", "/v1/verify", "").await.0, StatusCode::OK);
    assert_eq!(send("GET", "/v1/verify?recent=true", "").await.0, StatusCode::OK);
    assert_eq!(send("GET", "/v1/verify?recent=true&recount=true", "").await.0, StatusCode::BAD_REQUEST);
    let (status, _, body) = send("GET", "/v1/verify?recount=true", "").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains(r#"{"place":"clicks","expected":1,"found":2}"#), "{body}");
}

#[tokio::test]
async fn a_recent_proof_serves_all_who_ask_and_others_get_one_of_their_own() {
    let app =
        router(Api::new(Arc::new(Fixed), ApiMetrics::register(&mut Registry::default()), CacheSettings::default()));
    let ask = async |parameters: &str| -> Value {
        let request = Request::get(format!("/v1/verify{parameters}")).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        serde_json::from_slice(&axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap()
    };
    let (one, other) = tokio::join!(ask("?recent=true"), ask("?recent=true"));
    assert_eq!(one["report"]["received"], other["report"]["received"], "they waited for the same one");
    let later = ask("?recent=true").await;
    assert_eq!(later["report"]["received"], one["report"]["received"]);
    let own = ask("").await;
    assert_ne!(own["report"]["received"], one["report"]["received"]);
    assert_eq!(own["age_ms"], 0);
}

#[tokio::test]
async fn who_waits_for_what_is_acknowledged_is_counted_while_that_lasts() {
    let metrics = ApiMetrics::register(&mut Registry::default());
    let app = router(Api::new(Arc::new(Fixed), metrics.clone(), CacheSettings::default()));
    let ask = || {
        let body = Body::from(question(r#","consistency":"acknowledged""#));
        Box::pin(app.clone().oneshot(Request::post("/v1/query").body(body).unwrap()))
    };
    let (mut stays, mut leaves) = (ask(), ask());
    assert!(futures::poll!(&mut stays).is_pending() && futures::poll!(&mut leaves).is_pending());
    assert_eq!(metrics.catching_up.get(), 2);
    drop(leaves);
    assert_eq!(metrics.catching_up.get(), 1);
    assert_eq!(stays.await.unwrap().status(), StatusCode::OK);
    assert_eq!(metrics.catching_up.get(), 0);
}

#[tokio::test]
async fn caches_on_the_way_keep_what_is_closed_and_never_an_answer_that_has_all_that_was_acknowledged() {
    let app =
        router(Api::new(Arc::new(Fixed), ApiMetrics::register(&mut Registry::default()), CacheSettings::default()));
    let of_closed = r#""metrics":["clicks"],"from":"2019-11-01T00:00:00Z","to":"2019-11-24T00:00:00Z""#;
    let of_open = r#""metrics":["clicks"],"from":"2019-11-01T00:00:00Z","to":"2019-11-25T00:00:00Z""#;
    for (question, lasts) in [
        (format!("{{{of_closed}}}"), "public, max-age=60"),
        (format!("{{{of_open}}}"), "public, no-cache"),
        (format!(r#"{{{of_closed},"consistency":"exact"}}"#), "public, max-age=60"),
        (format!(r#"{{{of_closed},"consistency":"acknowledged"}}"#), "public, no-cache"),
        (format!(r#"{{{of_open},"as_of":7}}"#), "public, max-age=86400"),
        (format!(r#"{{{of_open},"as_of":7,"restated":true}}"#), "public, no-cache"),
    ] {
        let request = Request::post("/v1/query").body(Body::from(question.clone())).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let told = response.headers().get("cache-control").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(told.as_deref(), Some(lasts), "{question}");
    }
}

#[tokio::test]
async fn a_recount_takes_whole_days() {
    let (status, _, body) = send("GET", "/v1/verify?recount=true&from=2024-02-29&to=2024-03-01", "").await;
    assert!(status == StatusCode::CONFLICT && body.contains("2024-02-29 to 2024-03-01"), "{body}");
    for wrong in ["from=2024-02-29&to=2024-03-01", "recount=true&from=2024-02-29", "recount=true&from=x&to=2024-03-01"]
    {
        let (status, _, body) = send("GET", &format!("/v1/verify?{wrong}"), "").await;
        assert!(status == StatusCode::BAD_REQUEST && body.contains("whole UTC days"), "{wrong}: {body}");
    }
}

#[tokio::test]
async fn the_quarantine_is_listed_by_reason_within_a_bound() {
    for (asked, reason, limit) in
        [("", "any", 100), ("?reason=undecodable&limit=7", "undecodable", 7), ("?limit=10000", "any", 10_000)]
    {
        let (status, _, body) = send("GET", &format!("/v1/quarantine{asked}"), "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&body["events"][0]["reason"], &body["events"][0]["offset"]), (&json!(reason), &json!(limit)));
    }
    for (wrong, says) in [
        ("?reason=same_id", "click_unresolved, not_approved, undecodable, judging_failed"),
        ("?limit=0", "1 to 10000"),
        ("?limit=10001", "1 to 10000"),
        ("?limit=many", "limit"),
    ] {
        let (status, _, body) = send("GET", &format!("/v1/quarantine{wrong}"), "").await;
        assert!(status == StatusCode::BAD_REQUEST && body.contains(says), "{wrong}: {body}");
    }
}

#[tokio::test]
async fn rows_of_sql_come_as_one_document_or_as_they_are() {
    let (status, kind, body) = send("POST", "/v1/sql", r#"{"sql":"SELECT n"}"#).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json"));
    assert_eq!(body["columns"], json!([{"name": "n", "type": "bigint"}]));
    assert_eq!(body["rows"], json!([{"n": 1}, {"n": 2}, {"n": 3}]));
    assert_eq!((&body["meta"]["row_count"], &body["meta"]["table_version"]), (&json!(3), &json!(7)));
    let (_, kind, body) = send("POST", "/v1/sql", r#"{"sql":"SELECT n","format":"ndjson"}"#).await;
    assert_eq!((kind.as_str(), body.lines().count()), ("application/x-ndjson", 3));
}

#[tokio::test]
async fn what_is_wrong_with_sql_is_told_and_an_answer_that_breaks_off_never_looks_whole() {
    let (status, kind, body) = send("POST", "/v1/sql", r#"{"sql":"DROP TABLE events"}"#).await;
    assert_eq!((status, kind.as_str()), (StatusCode::BAD_REQUEST, "application/problem+json"));
    assert!(body.contains("urn:tally:problem:statement"), "{body}");
    let (status, _, body) = send("POST", "/v1/sql", r#"{"sql":"SELECT n","format":"xlsx"}"#).await;
    assert!(status == StatusCode::BAD_REQUEST && body.contains("json, csv, ndjson, parquet, arrow"), "{body}");
    let (_, _, body) = send("POST", "/v1/sql", r#"{"sql":"SELECT n","time_limit_ms":0}"#).await;
    assert!(body.contains("use 1 to 120000"), "{body}");

    let app =
        router(Api::new(Arc::new(Fixed), ApiMetrics::register(&mut Registry::default()), CacheSettings::default()));
    let request =
        Request::builder().method("POST").uri("/v1/sql").body(Body::from(r#"{"sql":"SELECT broken"}"#)).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert!(axum::body::to_bytes(response.into_body(), 1 << 20).await.is_err(), "half an answer looks whole");
}

#[tokio::test]
async fn a_report_comes_in_the_formats_of_engines_too_with_its_provenance_in_headers() {
    let (status, kind, body) = send("POST", "/v1/query", &question(r#","format":"parquet""#)).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/vnd.apache.parquet"));
    assert_eq!(body, "1 rows as parquet");
}

#[tokio::test]
async fn conversions_are_listed_by_what_is_asked_within_a_bound() {
    let (status, _, body) =
        send("GET", "/v1/conversions?status=pending&resolution=unresolved&txn_id=7&limit=2", "").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    let listed = &body["conversions"];
    assert_eq!((status, listed.as_array().unwrap().len()), (StatusCode::OK, 2));
    assert_eq!(
        (&listed[0]["status"], &listed[0]["resolution"], &listed[0]["txn_id"]),
        (&json!("pending"), &json!("unresolved"), &json!("7"))
    );
    for (wrong, says) in [
        ("?status=aproved", r#""field":"status""#),
        ("?status=aproved", r#"did you mean \"approved\"?"#),
        ("?status=maybe", "approved, pending, rejected"),
        ("?limt=3", r#"did you mean \"limit\"?"#),
        ("?cursor=nonsense", r#""field":"cursor""#),
        ("?resolution=maybe", "click_id, last_click, last_view, unresolved"),
        ("?limit=10001", "1 to 10000"),
        ("?clickid=1", "clickid"),
    ] {
        let (status, _, body) = send("GET", &format!("/v1/conversions{wrong}"), "").await;
        assert!(status == StatusCode::BAD_REQUEST && body.contains(says), "{wrong}: {body}");
    }
}

#[tokio::test]
async fn figures_of_time_that_is_not_closed_are_refused_where_exact_ones_are_asked_for() {
    let (status, _, body) = send("POST", "/v1/query", &question(r#","consistency":"exact""#)).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["closed_until"]), (StatusCode::CONFLICT, &json!("2019-11-24T00:00:00.000Z")));
    let closed =
        r#"{"metrics":["clicks"],"from":"2019-11-01T00:00:00Z","to":"2019-11-24T00:00:00Z","consistency":"exact"}"#;
    let (status, _, body) = send("POST", "/v1/query", closed).await;
    assert!(status == StatusCode::OK && body.contains(r#""closed":true"#), "{body}");
    let (_, _, body) = send("POST", "/v1/query", &question(r#","consistency":"exactly""#)).await;
    assert!(body.contains("did you mean"), "{body}");
}

#[tokio::test]
async fn what_is_wrong_with_an_analysis_names_its_field_and_the_cure() {
    let (_, _, catalog) = send("GET", "/v1/catalog", "").await;
    assert!(catalog.contains(r#""name":"cpm""#), "{catalog}");
    let period = r#""from":"2019-11-24T00:00:00Z","to":"2019-12-01T00:00:00Z""#;
    for (path, rest, field) in [
        ("ab-test", r#""metric":"cpm","split":"variant","control":"a""#, "metric"),
        ("ab-test", r#""metric":"ctr","split":"varient","control":"a""#, "split"),
        ("ab-test", r#""metric":"ctr","split":"campaign_id","control":"nobody""#, "control"),
        ("ab-test", r#""metric":"ctr","split":"campaign_id","control":"a","confidence":1"#, "confidence"),
        ("compare", r#""metrics":["clicks"],"group_by":["day"]"#, "group_by"),
        ("forecast", r#""metric":"ctr","unit":"day","horizon":7"#, "metric"),
        ("forecast", r#""metric":"clicks","unit":"minute","horizon":7"#, "unit"),
        ("top", r#""dimension":"country","metric":"clicks","k":0"#, "k"),
        ("funnel", r#""steps":[{"kind":"click"}]"#, "steps"),
        ("funnel", r#""steps":[{"kind":"click"},{"kind":"sale"}]"#, "steps[1].kind"),
        ("heatmap", r#""columns":1000"#, "columns"),
        ("percentiles", r#""property":"cost_micro""#, "property"),
        ("percentiles", r#""property":"props.""#, "property"),
        ("percentiles", r#""property":"cost_micros","percentiles":[50,101]"#, "percentiles[1]"),
        ("percentiles", r#""property":"cost_micros","percentiles":[]"#, "percentiles"),
        ("percentiles", r#""property":"cost_micros","group_by":["ad_id","day"]"#, "group_by[1]"),
        ("percentiles", r#""property":"cost_micros","group_by":["ad_id","os","region","device"]"#, "group_by"),
        ("percentiles", r#""property":"time_to_convert_s","group_by":["segment"]"#, "group_by[0]"),
        (
            "percentiles",
            r#""property":"time_to_convert_s","filters":[{"field":"kind","values":["click"]}]"#,
            "filters[0].field",
        ),
        ("sample", r#""size":10001"#, "size"),
        ("sample", r#""seed":9007199254740992"#, "seed"),
        ("series", r#""metric":"users","unit":"day""#, "metric"),
        ("series", r#""metric":"clicks","unit":"minute""#, "unit"),
        ("series", r#""metric":"clicks","unit":"day","windows":0"#, "windows"),
    ] {
        let (status, _, body) = send("POST", &format!("/v1/analyses/{path}"), &format!("{{{period},{rest}}}")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, body["field"].as_str()), (StatusCode::BAD_REQUEST, Some(field)), "{path} {rest}: {body}");
    }
}

#[tokio::test]
async fn percentiles_come_by_name_and_a_sample_with_the_seed_that_draws_it_again() {
    let period = r#""from":"2019-11-24T00:00:00Z","to":"2019-12-01T00:00:00Z""#;
    let ask = async |path: &str, rest: &str| -> Value {
        let (status, _, body) = send("POST", &format!("/v1/analyses/{path}"), &format!("{{{period}{rest}}}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let answer =
        ask("percentiles", r#","property":"props.price","percentiles":[50,99.9],"group_by":["country"]"#).await;
    let row = json!({"country": null, "count": 4, "sum": 10, "average": 2.5, "least": null, "greatest": null, "p50": 50.0, "p99.9": 99.9});
    assert_eq!(
        (&answer["rows"], &answer["exact"], &answer["meta"]["table_version"]),
        (&json!([row]), &json!(true), &json!(7))
    );

    let drawn = ask("sample", r#","size":3"#).await;
    assert_eq!((drawn["rows"].as_array().unwrap().len(), &drawn["matching"]), (3, &json!(1_000)));
    assert_eq!(drawn["rows"][0]["seed"], drawn["seed"]);
    let again = ask("sample", &format!(r#","seed":{}"#, drawn["seed"])).await;
    assert_eq!((again["rows"].as_array().unwrap().len(), &again["seed"]), (100, &drawn["seed"]));
    assert_ne!(ask("sample", "").await["seed"], drawn["seed"], "a seed that nobody gave is a new one");
}

#[tokio::test]
async fn a_cursor_is_passed_on_and_told_again() {
    let place = Place { received_at_us: 1_574_553_600_000_000, partition: 3, offset: 77 };
    for list in ["conversions", "quarantine"] {
        let (status, _, body) = send("GET", &format!("/v1/{list}?cursor={}", place.cursor()), "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["next"]), (StatusCode::OK, &json!(place.cursor())), "{list}");
        let (_, _, body) = send("GET", &format!("/v1/{list}"), "").await;
        assert!(body.ends_with(r#""next":null}"#), "{list}: {body}");
    }
}
