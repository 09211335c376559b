//! What the journal says decides the answer: nothing is acknowledged that is not durable.

use std::time::Duration;

use tally_journal::JournalError;

use super::{CLICK, Door, Mood};

const PATHS: [(&str, bool); 3] =
    [("/v1/events", true), ("/v1/events/batch", true), ("/v1/pixel.gif?campaign_id=c&ad_id=a", false)];

async fn check(mood: Mood, retry_after: Option<&str>) {
    for (path, is_post) in PATHS {
        let door = Door::with_mood(mood.clone());
        let answer = if is_post { door.post(path, CLICK).await } else { door.get(path).await };
        let answer = answer.expect(503);
        let found = answer.headers.get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(found, retry_after, "{path}: {mood:?}");
        assert!(!answer.text().contains("/secret/path"), "{}", answer.text());
        assert_eq!(door.metric(r#"tally_capture_received_events_total{kind="click"}"#), 0.0);
    }
}

#[tokio::test]
async fn a_journal_that_cannot_keep_it_is_a_503_and_never_a_202() {
    let poisoned = JournalError::Poisoned { cause: "cannot sync /secret/path".into() };
    let io = JournalError::Io { doing: "write /secret/path".into(), cause: "no space".into() };
    for (error, retry_after) in [
        (JournalError::Full { queued_bytes: 9 }, Some("1")),
        (JournalError::Behind { unreleased_bytes: 9 }, Some("5")),
        (io, Some("1")),
        (poisoned, None),
        (JournalError::Closed, None),
    ] {
        check(Mood::Refuses(error.clone()), retry_after).await;
        check(Mood::Breaks(error), retry_after).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_leaves_before_the_journal_has_the_event() {
    for (path, is_post) in PATHS {
        let door = Door::with_mood(Mood::Silent);
        let answer = async { if is_post { door.post(path, CLICK).await } else { door.get(path).await } };
        tokio::pin!(answer);
        let waited = tokio::time::timeout(Duration::from_secs(3_600), &mut answer).await;
        assert!(waited.is_err(), "{path} was answered before its record was durable");
        for sender in door.journal.silent.lock().unwrap().drain(..) {
            sender.send(Ok(())).unwrap();
        }
        assert!(answer.await.status.is_success(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_full_midway_is_waited_for() {
    let door = Door::with_mood(Mood::Stutters(false));
    let body = format!("{CLICK}\n").repeat(35_000);
    door.post("/v1/events/batch", body).await.expect(202);
    assert_eq!(door.events().len(), 35_000);
}

#[tokio::test]
async fn as_the_journal_fills_up_impressions_are_refused_first_and_conversions_never() {
    const CONVERSION: &str = r#"{"kind":"conversion","click_id":"x","campaign_id":"c","ad_id":"a"}"#;
    for (fullness, impression, click) in [(0.5, 202, 202), (0.75, 503, 202), (0.9, 503, 503)] {
        let door = Door::with_mood(Mood::Fills(fullness));
        let answer = door.post("/v1/events", CLICK.replace("click", "impression")).await;
        let answer = answer.expect(impression);
        if impression == 503 {
            assert_eq!(answer.headers["retry-after"], "5");
            assert_eq!(answer.json()["type"], "urn:tally:problem:shed");
            assert_eq!(door.metric(r#"tally_capture_shed_events_total{kind="impression"}"#), 1.0);
        }
        door.post("/v1/events", CLICK).await.expect(click);
        door.post("/v1/events", CONVERSION).await.expect(202);
        // A batch is as urgent as what is least urgent in it.
        let mixed = format!("{CONVERSION}\n{}\n", CLICK.replace("click", "impression"));
        door.post("/v1/events/batch", mixed).await.expect(impression);
    }
}
