//! Puts an event together field by field, wherever the fields come from, and stamps it.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use tally_model::{Entropy, Event, EventId, Kind, Privacy, Region};
use uuid::{Builder, Uuid};

use super::field::Field;
use super::found::Found;
use super::props::Props;
use super::{checks, privacy};
use crate::client::Client;
use crate::error::Fault;
use crate::geo::{GeoTable, Place};
use crate::hash::HashKey;

/// What an event gets from capture rather than from its sender.
pub(crate) struct Stamp<'a> {
    pub received_at_us: i64,
    pub key: &'a HashKey,
    pub entropy: &'a dyn Entropy,
    pub client: &'a Client,
    /// Tells the place of an address that the event itself names.
    pub geo: Option<Arc<GeoTable>>,
    /// The kind of an event that names none.
    pub kind: Option<Kind>,
}

/// An event whose texts stand in the request, where they could stay as they are.
pub(crate) type FreshEvent<'a> = Event<Cow<'a, str>>;

/// An event in the making. A user's id and address are hashed as they are set: the builder never holds them.
pub(crate) struct EventBuilder<'a> {
    stamp: &'a Stamp<'a>,
    event: FreshEvent<'a>,
    id: Option<EventId>,
    kind: Option<Kind>,
    /// Of the address that the event names.
    place: Place,
    privacy: Privacy,
    props: Props<'a>,
}

impl<'a> EventBuilder<'a> {
    pub fn new(stamp: &'a Stamp<'a>) -> Self {
        let event = Event::of(Uuid::nil(), Kind::Impression, stamp.received_at_us, "".into(), "".into());
        Self {
            stamp,
            event,
            id: None,
            kind: stamp.kind,
            place: Place::default(),
            privacy: Privacy::default(),
            props: Props::default(),
        }
    }

    /// Sets a field of the contract. Null is absent. A field that is set twice keeps the last value (`segments`: all).
    pub fn set(&mut self, field: Field, found: Found<'a>) -> Result<(), Fault> {
        if found == Found::Null {
            return Ok(());
        }
        let client = self.stamp.client;
        let (event, privacy) = (&mut self.event, &mut self.privacy);
        match field {
            Field::EventId => self.id = Some(checks::event_id(field, &found)?),
            Field::Kind => self.kind = Some(checks::kind(field, &found)?),
            Field::OccurredAt => {
                (event.occurred_at_us, event.utc_offset_minutes) =
                    checks::occurred_at(field, &found, self.stamp.received_at_us)?;
            }
            Field::CampaignId => event.campaign_id = checks::id(field, found)?.unwrap_or_default(),
            Field::AdId => event.ad_id = checks::id(field, found)?.unwrap_or_default(),
            Field::PlacementId => event.placement_id = checks::id(field, found)?,
            Field::PublisherId => event.publisher_id = checks::id(field, found)?,
            Field::Variant => event.variant = checks::id(field, found)?,
            Field::UserId => {
                let id = checks::text(field, &found)?;
                event.user_hash = (!id.is_empty()).then(|| self.stamp.key.user(id));
            }
            // Anybody may claim to be somebody else: only our own servers are believed, others by their connection.
            Field::Ip | Field::UserAgent if !client.speaks_for_others => {}
            Field::Ip => {
                let address = checks::ip(field, &found)?;
                event.ip_hash = Some(self.stamp.key.ip(address));
                self.place = self.stamp.geo.as_deref().map(|geo| geo.place(address)).unwrap_or_default();
            }
            Field::UserAgent => event.user_agent = checks::shortened(field, found, checks::USER_AGENT_BYTES_MAX)?,
            Field::Referrer => event.referrer = checks::shortened(field, found, checks::REFERRER_BYTES_MAX)?,
            Field::X => event.x = Some(checks::number(field, &found)?),
            Field::Y => event.y = Some(checks::number(field, &found)?),
            Field::Country => event.country = Some(checks::country(field, &found)?),
            Field::Subdivision => event.subdivision = Some(checks::subdivision(field, &found)?),
            Field::AgeGroup => event.age_group = checks::id(field, found)?,
            Field::Gender => event.gender = checks::id(field, found)?,
            Field::Segments => checks::segments(field, found, &mut event.segments)?,
            Field::CostMicros => event.cost_micros = checks::micros(field, &found)?,
            Field::RevenueMicros => event.revenue_micros = checks::micros(field, &found)?,
            Field::Currency => event.currency = Some(checks::currency(field, found)?),
            Field::ClickId => event.click_id = checks::id(field, found)?,
            Field::Gdpr => privacy.gdpr = privacy::flag(field, &found)?,
            Field::GdprConsent => privacy.gdpr_consent = privacy::consent(field, &found)?,
            Field::Gpp => privacy.gpp = privacy::consent(field, &found)?,
            Field::GppSid => privacy.gpp_sid = privacy::sections(field, &found)?,
            Field::UsPrivacy => privacy.us_privacy = privacy::us_privacy(field, &found)?,
            Field::Gpc => privacy.gpc = privacy::flag(field, &found)?,
            Field::Props => self.props.merge_owned(checks::text(field, &found)?)?,
        }
        Ok(())
    }

