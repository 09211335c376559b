//! For [`crate::bug::Bug::AckBeforeFsync`]: a journal that says "durable" as soon as it has taken a record.

use std::sync::Arc;

use tally_journal::{DiskJournal, Journal, JournalError, Reader, Receipt, Record};
use tally_model::Positions;

pub struct EagerJournal(pub Arc<DiskJournal>);

impl Journal for EagerJournal {
    fn partitions(&self) -> u16 {
        self.0.partitions()
    }

    fn append(&self, records: Vec<Record>) -> Result<Receipt, JournalError> {
        // The receipt that would tell is not waited for: that is the mistake.
        drop(self.0.append(records)?);
        Ok(Receipt::durable())
    }

    fn reader(&self, from: &Positions) -> Result<Box<dyn Reader>, JournalError> {
        self.0.reader(from)
    }

    fn start(&self) -> Positions {
        self.0.start()
    }

    fn end(&self) -> Positions {
        self.0.end()
    }

    fn release(&self, below: &Positions) -> Result<(), JournalError> {
        self.0.release(below)
    }

    fn fullness(&self) -> f64 {
        self.0.fullness()
    }

    fn health(&self) -> Result<(), JournalError> {
        self.0.health()
    }

    fn close(&self) {
        self.0.close();
    }
}
