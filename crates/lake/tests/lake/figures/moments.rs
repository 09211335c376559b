//! One question asked at several moments: what stays, what changes, and what was.

use super::*;
use tally_lake::Moment;

const DAY_US: i64 = 24 * 60 * MINUTE_US;

async fn moment(lake: &Lake, request: &Value) -> (Moment, Report) {
    let request: ReportRequest = serde_json::from_value(request.clone()).unwrap();
    let report = Report::try_from(&request).unwrap();
    (lake.queries().moment(&report).await.unwrap(), report)
}

async fn state(lake: &Lake, request: &Value) -> String {
    let (moment, report) = moment(lake, request).await;
    moment.state(&report)
}

/// 2023-11-14 and the day after it.
fn of_day(day: i64) -> Value {
    let mut request = all_time(&["clicks", "cost_micros"], &["campaign_id"]);
    request["from"] = json!(format!("2023-11-{}T00:00:00Z", 14 + day));
    request["to"] = json!(format!("2023-11-{}T00:00:00Z", 15 + day));
    request
}

fn on_day(day: i64, from: u64, n: u64) -> Vec<Judged> {
    (from..from + n)
        .map(|offset| judged(offset, u128::from(offset), T0_US + day * DAY_US + offset as i64, Verdict::Counted))
        .collect()
}

#[tokio::test]
async fn a_commit_changes_the_state_of_just_the_days_that_got_events() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    commit(&lake, &on_day(0, 0, 20)).await;
    let [first, second] = [state(&lake, &of_day(0)).await, state(&lake, &of_day(1)).await];
    commit(&lake, &on_day(1, 20, 20)).await;
    assert_eq!(state(&lake, &of_day(0)).await, first, "no event of that day came in");
    assert_ne!(state(&lake, &of_day(1)).await, second);
    let both = state(&lake, &all_time(&["clicks"], &[])).await;

    // A late event, whose day was settled.
    commit(&lake, &on_day(0, 40, 1)).await;
    let late = state(&lake, &of_day(0)).await;
    assert_ne!(late, first);
    assert_ne!(state(&lake, &all_time(&["clicks"], &[])).await, both);

    lake.compact(CompactionSettings { files_min: 2, ..CompactionSettings::default() }).await.unwrap();
    let [first, second] = [state(&lake, &of_day(0)).await, state(&lake, &of_day(1)).await];
    let reopened = open(folder.path()).await;
    for (day, before) in [first, second].into_iter().enumerate() {
        assert_eq!(state(&reopened, &of_day(day as i64)).await, before, "other processes call it the same");
    }
}

#[tokio::test]
async fn an_old_report_comes_out_as_it_was_whatever_came_later() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let version = commit(&lake, &on_day(0, 0, 20)).await;
    let then = ask(&lake, of_day(0)).await;
    commit(&lake, &on_day(0, 20, 3)).await;
    commit(&lake, &on_day(1, 23, 5)).await;
    lake.compact(CompactionSettings { files_min: 2, ..CompactionSettings::default() }).await.unwrap();
    let lake = open(folder.path()).await;

    let mut old = of_day(0);
    old["as_of"] = json!(version);
    let again = ask(&lake, old.clone()).await;
    assert_eq!((json!(again.rows), again.meta.table_version), (json!(then.rows), version));
    assert_ne!(json!(ask(&lake, of_day(0)).await.rows), json!(then.rows), "late events count now");

    // What was different then, beside what it is now; the other day was not there at all.
    let mut restated = all_time(&["clicks"], &["day", "campaign_id"]);
    (restated["as_of"], restated["restated"]) = (json!(version), json!(true));
    let told = ask(&lake, restated).await;
    assert_eq!(told.columns, ["day", "campaign_id", "clicks", "clicks_as_of"]);
    let expected = json!([
        ["2023-11-14", "even", 12, 10],
        ["2023-11-14", "odd", 11, 10],
        ["2023-11-15", "even", 2, 0],
        ["2023-11-15", "odd", 3, 0]
    ]);
    assert_eq!(json!(told.rows), expected);

    for (as_of, says) in [(json!(1_000_000), "is yet to come"), (json!("1999-01-01T00:00:00Z"), "does not reach back")]
    {
        old["as_of"] = as_of;
        let request: ReportRequest = serde_json::from_value(old.clone()).unwrap();
        let error = lake.queries().report(&Report::try_from(&request).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("`as_of`"), "{error}");
    }
    // By the clock of whoever committed, which is that of this machine.
    old["as_of"] = json!("2999-01-01T00:00:00Z");
    assert_eq!(json!(ask(&lake, old).await.rows), json!(ask(&lake, of_day(0)).await.rows));
}

#[tokio::test]
async fn few_people_of_a_kind_are_not_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut rows = on_day(0, 0, 200);
    for (at, row) in rows.iter_mut().enumerate() {
        row.event.user_hash = Some(at as u64);
        row.event.gender = Some(["f", "m"][usize::from(at >= 90)].to_owned());
        row.event.segments = vec!["many".to_owned()];
    }
    for row in &mut rows[..4] {
        row.event.gender = Some("x".to_owned());
        row.event.segments.push("rare".to_owned());
    }
    commit(&lake, &rows).await;
    let totals = ask(&lake, of_day(0)).await;

    for source in ["audience_day", "events"] {
        let mut request = all_time(&["clicks", "users"], &["gender"]);
        (request["from"], request["to"]) = (of_day(0)["from"].clone(), of_day(0)["to"].clone());
        if source == "events" {
            request["from"] = json!("2023-11-14T00:00:01Z");
        }
        let answer = ask(&lake, request.clone()).await;
        assert_eq!(answer.meta.source, source);
        // Four people would be all less the others, so that the next larger group is told with them.
        assert_eq!(json!(answer.rows[0]), json!(["(other)", 90, null]));
        assert_eq!(json!(answer.rows[1][..2]), json!(["m", 110]));
        assert!(answer.meta.warnings[0].contains("fewer than 10 people"), "{:?}", answer.meta.warnings);
        request["group_by"] = json!([]);
        for (filter, clicks) in [
            (json!({"field": "gender", "values": ["x"]}), json!([])),
            (json!({"field": "gender", "values": ["m"]}), json!([[110]])),
            (json!({"field": "gender", "op": "not_in", "values": ["m"]}), json!([])),
            (json!({"field": "segment", "values": ["rare"]}), json!([[0]])),
            (json!({"field": "segment", "values": ["rare", "many"]}), json!([[200]])),
        ] {
            (request["metrics"], request["filters"]) = (json!(["clicks"]), json!([filter]));
            assert_eq!(json!(ask(&lake, request.clone()).await.rows), clicks, "{filter} from {source}");
        }
    }
    // The first number of each row.
    let clicks =
        |answer: &Answer| answer.rows.iter().map(|row| row.iter().find_map(Value::as_i64).unwrap()).sum::<i64>();
    let mut request = all_time(&["clicks"], &["campaign_id", "gender"]);
    (request["from"], request["to"]) = (of_day(0)["from"].clone(), of_day(0)["to"].clone());
    assert_eq!(clicks(&ask(&lake, request).await), clicks(&totals), "totals stay");
    let report =
        Report::try_from(&serde_json::from_value::<ReportRequest>(all_time(&["clicks"], &["gender"])).unwrap());
    let all = lake.queries().with_audience_people_min(0).report(&report.unwrap()).await.unwrap();
    assert_eq!(json!(all.rows), json!([["f", 86], ["m", 110], ["x", 4]]), "where all is told");
}