    /// The object given as `props`, still in JSON.
    pub fn set_props(&mut self, json: &'a RawValue) -> Result<(), Fault> {
        if json.get() == "null" { Ok(()) } else { self.props.merge(json.get()) }
    }

    pub fn add_prop(&mut self, key: Cow<'a, str>, json: &'a RawValue) {
        self.props.add_raw(key, json);
    }

    pub fn add_text_prop(&mut self, key: Cow<'a, str>, text: &str) {
        self.props.add_text(key, text);
    }

    /// The event whole, or what it lacks. Made in place: events are large, and a batch has many.
    pub fn finish(mut self) -> Result<FreshEvent<'a>, Fault> {
        let Self { stamp, ref mut event, id, kind, ref mut place, ref mut privacy, ref mut props } = self;
        let client = stamp.client;
        event.kind = kind.ok_or_else(|| missing(Field::Kind, "give `impression`, `click` or `conversion`"))?;
        if !(event.kind == Kind::Conversion && event.click_id.is_some()) {
            const CURE: &str = "give both `campaign_id` and `ad_id`; only a conversion may name its `click_id` instead";
            for (field, value) in [(Field::CampaignId, &event.campaign_id), (Field::AdId, &event.ad_id)] {
                if value.is_empty() {
                    return Err(missing(field, CURE));
                }
            }
        }
        event.id = id.unwrap_or_else(|| new_id(stamp));
        event.ip_hash = event.ip_hash.or(client.ip_hash);
        if event.user_agent.is_none() {
            event.user_agent = client.user_agent.as_deref().map(Cow::Borrowed);
        }
        if event.referrer.is_none() {
            event.referrer = client.referrer.as_deref().map(Cow::Borrowed);
        }
        if let Some(subdivision) = &event.subdivision {
            let country = *event.country.get_or_insert(subdivision.country());
            if country != subdivision.country() {
                let what = format!("{:?} is not in {:?}", subdivision.as_str(), country.as_str());
                return Err(Fault::new(
                    Field::Subdivision.as_str(),
                    what,
                    "give `country` and `subdivision` of one place",
                ));
            }
        }
        if event.country.is_none() {
            let place = if place.country.is_some() { &*place } else { &client.place };
            (event.country, event.subdivision) = (place.country, place.subdivision.clone());
        }
        event.purpose = client.purpose;
        privacy.gpc = privacy.gpc.or(client.gpc);
        event.privacy = std::mem::take(privacy).some();
        event.region = Region::of(event.country);
        event.props = std::mem::take(props).finish()?.map(Cow::Owned);
        Ok(self.event)
    }
}

fn missing(field: Field, cure: &'static str) -> Fault {
    Fault::new(field.as_str(), "is missing", cure)
}

/// Version 7: sorted by time, so that neighbours in time are neighbours in every index.
fn new_id(stamp: &Stamp<'_>) -> EventId {
    let [_, _, _, _, _, _, random @ ..] = stamp.entropy.bits().to_be_bytes();
    let received_at_ms = u64::try_from(stamp.received_at_us / 1_000).unwrap_or_default();
    Builder::from_unix_timestamp_millis(received_at_ms, &random).into_uuid()
}
