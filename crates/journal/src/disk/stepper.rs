//! The journal without threads: whoever holds this decides when the next group is written.

use std::sync::Arc;

use super::Shared;
use super::writer::{Leave, Writer};

pub struct Stepper {
    shared: Arc<Shared>,
    writer: Writer,
    /// Readers are told the end when this goes, as when the writing thread ends.
    _leave: Leave,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// Nothing waited.
    Idle,
    /// A group, or refused it for want of a segment.
    Wrote,
    /// Closed and empty, or poisoned: no further step does anything.
    Ended,
}

impl Stepper {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        Self { _leave: Leave(Arc::clone(&shared)), shared, writer }
    }

    /// Prepares segments as far as needed, and writes one group if anything waits.
    pub fn step(&mut self) -> Stepped {
        self.shared.spares.catch_up();
        match self.shared.queue.waiting_bytes() {
            Some(first_bytes) if self.writer.write_group(first_bytes).is_break() => Stepped::Ended,
            Some(_) => Stepped::Wrote,
            None if self.shared.queue.stopped().is_some() => Stepped::Ended,
            None => Stepped::Idle,
        }
    }
}
