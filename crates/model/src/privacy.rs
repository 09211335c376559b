//! What a person allows to be done with an event, as the page or its consent manager said it. Kept as it came, with the event,
//! so that rules to come can honour it; nothing is decided by it yet.

use serde::{Deserialize, Serialize};

/// Signals of consent and privacy. What was not said is absent, which is not the same as "no".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privacy {
    /// Whether the GDPR applies (IAB TCF, `gdpr`).
    pub gdpr: Option<bool>,
    /// The TC string (IAB TCF, `gdpr_consent`).
    pub gdpr_consent: Option<String>,
    /// The string of the IAB Global Privacy Platform.
    pub gpp: Option<String>,
    /// Which of its sections apply, such as `7` or `2,6`.
    pub gpp_sid: Option<String>,
    /// The U.S. Privacy string (IAB CCPA), such as `1YNN`.
    pub us_privacy: Option<String>,
    /// Global Privacy Control: the browser asks not to sell or share (`Sec-GPC: 1`).
    pub gpc: Option<bool>,
}

impl Privacy {
    /// Nothing, where nothing was said.
    pub fn some(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}
