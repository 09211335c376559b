//! A journal in memory, durable at once: for tests and simulations. It forgets everything with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tally_model::Positions;

use crate::{Journal, JournalError, Reader, Receipt, Record, Stored, check_partitions, check_positions};

#[derive(Debug)]
pub struct MemoryJournal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    partitions: u16,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug)]
struct State {
    start: Positions,
    end: Positions,
    /// Every held record in the order of arrival; the first has the sequence number `start.total()`.
    records: VecDeque<Stored>,
    closed: bool,
}

impl MemoryJournal {
    pub fn new(partitions: u16) -> Self {
        let start = Positions::start(partitions);
        let state = State { end: start.clone(), start, records: VecDeque::new(), closed: false };
        Self(Arc::new(Shared { partitions, state: Mutex::new(state), moved: Condvar::new() }))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn partitions(&self) -> u16 {
        self.0.partitions
    }

    fn append(&self, records: Vec<Record>) -> Result<Receipt, JournalError> {
        check_partitions(&records, self.0.partitions)?;
        let mut state = self.0.state();
        if state.closed {
            return Err(JournalError::Closed);
        }
        for Record { partition, bytes } in records {
            let offset = state.end.next(partition);
            state.end.advance(partition, offset + 1);
            state.records.push_back(Stored { partition, offset, bytes });
        }
        self.0.moved.notify_all();
        Ok(Receipt::durable())
    }

    fn reader(&self, from: &Positions) -> Result<Box<dyn Reader>, JournalError> {
        let state = self.0.state();
        check_positions(from, &state.start, &state.end)?;
        let sequence = state.start.total();
        Ok(Box::new(MemoryReader { shared: Arc::clone(&self.0), wanted: from.clone(), sequence }))
    }

    fn start(&self) -> Positions {
        self.0.state().start.clone()
    }

    fn end(&self) -> Positions {
        self.0.state().end.clone()
    }

    /// Keeps nothing for replay: what is released goes, as far as it stands before everything that is not.
    fn release(&self, below: &Positions) -> Result<(), JournalError> {
        let mut state = self.0.state();
        while let Some(first) = state.records.pop_front_if(|first| first.offset < below.next(first.partition)) {
            state.start.advance(first.partition, first.offset + 1);
        }
        Ok(())
    }

    fn fullness(&self) -> f64 {
        0.0
    }

    fn health(&self) -> Result<(), JournalError> {
        if self.0.state().closed { Err(JournalError::Closed) } else { Ok(()) }
    }

    fn close(&self) {
        self.0.state().closed = true;
        self.0.moved.notify_all();
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    wanted: Positions,
    /// Over all partitions, the sequence number of the record to look at next.
    sequence: u64,
}

impl Reader for MemoryReader {
    fn read(&mut self, records_max: usize, wait: Duration) -> Result<Vec<Stored>, JournalError> {
        let began = Instant::now();
        let mut state = self.shared.state();
        loop {
            check_positions(&self.wanted, &state.start, &state.end)?;
            let seen = self.sequence.saturating_sub(state.start.total());
            let mut found = Vec::new();
            for stored in state.records.iter().skip(usize::try_from(seen).unwrap_or(usize::MAX)) {
                if found.len() == records_max {
                    break;
                }
                self.sequence = self.sequence.max(state.start.total()) + 1;
                if stored.offset >= self.wanted.next(stored.partition) {
                    self.wanted.advance(stored.partition, stored.offset + 1);
                    found.push(stored.clone());
                }
            }
            if !found.is_empty() || records_max == 0 {
                return Ok(found);
            }
            if state.closed {
                return Err(JournalError::Closed);
            }
            let Some(left) = wait.checked_sub(began.elapsed()) else { return Ok(found) };
            state = self.shared.moved.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests;
