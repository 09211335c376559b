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
    /// After a restart, no click is remembered that counted before it.
    ClicksForgotten,
    /// A commit of rollups that is tried again after a lost answer adds its parts again.
    RollupTwice,
    /// A commit of events is not compared with the marks that stand in the table.
    NoMarkCheck,
    /// The disk says that a file is synced, and has done nothing: not ours to mend, but ours to notice.
    FileSyncLies,
    /// The same for the names in a folder.
    FolderSyncLies,
}

impl Bug {
    /// What the auditor must be heard to say, so that another trouble is not taken for the find.
    pub fn is_told_by(self, finding: &str) -> bool {
        let words: &[&str] = match self {
            Self::AckBeforeFsync => &["lost"],
            Self::MarkBeforeData => &["lost", "doubled"],
            Self::DedupWithoutOffset | Self::ClicksForgotten => &["and should be"],
            Self::RollupTwice => &["and should hold"],
            Self::NoMarkCheck => &["doubled"],
            Self::FileSyncLies | Self::FolderSyncLies => &["lost", "journal"],
        };
        words.iter().any(|word| finding.contains(word))
    }

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
