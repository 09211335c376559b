//! What has to be told and what became of it, in a journal of its own. What is in memory is what a reader of the journal knows.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tally_journal::{DiskJournal, DiskOptions, Journal, Record};
use tally_model::{EventId, Offset, Positions};

use super::LISTED_MAX;

/// The least that a journal takes. Some of what is done stays, so that a start finds how far it was.
const SEGMENT_BYTES: u32 = 8 << 20;
const READ_AT_ONCE: usize = 10_000;

/// A record of the journal, as JSON: a person may have to read it one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Entry {
    Owed {
        key: EventId,
        campaign_id: String,
        url: String,
    },
    Done {
        key: EventId,
        outcome: Outcome,
    },
    /// Up to this version of `attributions`, everything that is owed is written down.
    Followed {
        version: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Delivered,
    GivenUp { campaign_id: String, why: String },
}

/// A postback on its way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Postback {
    pub key: EventId,
    pub campaign_id: String,
    pub url: String,
    pub tries: u32,
    due_ms: i64,
    offset: Offset,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct GivenUp {
    pub key: EventId,
    pub campaign_id: String,
    pub why: String,
}

pub(super) struct Ledger {
    journal: Arc<DiskJournal>,
    state: State,
}

#[derive(Default)]
struct State {
    waiting: HashMap<EventId, Postback>,
    /// By the place of each, the first being up to where the journal may go.
    places: BTreeMap<Offset, EventId>,
    followed: Option<i64>,
    given_up: VecDeque<GivenUp>,
    next: Offset,
}

impl Ledger {
    pub fn open(folder: &Path) -> Result<Self> {
        let options = DiskOptions {
            segment_bytes: SEGMENT_BYTES,
            retain_bytes: u64::from(SEGMENT_BYTES),
            ..DiskOptions::new(folder, 1)
        };
        let journal = DiskJournal::open(options).context("cannot open the journal of postbacks to advertisers")?;
        let mut state = State { next: journal.start().next(0), ..State::default() };
        let mut reader = journal.reader(&journal.start())?;
        while Positions::from_offsets(vec![state.next]) != journal.end() {
            for stored in reader.read(READ_AT_ONCE, Duration::from_millis(100))? {
                let entry = serde_json::from_slice(&stored.bytes)
                    .with_context(|| format!("record {} of the journal of postbacks cannot be read", stored.offset))?;
                state.apply(entry);
            }
        }
        Ok(Self { journal, state })
    }

    pub fn len(&self) -> usize {
        self.state.waiting.len()
    }

    pub fn followed(&self) -> Option<i64> {
        self.state.followed
    }

    pub fn given_up(&self) -> &VecDeque<GivenUp> {
        &self.state.given_up
    }

    /// Those whose time has come, the oldest first.
    pub fn due(&self, now_ms: i64, most: usize) -> Vec<Postback> {
        let waiting = self.state.places.values().filter_map(|key| self.state.waiting.get(key));
        waiting.filter(|postback| postback.due_ms <= now_ms).take(most).cloned().collect()
    }

    /// Another try, later. Not written down: after a restart, everything is tried at once.
    pub fn postpone(&mut self, key: EventId, due_ms: i64) {
        if let Some(postback) = self.state.waiting.get_mut(&key) {
            postback.tries += 1;
            postback.due_ms = due_ms;
        }
    }

    /// Durable once it returns. How far it has followed is said each time, so that it is never trimmed away.
    pub async fn write(&mut self, mut entries: Vec<Entry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if let (Some(version), false) = (self.state.followed, matches!(entries.last(), Some(Entry::Followed { .. }))) {
            entries.push(Entry::Followed { version });
        }
        let record = |entry: &Entry| Ok(Record { partition: 0, bytes: serde_json::to_vec(entry)?.into() });
        let records = entries.iter().map(record).collect::<Result<Vec<_>>>()?;
        self.journal.append(records)?.await?;
        entries.into_iter().for_each(|entry| self.state.apply(entry));
        let done = self.state.places.keys().next().copied().unwrap_or(self.state.next);
        self.journal.release(&Positions::from_offsets(vec![done]))?;
        Ok(())
    }
}

impl State {
    fn apply(&mut self, entry: Entry) {
        let offset = self.next;
        self.next += 1;
        match entry {
            Entry::Owed { key, campaign_id, url } => {
                // Written twice where a kill came in between: one of them is enough.
                if let Place::Vacant(place) = self.waiting.entry(key) {
                    place.insert(Postback { key, campaign_id, url, tries: 0, due_ms: 0, offset });
                    self.places.insert(offset, key);
                }
            }
            Entry::Done { key, outcome } => {
                if let Some(postback) = self.waiting.remove(&key) {
                    self.places.remove(&postback.offset);
                }
                if let Outcome::GivenUp { campaign_id, why } = outcome {
                    if self.given_up.len() >= LISTED_MAX {
                        self.given_up.pop_front();
                    }
                    self.given_up.push_back(GivenUp { key, campaign_id, why });
                }
            }
            Entry::Followed { version } => self.followed = Some(version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(n: u128) -> Entry {
        Entry::Owed { key: EventId::from_u128(n), campaign_id: "c".to_owned(), url: format!("http://a.example/{n}") }
    }

    #[tokio::test]
    async fn what_has_no_outcome_is_there_again_after_a_restart_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path()).unwrap();
        ledger.write(vec![owed(1), owed(2), owed(3), Entry::Followed { version: 4 }]).await.unwrap();
        let why = "it was answered 400".to_owned();
        let given_up = Outcome::GivenUp { campaign_id: "c".to_owned(), why: why.clone() };
        ledger.write(vec![Entry::Done { key: EventId::from_u128(3), outcome: given_up }]).await.unwrap();
        ledger.write(vec![Entry::Done { key: EventId::from_u128(1), outcome: Outcome::Delivered }]).await.unwrap();
        ledger.postpone(EventId::from_u128(2), 1_000);
        assert!(ledger.due(999, 9).is_empty() && ledger.due(1_000, 9).len() == 1);
        drop(ledger);
        let ledger = Ledger::open(folder.path()).unwrap();
        let due: Vec<_> = ledger.due(0, 9).iter().map(|postback| postback.key.as_u128()).collect();
        assert_eq!((due, ledger.followed()), (vec![2], Some(4)));
        assert_eq!(ledger.given_up().iter().map(|given_up| given_up.why.as_str()).collect::<Vec<_>>(), [why]);
    }
}
