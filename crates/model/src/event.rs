//! An event as capture stamped it: checked, hashed where personal, and given its time of receipt. Never changed after that.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ConversionStatus, Country, Privacy, Region, Subdivision};

/// Identifies an event for deduplication. Made by the client, or by capture where absent.
pub type EventId = Uuid;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Impression,
    Click,
    Conversion,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Impression, Kind::Click, Kind::Conversion];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Impression => "impression",
            Kind::Click => "click",
            Kind::Conversion => "conversion",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What a request was for, where it was not to show a person what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A HEAD: looks where a link leads, and goes nowhere.
    Head,
    /// Fetched ahead, in case that a person goes there, or for a preview. The browser says so.
    Prefetch,
}

impl Purpose {
    pub const ALL: [Purpose; 2] = [Purpose::Head, Purpose::Prefetch];

    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Head => "head",
            Purpose::Prefetch => "prefetch",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == name)
    }
}

/// A field that is added goes to the end: see `record.rs`. `T` is a text: the event's own, or a part of the record that it stands in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event<T = String> {
    pub id: EventId,
    pub kind: Kind,
    /// When it happened, by the sender's word. Microseconds since the Unix epoch, UTC.
    pub occurred_at_us: i64,
    /// The sender's offset from UTC at that moment, so that its local time can be told.
    pub utc_offset_minutes: i16,
    /// When capture took it in, by our clock. The only time that decisions depend on.
    pub received_at_us: i64,
    /// Empty where a conversion names only its click.
    pub campaign_id: T,
    pub ad_id: T,
    pub placement_id: Option<T>,
    pub publisher_id: Option<T>,
    pub variant: Option<T>,
    /// Keyed hash (HMAC-SHA-256, first 8 bytes); the raw value never leaves capture.
    pub user_hash: Option<u64>,
    /// Keyed hash of the address, as above.
    pub ip_hash: Option<u64>,
    pub user_agent: Option<T>,
    pub referrer: Option<T>,
    pub x: Option<f32>,
    pub y: Option<f32>,
    pub country: Option<Country>,
    pub region: Region,
    pub age_group: Option<T>,
    pub gender: Option<T>,
    pub segments: Vec<T>,
    /// What the advertiser pays for this event, in millionths of `currency`.
    pub cost_micros: i64,
    /// What this event brought the advertiser, in millionths of `currency`.
    pub revenue_micros: i64,
    /// ISO 4217 code.
    pub currency: Option<T>,
    pub click_id: Option<T>,
    /// Fields that Tally does not know, as one JSON object.
    pub props: Option<T>,
    /// The part of the country.
    pub subdivision: Option<Subdivision>,
    pub purpose: Option<Purpose>,
    /// What the person allows, where anything was said of it.
    pub privacy: Option<Box<Privacy>>,
    /// The advertiser's or network's own number of the transaction. From postbacks only: whoever names one may change what
    /// becomes of it.
    pub txn_id: Option<T>,
    /// How the transaction stands; none where a conversion is not part of one, which is as good as approved.
    pub status: Option<ConversionStatus>,
}

impl Event {
    /// An event with the required fields only; tests and generators fill in the rest.
    pub fn new(id: EventId, kind: Kind, occurred_at_us: i64, campaign_id: &str, ad_id: &str) -> Self {
        Self::of(id, kind, occurred_at_us, campaign_id.to_owned(), ad_id.to_owned())
    }
}

impl<T> Event<T> {
    /// The same with texts of any form.
    pub fn of(id: EventId, kind: Kind, occurred_at_us: i64, campaign_id: T, ad_id: T) -> Self {
        Self {
            id,
            kind,
            occurred_at_us,
            utc_offset_minutes: 0,
            received_at_us: occurred_at_us,
            campaign_id,
            ad_id,
            placement_id: None,
            publisher_id: None,
            variant: None,
            user_hash: None,
            ip_hash: None,
            user_agent: None,
            referrer: None,
            x: None,
            y: None,
            country: None,
            region: Region::Other,
            age_group: None,
            gender: None,
            segments: Vec::new(),
            cost_micros: 0,
            revenue_micros: 0,
            currency: None,
            click_id: None,
            props: None,
            subdivision: None,
            purpose: None,
            privacy: None,
            txn_id: None,
            status: None,
        }
    }

    /// The same event with its texts in another form.
    pub fn map<'a, U>(&'a self, of: impl Fn(&'a T) -> U) -> Event<U> {
        Event {
            id: self.id,
            kind: self.kind,
            occurred_at_us: self.occurred_at_us,
            utc_offset_minutes: self.utc_offset_minutes,
            received_at_us: self.received_at_us,
            campaign_id: of(&self.campaign_id),
            ad_id: of(&self.ad_id),
            placement_id: self.placement_id.as_ref().map(&of),
            publisher_id: self.publisher_id.as_ref().map(&of),
            variant: self.variant.as_ref().map(&of),
            user_hash: self.user_hash,
            ip_hash: self.ip_hash,
            user_agent: self.user_agent.as_ref().map(&of),
            referrer: self.referrer.as_ref().map(&of),
            x: self.x,
            y: self.y,
            country: self.country,
            region: self.region,
            age_group: self.age_group.as_ref().map(&of),
            gender: self.gender.as_ref().map(&of),
            segments: self.segments.iter().map(&of).collect(),
            cost_micros: self.cost_micros,
            revenue_micros: self.revenue_micros,
            currency: self.currency.as_ref().map(&of),
            click_id: self.click_id.as_ref().map(&of),
            props: self.props.as_ref().map(&of),
            subdivision: self.subdivision.clone(),
            purpose: self.purpose,
            privacy: self.privacy.clone(),
            txn_id: self.txn_id.as_ref().map(&of),
            status: self.status,
        }
    }
}
