//! The fields of the contract. Everything else that an event carries is a prop.

/// Declares each field once, with the name that it has in JSON, queries and forms.
macro_rules! fields {
    ($($variant:ident = $name:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Field { $($variant,)* }

        impl Field {
            pub const ALL: &[Field] = &[$(Field::$variant,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Field::$variant => $name,)* }
            }

            /// As it stands in front of a value in JSON without spaces.
            pub fn json_key(self) -> &'static str {
                match self { $(Field::$variant => concat!("\"", $name, "\":"),)* }
            }

            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Field::$variant),)* _ => None }
            }
        }
    };
}

fields! {
    EventId = "event_id",
    Kind = "kind",
    OccurredAt = "occurred_at",
    CampaignId = "campaign_id",
    AdId = "ad_id",
    PlacementId = "placement_id",
    PublisherId = "publisher_id",
    Variant = "variant",
    UserId = "user_id",
    Ip = "ip",
    UserAgent = "user_agent",
    Referrer = "referrer",
    X = "x",
    Y = "y",
    Country = "country",
    Subdivision = "subdivision",
    AgeGroup = "age_group",
    Gender = "gender",
    Segments = "segments",
    CostMicros = "cost_micros",
    RevenueMicros = "revenue_micros",
    Currency = "currency",
    ClickId = "click_id",
    Gdpr = "gdpr",
    GdprConsent = "gdpr_consent",
    Gpp = "gpp",
    GppSid = "gpp_sid",
    UsPrivacy = "us_privacy",
    Gpc = "gpc",
    Props = "props",
}

impl Field {
    /// Whether a value names a person: it must not be quoted anywhere.
    pub fn is_personal(self) -> bool {
        matches!(self, Field::UserId | Field::Ip)
    }
}
