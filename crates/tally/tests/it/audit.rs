//! Compares a server's figures with what its senders know.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::load::Sent;
use super::server::Server;

const KINDS: [&str; 3] = ["impression", "click", "conversion"];

/// What a server made of what was sent.
#[derive(Debug)]
pub struct Received {
    pub events: u64,
    pub counted: u64,
    pub duplicates: u64,
}

/// To the last event and the last millionth: net figures and money by campaign, robots and duplicates by kind, and a recount of
/// every cell from the raw events.
pub fn compare(server: &Server, sent: &Sent) -> Received {
    let truth = &sent.truth;
    let rows = server.ask(json!({
        "metrics": ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"],
        "group_by": ["campaign_id"], "limit": 1_000,
    }));
    let (mut net, mut cost, mut revenue) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for row in &rows {
        let campaign = row["campaign_id"].as_str().unwrap();
        for kind in KINDS {
            net.insert(format!("{campaign}|{kind}"), row[format!("{kind}s")].as_u64().unwrap());
        }
        cost.insert(campaign.to_owned(), row["cost_micros"].as_i64().unwrap());
        revenue.insert(campaign.to_owned(), row["revenue_micros"].as_i64().unwrap());
    }
    // The truth names nothing that is zero.
    net.retain(|_, n| *n > 0);
    cost.retain(|_, micros| *micros != 0);
    revenue.retain(|_, micros| *micros != 0);
    assert_eq!(net, truth.by_campaign_id, "net figures, as counted (left) and as sent (right)");
    assert_eq!(cost, truth.cost_micros_by_campaign_id, "cost, as counted (left) and as sent (right)");
    assert_eq!(revenue, truth.revenue_micros_by_campaign_id, "revenue, as counted (left) and as sent (right)");

    let report = recount(server);
    let mut received = Received { events: 0, counted: 0, duplicates: 0 };
    for kind in KINDS {
        let found = |class: &str| report["kinds"][kind][class].as_u64().unwrap_or(0);
        let known = |counts: &BTreeMap<String, u64>| counts.get(kind).copied().unwrap_or(0);
        assert_eq!(found("counted"), known(&truth.counted), "{kind}s");
        assert_eq!(found("invalid_givt"), known(&truth.invalid_givt), "{kind}s of robots");
        assert_eq!(found("duplicate"), found("received") - found("counted") - found("invalid_givt"), "{kind}s");
        assert!(found("duplicate") >= known(&truth.duplicate), "planted copies of {kind}s are missing");
        received.events += found("received");
        received.counted += found("counted");
        received.duplicates += found("duplicate");
    }
    let possible = sent.acknowledged..=sent.attempted;
    assert!(possible.contains(&received.events), "{} events are in, {possible:?} were sent", received.events);
    received
}

/// The server's own proof, which must hold.
pub fn recount(server: &Server) -> Value {
    let (status, body) = server.get("/v1/verify?recount=true");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200, "the recount found differences: {:#}", answer["report"]["differences"]);
    answer["report"].clone()
}

/// The life of an event, as an advertiser would be shown it: it came in at least as often as it was acknowledged and at most as
/// often as it was sent, and only its first sighting is no duplicate.
pub fn check_lives(server: &Server, sent: &Sent, lives: usize) {
    let mut ids: Vec<_> = sent.ids.iter().collect();
    // Those that were sent most often have the most to tell.
    ids.sort_by_key(|(id, times)| (std::cmp::Reverse(times.attempted), **id));
    for (id, times) in ids.into_iter().take(lives) {
        let (status, body) = server.get(&format!("/v1/events/{id}"));
        assert_eq!(status, 200, "{id} was acknowledged: {body}");
        let life: Value = serde_json::from_str(&body).unwrap();
        let sightings = life["sightings"].as_array().unwrap();
        let possible = times.acknowledged..=times.attempted;
        assert!(
            possible.contains(&(sightings.len() as u64)),
            "{id} came in {} times, not {possible:?}",
            sightings.len()
        );
        let (first, copies) = sightings.split_first().unwrap();
        assert!(["counted", "invalid_givt"].contains(&first["verdict"].as_str().unwrap()), "{first}");
        for copy in copies {
            assert_eq!(
                (&copy["verdict"], &copy["duplicate_of_offset"]),
                (&json!("duplicate"), &first["offset"]),
                "{copy}"
            );
        }
    }
}
