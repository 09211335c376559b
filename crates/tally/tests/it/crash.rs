//! kill -9 at random moments while clients send and send again: what was acknowledged is counted, once, to the last event.
//!
//! `TALLY_TEST_KILLS` says how often (200 for the run in docs/reliability.md), `TALLY_TEST_SEED` which moments and which events.

use std::time::{Duration, Instant};

use super::audit::{check_lives, compare, recount};
use super::landing::Landings;
use super::load::{Dice, Load, Sent};
use super::server::{Launch, Server, click, metric, ndjson};

const KILLS: u64 = 15;
const SEED: u64 = 1;
/// The figures are proved while traffic goes on, after every fifth kill, and no more than so many times in all: each proof reads
/// everything that there is.
const KILLS_PER_PROOF: u64 = 5;
const PROOFS_MAX: u64 = 10;
/// So many kills come within the first milliseconds: into the very first start, on an empty folder.
const KILLS_OF_FIRST_START: u64 = 3;
const FIRST_START_MS_MAX: u64 = 60;
/// Longer than the time to the first compaction.
const UPTIME_MS_MAX: u64 = 1_500;
/// Longer than a request takes on a busy machine, so that most that go unanswered were killed.
const ANSWER_TIME: Duration = Duration::from_secs(10);

pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Says on failure how to see it again.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with these moments and events: TALLY_TEST_SEED={}", self.0);
        }
    }
}

/// So small that kills land in commits, in compactions, and in what a restart catches up with.
pub fn busy_server(commit_after_ms: u64) -> Server {
    let settings = vec![
        ("TALLY__PIPELINE__COMMIT_AFTER_MS", commit_after_ms.to_string()),
        ("TALLY__LAKE__COMPACT_EVERY_S", "1".to_owned()),
        ("TALLY__JOURNAL__SEGMENT_BYTES", (8 << 20).to_string()),
        ("TALLY__JOURNAL__RETAIN_BYTES", "0".to_owned()),
        ("TALLY__LOG__LEVEL", "info,tally=debug,tally_lake=debug".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ];
    Server::prepare(Launch { settings, is_logged: true, ..Launch::default() })
}

#[test]
fn what_is_acknowledged_is_counted_once_through_kills_at_any_moment() {
    let (kills, seed) = (from_environment("TALLY_TEST_KILLS", KILLS), Seed(from_environment("TALLY_TEST_SEED", SEED)));
    let kills_per_proof = KILLS_PER_PROOF.max(kills / PROOFS_MAX);
    let mut dice = Dice(seed.0);
    let mut server = busy_server([20, 60, 200][dice.below(3) as usize]);
    let mut landings = Landings::new(&server.data());
    let mut ready_ms = Vec::new();
    let load = Load::start(&server, seed.0, ANSWER_TIME);
    let began = Instant::now();

    for kill in 1..=kills {
        server.spawn();
        if kill <= KILLS_OF_FIRST_START {
            std::thread::sleep(Duration::from_millis(1 + dice.below(FIRST_START_MS_MAX)));
        } else if let (Some(takes_ms), 0) = (ready_ms.last(), dice.below(2)) {
            std::thread::sleep(Duration::from_millis(1 + dice.below(*takes_ms)));
        } else {
            ready_ms.push(server.wait_until_ready().as_millis() as u64);
            landings.note_recovery(&server.log());
            std::thread::sleep(Duration::from_millis(dice.below(UPTIME_MS_MAX)));
        }
        server.kill();
        landings.note_kill(&server.log());
        if kill % kills_per_proof == 0 {
            ready_ms.push(server.restart().as_millis() as u64);
            landings.note_recovery(&server.log());
            prove_meanwhile(&server, &load);
            eprintln!("after {kill} kills the figures hold, {} events are acknowledged", load.acknowledged());
            server.kill();
            landings.note_kill(&server.log());
        }
    }
    let all_kills = kills + kills / kills_per_proof;
    ready_ms.push(server.restart().as_millis() as u64);
    landings.note_recovery(&server.log());
    let sent = load.finish();
    let received = prove_to_the_last_event(&mut server, &sent);

    ready_ms.sort_unstable();
    eprintln!(
        "{all_kills} kills in {} s, seed {}: {} events acknowledged, {} attempted, {} received, {} counted, {} duplicates; {} \
         requests unanswered, {} refused; ready after {} ms (median), {} ms (worst) in {} restarts",
        began.elapsed().as_secs(),
        seed.0,
        sent.acknowledged,
        sent.attempted,
        received.events,
        received.counted,
        received.duplicates,
        sent.unanswered,
        sent.refused,
        ready_ms[ready_ms.len() / 2],
        ready_ms[ready_ms.len() - 1],
        ready_ms.len(),
    );
    landings.found.iter().for_each(|(place, n)| eprintln!("{n:>5} {place}"));
    assert!(landings.of("before it was ready") > 0 && landings.of("after it was ready") > 0, "{:?}", landings.found);
    // Few kills may miss a moment of some milliseconds; many may not.
    if kills >= 100 {
        for (place, n) in &landings.found {
            assert!(*n > 0 || place.contains("torn tail"), "no kill landed {place}: {:?}", landings.found);
        }
    }
}

/// While clients go on sending: all that was acknowledged until now is in, and the figures agree with the raw events.
fn prove_meanwhile(server: &Server, load: &Load) {
    let (acknowledged, ids) = (load.acknowledged(), load.recently_acknowledged());
    server.wait_until_counted();
    let received = server.received();
    assert!(received >= acknowledged, "{acknowledged} events were acknowledged, and {received} are in the figures");
    for id in ids {
        assert_eq!(server.get(&format!("/v1/events/{id}")).0, 200, "{id} was acknowledged and is not there");
    }
    recount(server);
}

/// When all is sent: figures as the senders know them; and after a SIGTERM, a start finds nothing to redo.
pub fn prove_to_the_last_event(server: &mut Server, sent: &Sent) -> super::audit::Received {
    server.wait_until_counted();
    let received = compare(server, sent);
    check_lives(server, sent, 5);
    assert!(server.stop(), "it drains and ends well: {}", server.log());
    server.restart();
    assert_eq!(metric(&server.get("/metrics").1, "tally_pipeline_commits_total"), 0.0, "something was left to redo");
    assert_eq!(server.received(), received.events);
    received
}

#[test]
fn a_first_start_killed_at_any_moment_can_be_made_again() {
    let mut server = busy_server(200);
    let takes_ms = server.restart().as_millis() as u64;
    let moments = from_environment("TALLY_TEST_KILLS", KILLS) / 3;
    for moment in 0..moments {
        let mut server = busy_server(20);
        server.spawn();
        std::thread::sleep(Duration::from_millis(1 + takes_ms * moment / moments));
        server.kill();
        server.restart();
        let events: Vec<_> = (0..10).map(|id| click(id, "c")).collect();
        assert_eq!(server.post("/v1/events/batch", ndjson(&events), &[]).0, 202);
        server.wait_until_counted();
        assert_eq!(
            server.total("clicks"),
            10,
            "killed in millisecond {} of the first start",
            takes_ms * moment / moments
        );
        recount(&server);
    }
}
