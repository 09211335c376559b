//! Mistakes that systems like this one have had, each switched on by name: the auditor must find them, or it proves nothing.

use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bug {
    /// The sender is told that an event is safe before it is synced.
    AckBeforeFsync,
    /// The offsets are committed first and the rows after, in two commits.
    MarkBeforeData,
    /// An id counts as seen as soon as it was judged, also where its batch was never committed.
    DedupWithoutOffset,
    /// A commit of rollups that is tried again after a lost answer adds its parts again.
    RollupTwice,
    /// A commit of events is not compared with the marks that stand in the table.
    NoMarkCheck,
}

impl Bug {
    pub const ALL: [Bug; 5] =
        [Bug::AckBeforeFsync, Bug::MarkBeforeData, Bug::DedupWithoutOffset, Bug::RollupTwice, Bug::NoMarkCheck];

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
