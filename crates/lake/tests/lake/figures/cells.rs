//! Reports from cells in memory beside the same ones from the files.

use std::cell::Cell;

use super::*;
use proptest::prelude::*;

const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// Various in every field that a rollup has.
fn various(offset: u64) -> Judged {
    let dice = offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let pick = |shift: u32, of: u64| (dice >> shift) % of;
    let at_us = T0_US + (pick(0, 40) as i64 - 20) * DAY_US / 7 + pick(5, 90) as i64 * MINUTE_US;
    let verdict = match pick(9, 6) {
        0 => Verdict::Not(Reason::SameId),
        1 => Verdict::Not(Reason::DeclaredBot),
        _ => Verdict::Counted,
    };
    let mut judged = judged(offset, u128::from(dice), at_us, verdict);
    let event = &mut judged.event;
    event.kind = Kind::ALL[pick(13, 3) as usize];
    event.campaign_id = ["", "a", "b", "c \"quoted\""][pick(15, 4) as usize].to_owned();
    event.ad_id = format!("ad {}", pick(17, 3));
    event.variant = [None, Some("x"), Some("y")][pick(19, 3) as usize].map(str::to_owned);
    event.currency = [None, Some("EUR"), Some("USD")][pick(21, 3) as usize].map(str::to_owned);
    event.gender = [None, Some("f"), Some("m")][pick(23, 3) as usize].map(str::to_owned);
    event.age_group = [None, Some("18-24"), Some("65+")][pick(25, 3) as usize].map(str::to_owned);
    event.user_hash = (pick(27, 4) > 0).then_some(pick(29, 60));
    event.cost_micros = pick(31, 3) as i64 * 1_000;
    event.revenue_micros = pick(33, 2) as i64 * 7;
    judged.device = Device::of([None, Some("curl/8"), Some("Mozilla/5.0 (Windows NT 10.0)")][pick(35, 3) as usize]);
    judged
}

async fn filled(folder: &Path) -> Lake {
    let lake = open(folder).await.with_cells_bytes(64 << 20);
    for part in (0..1_200).collect::<Vec<u64>>().chunks(150) {
        let rows: Vec<Judged> = part.iter().map(|offset| various(*offset)).collect();
        commit(&lake, &rows).await;
        if part[0] == 600 {
            lake.compact(CompactionSettings { files_min: 2, ..CompactionSettings::default() }).await.unwrap();
        }
    }
    lake
}

fn questions() -> impl Strategy<Value = Value> {
    let metrics = prop::sample::subsequence(
        vec![
            "impressions",
            "gross_clicks",
            "clicks",
            "conversions",
            "ctr",
            "cost_micros",
            "revenue_micros",
            "roas",
            "users",
        ],
        1..5,
    );
    let groups = prop::sample::select(vec![
        vec![],
        vec!["campaign_id"],
        vec!["ad_id", "variant"],
        vec!["day"],
        vec!["campaign_id", "hour"],
        vec!["minute"],
        vec!["month", "currency"],
        vec!["country", "region"],
        vec!["age_group", "gender"],
        vec!["week", "device", "os", "browser"],
    ]);
    let filter = prop::sample::select(vec![
        json!({"field": "campaign_id", "values": ["a", "c \"quoted\"", "a", "unknown"]}),
        json!({"field": "campaign_id", "op": "not_in", "values": ["a"]}),
        json!({"field": "campaign_id", "values": ["unknown"]}),
        json!({"field": "currency", "values": [null, "EUR"]}),
        json!({"field": "currency", "op": "not_in", "values": ["EUR"]}),
        json!({"field": "currency", "op": "not_in", "values": [null, "USD"]}),
    ]);
    let zone = prop::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Kathmandu"]);
    let range = prop::sample::select(vec![
        ("2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z"),
        ("2023-11-14T00:00:00Z", "2023-11-16T00:00:00Z"),
        ("2023-11-14T22:00:00Z", "2023-11-14T23:00:00Z"),
        ("2023-11-14T22:13:00Z", "2023-11-15T03:14:00Z"),
        ("2030-01-01T00:00:00Z", "2030-02-01T00:00:00Z"),
    ]);
    (metrics, groups, prop::collection::vec(filter, 0..3), zone, range).prop_map(
        |(metrics, groups, filters, zone, (from, to))| {
            json!({"metrics": metrics, "group_by": groups, "filters": filters, "time_zone": zone, "from": from, "to": to})
        },
    )
}

