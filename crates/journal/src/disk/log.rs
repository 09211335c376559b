//! What is durable: the segments that hold it and where they end. The writer moves the end, readers wait for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tally_model::Positions;

use super::segment::Segment;
use crate::{JournalError, check_positions};

#[derive(Debug)]
pub struct Log {
    state: Mutex<State>,
    moved: Condvar,
    /// Of the segments that are not entirely released: asked for with each append. After a start, of what was there before only
    /// once somebody says how far it is released: most of it may be there for replay.
    unreleased_bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Never empty, ids without gaps; the last one is being written.
    segments: VecDeque<Segment>,
    end: Positions,
    stopped: Option<JournalError>,
}

/// What a reader finds beyond its place in a segment.
#[derive(Debug)]
pub enum Beyond {
    /// Durable blocks up to here.
    Blocks(u64),
    /// Nothing more in this segment, but another follows.
    Segment(Segment),
    /// The segment was trimmed away.
    Trimmed,
    Nothing,
}

impl State {
    fn bytes_after(&self, segments: usize) -> u64 {
        self.segments.iter().skip(segments).map(|segment| segment.durable_bytes).sum()
    }

    fn segment(&self, id: u64) -> Option<&Segment> {
        let first = self.segments.front()?.tag.segment;
        self.segments.get(usize::try_from(id.checked_sub(first)?).ok()?)
    }
}

impl Log {
    pub fn new(segments: VecDeque<Segment>, end: Positions) -> Self {
        let state = State { segments, end, stopped: None };
        Self { state: Mutex::new(state), moved: Condvar::new(), unreleased_bytes: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn start(&self) -> Positions {
        let state = self.state();
        state.segments.front().map_or_else(|| state.end.clone(), |first| first.start.clone())
    }

    pub fn end(&self) -> Positions {
        self.state().end.clone()
    }

    pub fn unreleased_bytes(&self) -> u64 {
        self.unreleased_bytes.load(Ordering::Relaxed)
    }

    /// Of all segments that are kept, released ones for replay included.
    pub fn kept_bytes(&self) -> u64 {
        self.state().bytes_after(0)
    }

    #[cfg(test)]
    pub fn last(&self) -> Option<Segment> {
        self.state().segments.back().cloned()
    }

    pub fn stopped(&self) -> Option<JournalError> {
        self.state().stopped.clone()
    }

    /// One more block is durable in the segment being written.
    pub fn extend(&self, durable_bytes: u64, end: &Positions) {
        let mut state = self.state();
        if let Some(last) = state.segments.back_mut() {
            let added = durable_bytes.saturating_sub(last.durable_bytes);
            last.durable_bytes = durable_bytes;
            self.unreleased_bytes.fetch_add(added, Ordering::Relaxed);
        }
        state.end.clone_from(end);
        self.moved.notify_all();
    }

    pub fn roll(&self, segment: Segment) {
        let mut state = self.state();
        self.unreleased_bytes.fetch_add(segment.durable_bytes, Ordering::Relaxed);
        state.segments.push_back(segment);
    }

    /// The end moves no more. The first reason stays.
    pub fn stop(&self, why: JournalError) {
        self.state().stopped.get_or_insert(why);
        self.moved.notify_all();
    }

    /// Forgets the segments that are entirely below, as long as `retain_bytes` of such remain. `trim` is called in
    /// order under the lock, so that two callers cannot swap it.
    pub fn release(&self, below: &Positions, retain_bytes: u64, mut trim: impl FnMut(u64)) {
        let mut state = self.state();
        let follow = state.segments.iter().skip(1);
        let released = follow.take_while(|next| below.covers(&next.start)).count();
        self.unreleased_bytes.store(state.bytes_after(released), Ordering::Relaxed);
        let mut kept: u64 = state.segments.iter().take(released).map(|segment| segment.durable_bytes).sum();
        for _ in 0..released {
            let Some(first) = state.segments.front() else { return };
            let Some(rest) = kept.checked_sub(first.durable_bytes).filter(|rest| *rest >= retain_bytes) else { return };
            kept = rest;
            trim(first.tag.segment);
            state.segments.pop_front();
        }
    }

    /// The segment to start reading at, for these positions.
    pub fn seek(&self, from: &Positions) -> Result<Segment, JournalError> {
        let state = self.state();
        let first = state.segments.front().ok_or(JournalError::Closed)?;
        check_positions(from, &first.start, &state.end)?;
        let after = state.segments.partition_point(|segment| from.covers(&segment.start));
        Ok(state.segments.get(after.saturating_sub(1)).unwrap_or(first).clone())
    }

    pub fn holds(&self, segment: u64) -> bool {
        self.state().segment(segment).is_some()
    }

    /// What follows byte `at` of a segment; waits a while for something to.
    pub fn beyond(&self, segment: u64, at: u64, wait: Duration) -> Result<Beyond, JournalError> {
        let began = Instant::now();
        let mut state = self.state();
        loop {
            let Some(held) = state.segment(segment) else { return Ok(Beyond::Trimmed) };
            if held.durable_bytes > at {
                return Ok(Beyond::Blocks(held.durable_bytes));
            }
            if let Some(next) = state.segment(segment + 1) {
                return Ok(Beyond::Segment(next.clone()));
            }
            if let Some(why) = &state.stopped {
                return Err(why.clone());
            }
            let Some(left) = wait.checked_sub(began.elapsed()) else { return Ok(Beyond::Nothing) };
            state = self.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
