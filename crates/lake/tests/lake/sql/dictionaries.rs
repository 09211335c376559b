//! Columns that are read as dictionaries give what they give as texts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tally_lake::{Lake, Sql};
use tally_model::{Country, Judged, ManualClock, Reason, Region, Verdict};

use super::clicks::{T0_US, ask, commit, judged};

/// Texts that repeat, and some that are not there; each commit has texts that the others do not.
fn event(offset: u64) -> Judged {
    let mut row = judged(offset);
    let event = &mut row.event;
    event.campaign_id = format!("campaign {}", (offset * 7 + offset / 100) % 23);
    event.ad_id = format!("an ad whose name is longer than a view holds {}", offset % 11);
    event.country = [Country::parse("DE"), None, Country::parse("US"), Country::parse("JP")][(offset % 4) as usize];
    event.region = Region::of(event.country);
    event.variant = (!offset.is_multiple_of(3)).then(|| format!("variant {}", offset / 50));
    // A few come to more together than 64 bits hold.
    event.cost_micros = if offset.is_multiple_of(100) { i64::MAX } else { offset as i64 * 1_009 % 5_003 };
    event.revenue_micros = offset as i64 * -7;
    event.user_agent = (!offset.is_multiple_of(5)).then(|| format!("Browser/{} Word", offset % 13));
    row.verdict = match offset % 6 {
        0 => Verdict::Not(Reason::DeclaredBot),
        1 => Verdict::Not(Reason::RateLimited),
        _ => Verdict::Counted,
    };
    row
}

