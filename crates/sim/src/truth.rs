//! What the senders know: every event that they made, how often it was sent, and how often they were told that it is safe.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tally_model::Kind;

#[derive(Default)]
pub struct Truth(Mutex<Known>);

#[derive(Default)]
pub struct Known {
    pub events: BTreeMap<u128, Sent>,
    /// Requests to be made again: refused, or never answered.
    pub again: VecDeque<Vec<u128>>,
    /// Requests on their way, by client.
    pub open: BTreeMap<u64, Vec<u128>>,
    /// How many requests each client has made of those that it has to.
    pub made: BTreeMap<u64, u64>,
    /// When an acknowledgement came, by the wall clock, and for which events.
    pub acknowledged: Vec<(i64, Vec<u128>)>,
}

/// An event as its sender made it.
#[derive(Debug, Clone)]
pub struct Sent {
    pub kind: Kind,
    pub campaign_id: String,
    pub occurred_at_us: i64,
    pub ad_id: &'static str,
    pub country: &'static str,
    pub currency: &'static str,
    pub cost_micros: i64,
    pub revenue_micros: i64,
    pub by_robot: bool,
    /// Requests that may have brought it in.
    pub attempts: u64,
    pub acknowledged: u64,
}

impl Truth {
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    pub fn is_done(&self, clients: u64, requests: u64) -> bool {
        let all_made = (0..clients).all(|client| self.made.get(&client).is_some_and(|made| *made >= requests));
        all_made && self.again.is_empty() && self.open.is_empty()
    }
}