#[test]
fn cells_in_memory_tell_what_the_files_tell() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let lake = runtime.block_on(filled(folder.path()));
    let by_files = lake.clone().with_cells_bytes(0);
    let (in_memory, rows) = (Cell::new(0), Cell::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let done = runner.run(&questions(), |question| {
        let request: ReportRequest = serde_json::from_value(question.clone()).unwrap();
        let report = Report::try_from(&request).unwrap();
        let answers = runtime.block_on(async {
            let moment = lake.queries().moment(&report).await.unwrap();
            let explained = moment.explain(&report).await.unwrap();
            (moment.answer(&report).await.unwrap(), by_files.queries().report(&report).await.unwrap(), explained)
        });
        in_memory.set(in_memory.get() + u32::from(answers.2["in_memory"] == json!(true)));
        rows.set(rows.get() + answers.0.rows.len());
        prop_assert_eq!((answers.0.rows, answers.0.meta.warnings), (answers.1.rows, answers.1.meta.warnings));
        Ok(())
    });
    done.unwrap();
    assert!(in_memory.get() > 200 && rows.get() > 3_000, "{in_memory:?} answers from memory, {rows:?} rows");
}

#[tokio::test]
async fn what_is_not_in_memory_is_answered_from_files_and_is_there_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let lake = open(folder.path()).await.with_cells_bytes(64 << 20);
    assert_eq!(lake.cells_bytes(), 0);
    // Without sketches first, which take most of the room: a question about users needs the files again.
    let mut bytes = 0;
    for metrics in [&["clicks"][..], &["clicks", "users"]] {
        let request: ReportRequest = serde_json::from_value(all_time(metrics, &["campaign_id"])).unwrap();
        let report = Report::try_from(&request).unwrap();
        let moment = lake.queries().moment(&report).await.unwrap();
        let is_in_memory = async || moment.explain(&report).await.unwrap()["in_memory"] == json!(true);
        let cold = moment.answer(&report).await.unwrap();
        assert_eq!(cold.rows.len(), 4);
        for _ in 0..1_000 {
            if is_in_memory().await {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(is_in_memory().await && lake.cells_bytes() > bytes, "{metrics:?}: {} bytes", lake.cells_bytes());
        bytes = lake.cells_bytes();
        assert_eq!(moment.answer(&report).await.unwrap().rows, cold.rows);

        let tight = open(folder.path()).await.with_cells_bytes(10_000);
        let moment = tight.queries().moment(&report).await.unwrap();
        assert_eq!(moment.answer(&report).await.unwrap().rows, cold.rows);
        assert!(tight.cells_bytes() <= 10_000, "{} bytes", tight.cells_bytes());
    }
}

#[tokio::test]
async fn a_past_that_is_loaded_at_once_is_cut_so_that_a_report_reads_no_more_than_its_own() {
    let (at_once, bit_by_bit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rows: Vec<Judged> = (0..20_000)
        .map(|offset| {
            let mut judged = various(offset);
            judged.event.ad_id = format!("ad {offset}");
            judged.event.occurred_at_us = T0_US + (offset % 2_000) as i64 * MINUTE_US;
            judged
        })
        .collect();
    let lake = open(at_once.path()).await;
    commit(&lake, &rows).await;
    let question = all_time(&["clicks", "impressions", "cost_micros", "users"], &["campaign_id", "day", "currency"]);
    let request: ReportRequest = serde_json::from_value(question.clone()).unwrap();
    let report = Report::try_from(&request).unwrap();
    let explained = lake.queries().moment(&report).await.unwrap().explain(&report).await.unwrap();
    assert_eq!((&explained["source"], &explained["files"]), (&json!("campaign_day"), &json!(1)), "{explained}");

    let other = open(bit_by_bit.path()).await;
    for part in rows.chunks(4_000) {
        commit(&other, part).await;
    }
    assert_eq!(ask(&lake, question.clone()).await.rows, ask(&other, question).await.rows);
}