async fn lake_of(folder: &Path, events: &[Judged]) -> Lake {
    let lake = Lake::open(folder, 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
    for rows in events.chunks(events.len().div_ceil(3)) {
        commit(&lake, rows).await;
    }
    lake
}

/// A statement, and the same with texts that no file holds, so that nothing of it can be done by dictionary.
const ALIKE: [(&str, &str); 12] = [
    (
        "SELECT country, count(*) AS n FROM events GROUP BY 1 ORDER BY 1",
        "SELECT country || '' AS country, count(*) AS n FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT campaign_id, event_date, count(*) AS n FROM events GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT campaign_id || '' AS campaign_id, event_date, count(*) AS n FROM events GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "SELECT ad_id, campaign_id, variant, sum(cost_micros) AS cost FROM events GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        "SELECT ad_id || '' AS ad_id, campaign_id || '' AS campaign_id, variant || '' AS variant, \
         sum(cost_micros) AS cost FROM events GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    ),
    (
        "SELECT kind, verdict, reason, country, variant, event_date, user_agent, count(*) AS n FROM events \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7",
        "SELECT kind || '' AS kind, verdict || '' AS verdict, reason || '' AS reason, country || '' AS country, \
         variant || '' AS variant, event_date, user_agent || '' AS user_agent, count(*) AS n FROM events \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7",
    ),
    (
        "SELECT count(*) AS n, min(country) AS a, max(variant) AS b FROM events WHERE user_agent LIKE '%/7 W%'",
        "SELECT count(*) AS n, min(country) AS a, max(variant) AS b FROM events WHERE user_agent || '' LIKE '%/7 W%'",
    ),
    (
        "SELECT count(*) AS n FROM events WHERE NOT (country = 'DE' OR country > 'K') AND campaign_id <> 'campaign 1'",
        "SELECT count(*) AS n FROM events WHERE NOT (country || '' = 'DE' OR country || '' > 'K') \
         AND campaign_id || '' <> 'campaign 1'",
    ),
    (
        "SELECT variant, count(*) AS n FROM events WHERE country IS NULL OR variant IN ('variant 1', 'variant 3') \
         GROUP BY 1 ORDER BY 1",
        "SELECT variant || '' AS variant, count(*) AS n FROM events WHERE country || '' IS NULL \
         OR variant || '' IN ('variant 1', 'variant 3') GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT country, count(*) FILTER (WHERE verdict = 'counted') AS n, \
         count(*) FILTER (WHERE variant IS DISTINCT FROM 'variant 2') AS m FROM events GROUP BY 1 ORDER BY 1",
        "SELECT country || '' AS country, count(*) FILTER (WHERE verdict || '' = 'counted') AS n, \
         count(*) FILTER (WHERE variant || '' IS DISTINCT FROM 'variant 2') AS m FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT country, min(country) AS least, count(DISTINCT campaign_id) AS n FROM events GROUP BY 1 ORDER BY 1",
        "SELECT country || '' AS country, min(country || '') AS least, count(DISTINCT campaign_id || '') AS n \
         FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT event_id, user_agent, upper(country) AS c FROM events WHERE user_agent >= 'Browser/8' ORDER BY 1 LIMIT 20",
        "SELECT event_id, user_agent, upper(country) AS c FROM events WHERE user_agent || '' >= 'Browser/8' \
         ORDER BY 1 LIMIT 20",
    ),
    (
        "SELECT country, variant, count(*) AS n, grouping(country) AS g FROM events \
         GROUP BY ROLLUP (country, variant) ORDER BY 1, 2, 3, 4",
        "SELECT country, variant, count(*) AS n, grouping(country) AS g FROM (SELECT country || '' AS country, \
         variant || '' AS variant FROM events) GROUP BY ROLLUP (country, variant) ORDER BY 1, 2, 3, 4",
    ),
    (
        "SELECT a.country, count(*) AS n FROM events a JOIN events b ON a.event_id = b.event_id AND a.country = b.country \
         WHERE a.campaign_id = 'campaign 3' GROUP BY 1 ORDER BY 1",
        "SELECT country || '' AS country, count(*) AS n FROM events WHERE campaign_id || '' = 'campaign 3' \
         AND country || '' <> '' GROUP BY 1 ORDER BY 1",
    ),
];

/// A statement whose money is only added up, and the same with money that is made before.
const SUMS: [(&str, &str); 5] = [
    (
        "SELECT event_date, sum(cost_micros) AS cost, sum(revenue_micros) AS revenue, count(*) AS n FROM events GROUP BY 1",
        "SELECT event_date, sum(cost_micros + 0) AS cost, sum(revenue_micros + 0) AS revenue, count(*) AS n FROM events \
         GROUP BY 1",
    ),
    (
        "SELECT event_date, country, sum(cost_micros) AS cost FROM events WHERE verdict = 'counted' AND variant <> 'x' \
         GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT event_date, country, sum(cost_micros + 0) AS cost FROM events WHERE verdict = 'counted' AND variant <> 'x' \
         GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    (
        "SELECT country, sum(cost_micros) FILTER (WHERE verdict = 'counted') AS cost, \
         sum(revenue_micros) FILTER (WHERE variant = 'variant 2' AND country = 'DE') AS some FROM events GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(cost_micros + 0) FILTER (WHERE verdict = 'counted') AS cost, \
         sum(revenue_micros + 0) FILTER (WHERE variant = 'variant 2' AND country = 'DE') AS some FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT country, sum(c) AS cost, sum(c) - sum(r) AS margin FROM (SELECT upper(kind) AS k, country, \
         cost_micros AS c, revenue_micros AS r FROM events) WHERE k = 'CLICK' GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(cost_micros + 0) AS cost, sum(cost_micros + 0) - sum(revenue_micros + 0) AS margin \
         FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT country, sum(cost_micros) AS cost FROM events WHERE variant IS NULL AND country = 'XX' GROUP BY 1",
        "SELECT country, sum(cost_micros + 0) AS cost FROM events WHERE variant IS NULL AND country = 'XX' GROUP BY 1",
    ),
];

/// Money that is used otherwise too, or not by group: it is money all along.
const OTHER_SUMS: [(&str, &str); 6] = [
    (
        "SELECT country, sum(cost_micros) AS cost FROM events WHERE cost_micros > 2500 GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(cost_micros + 0) AS cost FROM events WHERE cost_micros + 0 > 2500 GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT country, sum(cost_micros) AS cost, max(cost_micros) AS most FROM events GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(cost_micros + 0) AS cost, max(cost_micros + 0) AS most FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT country, sum(c) AS cost, sum(twice) AS twice FROM (SELECT country, cost_micros AS c, \
         cost_micros * 2 AS twice FROM events) GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(cost_micros + 0) AS cost, sum(cost_micros + cost_micros) AS twice FROM events GROUP BY 1 ORDER BY 1",
    ),
    (
        "SELECT country, sum(cost_micros) FILTER (WHERE cost_micros < 100) AS cost FROM events GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(cost_micros + 0) FILTER (WHERE cost_micros + 0 < 100) AS cost FROM events GROUP BY 1 ORDER BY 1",
    ),
    ("SELECT sum(cost_micros) AS cost FROM events", "SELECT sum(cost_micros + 0) AS cost FROM events"),
    (
        "SELECT country, sum(DISTINCT cost_micros) AS cost FROM events GROUP BY 1 ORDER BY 1",
        "SELECT country, sum(DISTINCT cost_micros + 0) AS cost FROM events GROUP BY 1 ORDER BY 1",
    ),
];

async fn plan_of(sql: &Sql, statement: &str) -> String {
    let plans = ask(sql, &format!("EXPLAIN {statement}")).await;
    let physical = plans.iter().filter(|row| row["plan_type"] == "physical_plan");
    physical.map(|row| row["plan"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn dictionaries_give_what_texts_give() {
    let folder = tempfile::tempdir().unwrap();
    let events: Vec<Judged> = (0..900).map(event).collect();
    let lake = lake_of(folder.path(), &events).await;
    let sql = lake.sql(256 << 20).unwrap();
    for (by_dictionary, by_text) in ALIKE {
        let (plan, other) = (plan_of(&sql, by_dictionary).await, plan_of(&sql, by_text).await);
        let uses = |plan: &str| plan.contains("numbers(") || plan.contains("once_per_text(");
        // Sets of groups are told apart by what they leave out, so that their texts stay.
        assert_eq!(uses(&plan), !by_dictionary.contains("ROLLUP"), "{by_dictionary}: {plan}");
        assert!(!uses(&other), "{by_text}: {other}");
        let answer = ask(&sql, by_dictionary).await;
        let expected = ask(&sql, by_text).await;
        assert!(!answer.is_empty(), "{by_dictionary}");
        assert_eq!(answer, expected, "{by_dictionary}");
    }

    let sums = SUMS.iter().map(|pair| (pair, false)).chain(OTHER_SUMS.iter().map(|pair| (pair, true)));
    for ((summed, made_before), makes_money) in sums {
        let plan = plan_of(&sql, summed).await;
        assert_eq!(plan.contains("money("), makes_money, "{summed}: {plan}");
        assert_eq!(ask(&sql, summed).await, ask(&sql, made_before).await, "{summed}");
    }

    // And what the events themselves say.
    let mut counts: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
    for row in &events {
        let country = row.event.country.map(|country| country.as_str().to_owned());
        *counts.entry((row.event.campaign_id.to_string(), country)).or_default() += 1;
    }
    let statement = "SELECT campaign_id, country, count(*) AS n FROM events GROUP BY 1, 2 ORDER BY 1, 2 NULLS FIRST";
    let expected =
        counts.iter().map(|((campaign, country), n)| json!({"campaign_id": campaign, "country": country, "n": n}));
    let without_nulls = |mut row: Value| {
        row.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        row
    };
    let expected: Vec<Value> = expected.map(without_nulls).collect();
    assert_eq!(ask(&sql, statement).await.into_iter().map(without_nulls).collect::<Vec<_>>(), expected);
}

/// Opened again, the log has to say which columns each file holds; from a checkpoint too, of which there is one every 50 commits.
#[tokio::test]
async fn dictionaries_are_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let statement = "SELECT country, count(*) AS n FROM events GROUP BY 1 ORDER BY 2";
    let mut lake = lake_of(folder.path(), &(0..90).map(event).collect::<Vec<_>>()).await;
    for offset in 90..190 {
        commit(&lake, &[event(offset)]).await;
    }
    let before = ask(&lake.sql(256 << 20).unwrap(), statement).await;
    drop(lake);
    lake = Lake::open(folder.path(), 1, Arc::new(ManualClock::at_us(T0_US))).await.unwrap();
    let sql = lake.sql(256 << 20).unwrap();
    let checkpoints = std::fs::read_dir(folder.path().join("events/_delta_log")).unwrap();
    let names: Vec<_> = checkpoints.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.contains("checkpoint")), "{names:?}");
    assert!(plan_of(&sql, statement).await.contains("numbers("));
    assert_eq!(ask(&sql, statement).await, before);
}

#[tokio::test]
async fn what_one_statement_numbers_counts_towards_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let long = |offset: u64| {
        let mut row = event(offset);
        row.event.user_agent = Some(format!("{offset} {}", "x".repeat(900)));
        row
    };
    let lake = lake_of(folder.path(), &(0..900).map(long).collect::<Vec<_>>()).await;
    let statement = "SELECT count(*) AS n FROM (SELECT user_agent FROM events GROUP BY 1) AS t";
    assert_eq!(ask(&lake.sql(16 << 20).unwrap(), statement).await, [json!({"n": 900})]);
    let sql = lake.sql(400_000).unwrap();
    let refused = super::error(&sql, statement).await;
    assert!(refused.contains("memory"), "{refused}");
}
