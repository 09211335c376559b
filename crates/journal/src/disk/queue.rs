//! The bounded queue between those who append and the writer: whatever arrives during one sync goes into the next.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::{JournalError, Record};

#[derive(Debug)]
pub struct Append {
    pub records: Vec<Record>,
    /// What the records take in a block.
    pub payload_bytes: usize,
    pub receipt: oneshot::Sender<Result<(), JournalError>>,
}

impl Append {
    pub fn resolve(self, answer: Result<(), JournalError>) {
        // Whoever asked may have gone; the records are kept all the same.
        let _ = self.receipt.send(answer);
    }
}

#[derive(Debug)]
pub struct Queue {
    bytes_max: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    appends: VecDeque<Append>,
    /// Payload that waits or is being written.
    bytes: usize,
    /// Why nothing more is taken.
    stopped: Option<JournalError>,
    /// Whether the writer sleeps. To wake it when it does not would cost each append a system call.
    writer_sleeps: bool,
}

impl Queue {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), arrived: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, append: Append) -> Result<(), JournalError> {
        let mut state = self.state();
        if let Some(why) = &state.stopped {
            return Err(why.clone());
        }
        if state.bytes + append.payload_bytes > self.bytes_max {
            return Err(JournalError::Full { queued_bytes: state.bytes });
        }
        state.bytes += append.payload_bytes;
        state.appends.push_back(append);
        if std::mem::take(&mut state.writer_sleeps) {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for something to write and says how large the first append is; none once stopped and empty.
    pub fn first_bytes(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if let Some(first) = state.appends.front() {
                return Some(first.payload_bytes);
            }
            if state.stopped.is_some() {
                return None;
            }
            state.writer_sleeps = true;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How large the first append is, if one waits.
    pub fn waiting_bytes(&self) -> Option<usize> {
        self.state().appends.front().map(|first| first.payload_bytes)
    }

    /// As many appends as fit together, in order.
    pub fn take(&self, payload_bytes_max: usize) -> Vec<Append> {
        let mut state = self.state();
        let mut left = payload_bytes_max;
        let mut taken = Vec::new();
        while let Some(append) = state.appends.pop_front_if(|append| append.payload_bytes <= left) {
            left -= append.payload_bytes;
            taken.push(append);
        }
        taken
    }

    /// What was taken is written.
    pub fn written(&self, payload_bytes: usize) {
        self.state().bytes -= payload_bytes;
    }

    /// Answers everything that waits with this error, and takes more.
    pub fn refuse(&self, why: &JournalError) {
        let mut state = self.state();
        let refused = std::mem::take(&mut state.appends);
        state.bytes -= refused.iter().map(|append| append.payload_bytes).sum::<usize>();
        drop(state);
        refused.into_iter().for_each(|append| append.resolve(Err(why.clone())));
    }

    /// Takes no more; what waits is still written. A poisoned queue stays poisoned.
    pub fn stop(&self, why: JournalError) {
        let mut state = self.state();
        if !matches!(state.stopped, Some(JournalError::Poisoned { .. })) {
            state.stopped = Some(why);
        }
        self.arrived.notify_all();
    }

    pub fn stopped(&self) -> Option<JournalError> {
        self.state().stopped.clone()
    }

    #[cfg(test)]
    pub fn is_taken(&self) -> bool {
        self.state().appends.is_empty()
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub fn bytes(&self) -> usize {
        self.state().bytes
    }
}
