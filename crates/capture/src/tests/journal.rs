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
