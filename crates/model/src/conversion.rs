//! What a server says of a conversion later: whether the advertiser approved it.

use serde::{Deserialize, Serialize};

/// How a transaction stands. The last one received is what reports by attribution go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversionStatus {
    Approved,
    /// Waits for the advertiser: a return, a check of the order.
    Pending,
    /// Refused, or taken back after it was approved.
    Rejected,
}

impl ConversionStatus {
    pub const ALL: [ConversionStatus; 3] =
        [ConversionStatus::Approved, ConversionStatus::Pending, ConversionStatus::Rejected];

    pub fn as_str(self) -> &'static str {
        match self {
            ConversionStatus::Approved => "approved",
            ConversionStatus::Pending => "pending",
            ConversionStatus::Rejected => "rejected",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}
