//! What a seed decides before anything happens: the sizes of things, and which troubles this run has and how often. Not every
//! run has every trouble, so that one does not hide the other.

use std::time::Duration;

use tally_pipeline::PipelineSettings;

use crate::chance::Chance;

/// Some day, and a few seconds before a month, a leap day's month and a year end.
const STARTS_S: [i64; 4] = [1_700_000_000, 1_701_388_790, 1_709_251_190, 1_704_067_190];

#[derive(Debug, Clone)]
pub struct Plan {
    /// When it all begins, by the wall clock.
    pub start_us: i64,
    pub partitions: u16,
    pub segment_bytes: u32,
    pub retain_bytes: u64,
    pub queue_bytes_max: usize,
    pub pipeline: PipelineSettings,
    pub dedup_seed: u128,
    pub clients: u64,
    /// Requests that each client makes, repeats not counted.
    pub requests: u64,
    /// Lives that end before their time; one more follows in which all goes well.
    pub crashes: u64,
    pub troubles: Troubles,
}

/// Frequencies are in a thousand.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    /// Of crashes: the machine loses power, so that what was not synced may be lost or torn.
    pub power_loss: u64,
    /// Of lives: the process is asked to stop at some moment, and drains if it comes to that.
    pub stop: u64,
    /// Of calls to the journal's disk, whatever they are.
    pub disk_error: u64,
    /// The longest that writing a group takes, where the disk is slow: others queue up behind it.
    pub disk_slow_ms: u64,
    /// Of moments at which a file is made or grows: the disk becomes full, for a while.
    pub disk_full: u64,
    /// Of calls to the lake: it fails with no effect.
    pub lake_fails: u64,
    /// Of commits: it takes effect, and says that it failed.
    pub answer_lost: u64,
    /// Of commits: somebody else's commit comes first.
    pub conflict: u64,
    /// Of crashes in a commit: it is on its way, and arrives in the next life.
    pub late_commit: u64,
    /// The longest that a call to the lake takes.
    pub lake_slow_ms: u64,
    /// Of requests: events seen before, by anybody, are sent again although they were acknowledged.
    pub repeat: u64,
    /// Of events that were refused or not answered: given up instead of sent again.
    pub give_up: u64,
    /// Of events: hours late.
    pub late: u64,
    /// Of events: ahead of time, some of them by more than is taken.
    pub future: u64,
    /// Of requests: the wall clock is set, forward.
    pub clock_forward: u64,
    /// Of requests: the wall clock is set, back.
    pub clock_back: u64,
}

impl Troubles {
    pub fn of_the_disk(&self) -> bool {
        self.disk_error > 0 || self.disk_full > 0
    }
}

impl Plan {
    pub fn of(chance: &Chance) -> Self {
        // Each trouble is in every second run.
        let some = |most: u64| if chance.permille(500) { chance.between(1, most) } else { 0 };
        let troubles = Troubles {
            power_loss: some(1_000),
            stop: some(300),
            disk_error: some(8),
            disk_slow_ms: some(400),
            disk_full: some(60),
            lake_fails: some(200),
            answer_lost: some(200),
            conflict: some(300),
            late_commit: if chance.permille(500) { chance.between(300, 1_000) } else { 0 },
            lake_slow_ms: some(3_000),
            repeat: some(400),
            give_up: some(500),
            late: some(200),
            future: some(100),
            clock_forward: some(50),
            clock_back: some(50),
        };
        Self {
            start_us: chance.one_of(&STARTS_S) * 1_000_000,
            partitions: chance.one_of(&[1, 2, 4]),
            // The largest request, a dozen events, must fit.
            segment_bytes: chance.one_of(&[6 << 10, 8 << 10, 64 << 10]),
            retain_bytes: chance.one_of(&[0, 0, 32 << 10]),
            queue_bytes_max: chance.one_of(&[5 << 10, 8 << 10, 1 << 20]),
            pipeline: PipelineSettings {
                commit_after: Duration::from_millis(chance.one_of(&[20, 200, 2_000])),
                commit_events_max: chance.one_of(&[3, 20, 200]),
                dedup_ttl_s: chance.one_of(&[5, 60, 86_400]),
                double_click_ms: chance.one_of(&[0, 1_000, 10_000]),
            },
            dedup_seed: chance.bits(),
            clients: chance.between(1, 4),
            requests: chance.between(5, 60),
            crashes: chance.between(0, 6),
            troubles,
        }
    }
}
