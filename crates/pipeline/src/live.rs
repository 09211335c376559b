//! What is happening now: counts of the last minute and of the last five, by campaign, by the second in which capture received
//! an event. A window in memory beside the figures, never a source of them: what it forgets stands in the rollups.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use tally_model::{Counts, Judged};

/// How far back it looks.
pub const LIVE_WINDOW_S: i64 = 300;
const MINUTE_S: i64 = 60;
/// A cell is a campaign in a second and takes about 200 bytes. 100,000 of them are 330 campaigns that are busy in every second;
/// beyond that events count in the sums of all campaigns only.
const CELLS_MAX: usize = 100_000;
const US_PER_S: i64 = 1_000_000;

/// What one commit adds to the window.
#[derive(Debug, Clone, Default)]
pub struct LivePart(BTreeMap<i64, Second>);

#[derive(Debug, Clone, Default)]
struct Second {
    all: Counts,
    campaigns: HashMap<Arc<str>, Counts>,
}

/// The seconds that are still looked at.
#[derive(Debug, Default)]
pub struct LiveWindow {
    seconds: BTreeMap<i64, Second>,
    /// Campaigns in seconds, over all seconds.
    cells: usize,
    /// Events whose campaign is not told, for want of room.
    unnamed: u64,
}

/// The window as of one second, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveView {
    /// The last second in it, which is not over yet. Since the Unix epoch.
    pub at_s: i64,
    pub minute: Counts,
    pub five_minutes: Counts,
    /// Every second of the window, the oldest first.
    pub seconds: Vec<Counts>,
    /// The busiest first.
    pub campaigns: Vec<LiveCampaign>,
    /// Of which `campaigns` has the first ones.
    pub campaigns_total: usize,
    /// Events since the start that are in the sums and in no campaign.
    pub unnamed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCampaign {
    pub campaign_id: Arc<str>,
    pub minute: Counts,
    pub five_minutes: Counts,
}

impl LivePart {
    pub fn add<T: AsRef<str>>(&mut self, judged: &Judged<T>) {
        let fact = judged.fact();
        let second = self.0.entry(judged.event.received_at_us.div_euclid(US_PER_S)).or_default();
        second.all.add_fact(&fact);
        if let Some(counts) = second.campaigns.get_mut(fact.campaign_id) {
            counts.add_fact(&fact);
        } else {
            second.campaigns.entry(fact.campaign_id.into()).or_default().add_fact(&fact);
        }
    }
}

impl LiveWindow {
    /// Takes in what was committed, and forgets what is too old to be looked at. Gives how many events are in no campaign.
    pub fn add(&mut self, part: LivePart, now_s: i64) -> u64 {
        self.forget(now_s);
        let unnamed_before = self.unnamed;
        for (at_s, added) in part.0.into_iter().filter(|(at_s, _)| is_within(*at_s, now_s)) {
            let second = self.seconds.entry(at_s).or_default();
            second.all.merge(&added.all);
            for (campaign_id, counts) in added.campaigns {
                if let Some(cell) = second.campaigns.get_mut(&campaign_id) {
                    cell.merge(&counts);
                } else if self.cells < CELLS_MAX {
                    second.campaigns.insert(campaign_id, counts);
                    self.cells += 1;
                } else {
                    self.unnamed += counts.received();
                }
            }
        }
        self.unnamed - unnamed_before
    }

    /// The figures as of `now_s`, with the `campaigns_max` busiest campaigns.
    pub fn view(&mut self, now_s: i64, campaigns_max: usize) -> LiveView {
        self.forget(now_s);
        let (mut minute, mut five_minutes) = (Counts::default(), Counts::default());
        let mut campaigns: HashMap<&Arc<str>, (Counts, Counts)> = HashMap::new();
        for (at_s, second) in &self.seconds {
            let is_recent = now_s - at_s < MINUTE_S;
            five_minutes.merge(&second.all);
            if is_recent {
                minute.merge(&second.all);
            }
            for (campaign_id, counts) in &second.campaigns {
                let (minute, five_minutes) = campaigns.entry(campaign_id).or_default();
                five_minutes.merge(counts);
                if is_recent {
                    minute.merge(counts);
                }
            }
        }
        let campaigns_total = campaigns.len();
        let mut campaigns: Vec<LiveCampaign> = campaigns
            .into_iter()
            .map(|(campaign_id, (minute, five_minutes))| LiveCampaign {
                campaign_id: Arc::clone(campaign_id),
                minute,
                five_minutes,
            })
            .collect();
        campaigns.sort_unstable_by(|a, b| {
            let busier = b.five_minutes.received().cmp(&a.five_minutes.received());
            busier.then_with(|| a.campaign_id.cmp(&b.campaign_id))
        });
        campaigns.truncate(campaigns_max);
        let first_s = now_s - LIVE_WINDOW_S + 1;
        let of_second = |at_s: i64| self.seconds.get(&at_s).map(|second| second.all).unwrap_or_default();
        LiveView {
            at_s: now_s,
            minute,
            five_minutes,
            seconds: (first_s..=now_s).map(of_second).collect(),
            campaigns,
            campaigns_total,
            unnamed: self.unnamed,
        }
    }

    pub fn cells(&self) -> usize {
        self.cells
    }

    fn forget(&mut self, now_s: i64) {
        // Also what is ahead: somebody set the clock back.
        self.seconds.retain(|at_s, _| is_within(*at_s, now_s));
        self.cells = self.seconds.values().map(|second| second.campaigns.len()).sum();
    }
}

fn is_within(at_s: i64, now_s: i64) -> bool {
    (now_s - LIVE_WINDOW_S + 1..=now_s).contains(&at_s)
}

#[cfg(test)]
mod tests;
