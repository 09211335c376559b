//! What we think of an event. Every event that was taken in gets exactly one verdict, and keeps it.

use serde::{Deserialize, Serialize};

/// Why an event does not count. Closed on purpose: a new reason is a new case in every `match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An event with this id stands at a lower offset, within the time to live.
    SameId,
    /// The same person clicked the same ad moments before or after, and that click counts.
    DoubleClick,
    /// The user agent says of itself that it is a robot (IAB/MRC: general invalid traffic).
    DeclaredBot,
    /// A service that shows where a link leads, in a chat or a feed, fetched it (IAB/MRC: general invalid traffic).
    LinkPreview,
    /// Fetched ahead, before anybody went there (IAB/MRC: general invalid traffic).
    Prefetch,
    /// A HEAD, which shows nothing to anybody.
    HeadRequest,
    /// It came over a rate limit at the door (IAB/MRC: general invalid traffic, by activity).
    RateLimited,
    /// A conversion names its click, but no campaign that it could be counted for.
    ClickUnresolved,
    /// A postback that its advertiser has not approved, or has taken back: kept for its transaction, and no conversion of its own.
    NotApproved,
    /// The record's bytes are no event that this binary can read; a stand-in holds them.
    Undecodable,
    /// A rule failed on this event: a bug of ours, not the event's fault.
    JudgingFailed,
}

impl Reason {
    pub const ALL: [Reason; 11] = [
        Reason::SameId,
        Reason::DoubleClick,
        Reason::DeclaredBot,
        Reason::LinkPreview,
        Reason::Prefetch,
        Reason::HeadRequest,
        Reason::RateLimited,
        Reason::ClickUnresolved,
        Reason::NotApproved,
        Reason::Undecodable,
        Reason::JudgingFailed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::SameId => "same_id",
            Reason::DoubleClick => "double_click",
            Reason::DeclaredBot => "declared_bot",
            Reason::LinkPreview => "link_preview",
            Reason::Prefetch => "prefetch",
            Reason::HeadRequest => "head_request",
            Reason::RateLimited => "rate_limited",
            Reason::ClickUnresolved => "click_unresolved",
            Reason::NotApproved => "not_approved",
            Reason::Undecodable => "undecodable",
            Reason::JudgingFailed => "judging_failed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The class that this reason puts an event in.
    pub fn class(self) -> Class {
        match self {
            Reason::SameId | Reason::DoubleClick => Class::Duplicate,
            Reason::DeclaredBot
            | Reason::LinkPreview
            | Reason::Prefetch
            | Reason::HeadRequest
            | Reason::RateLimited => Class::InvalidGivt,
            Reason::ClickUnresolved | Reason::NotApproved | Reason::Undecodable | Reason::JudgingFailed => {
                Class::Quarantined
            }
        }
    }

    /// Whether the id of such an event is remembered from it on. A repeat does not prolong that, and a stand-in has no id that
    /// anybody sent.
    pub fn remembers_id(self) -> bool {
        match self {
            Reason::SameId | Reason::Undecodable => false,
            Reason::DoubleClick
            | Reason::DeclaredBot
            | Reason::LinkPreview
            | Reason::Prefetch
            | Reason::HeadRequest
            | Reason::RateLimited
            | Reason::ClickUnresolved
            | Reason::NotApproved
            | Reason::JudgingFailed => true,
        }
    }
}

/// `Counted`, or not, and then why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Counted,
    Not(Reason),
}

impl Verdict {
    pub fn class(self) -> Class {
        match self {
            Verdict::Counted => Class::Counted,
            Verdict::Not(reason) => reason.class(),
        }
    }

    pub fn reason(self) -> Option<Reason> {
        match self {
            Verdict::Counted => None,
            Verdict::Not(reason) => Some(reason),
        }
    }

    /// Whether this was the first sighting of its id.
    pub fn remembers_id(self) -> bool {
        self.reason().is_none_or(Reason::remembers_id)
    }
}

/// The columns that verdicts are counted in: received = the sum over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Counted,
    Duplicate,
    /// General invalid traffic (MRC Invalid Traffic Detection and Filtration Guidelines): known by routine means.
    InvalidGivt,
    /// Sophisticated invalid traffic (the same guidelines): known by analysis.
    InvalidSivt,
    Quarantined,
}

impl Class {
    pub const ALL: [Class; 5] =
        [Class::Counted, Class::Duplicate, Class::InvalidGivt, Class::InvalidSivt, Class::Quarantined];

    pub fn as_str(self) -> &'static str {
        match self {
            Class::Counted => "counted",
            Class::Duplicate => "duplicate",
            Class::InvalidGivt => "invalid_givt",
            Class::InvalidSivt => "invalid_sivt",
            Class::Quarantined => "quarantined",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}
