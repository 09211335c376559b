//! A quarantined event, mended and sent again: a new event that says which one it stands for. The old row keeps its verdict,
//! since every offset has one for good.
//!
//! It does not come in through capture: people's ids are hashes by now, and must stay the same ones.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tally_model::{Event, EventId, Reason, decode_record, record_kept};
use uuid::{Builder, Uuid};

/// As for events that come in.
const ID_BYTES_MAX: usize = 64;
const MICROS_MAX: i64 = 1_000_000_000_000;
/// Names in `props` the event that this one stands for.
const FROM: &str = "resubmitted_from";

/// What may be mended, for messages.
const FIELDS: &str =
    "campaign_id, ad_id, placement_id, publisher_id, variant, click_id, currency, cost_micros or revenue_micros";

/// The event to send for a quarantined one, with some fields set anew; or why there is none, as a sentence.
pub fn mended(old: &Event, reason: Reason, set: &Map<String, Value>, now_us: i64) -> Result<Event, String> {
    let mut event = match reason {
        Reason::Undecodable => undecoded(old)?,
        Reason::NotApproved => {
            return Err("it is not approved; the next postback of its transaction says when it is".to_owned());
        }
        _ => old.clone(),
    };
    for (field, value) in set {
        set_field(&mut event, field, value)?;
    }
    if event.campaign_id.is_empty() {
        return Err("it would be quarantined again, since it names no campaign; set `campaign_id`".to_owned());
    }
    event.id = resubmitted_id(old.id);
    event.received_at_us = now_us;
    event.props = Some(with_origin(event.props.as_deref(), old.id));
    Ok(event)
}

/// The same for the same event each time, so that sending it again is a copy.
pub fn resubmitted_id(of: EventId) -> EventId {
    let hash = Sha256::new().chain_update(b"tally resubmitted event").chain_update(of.as_bytes()).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    // Version 8 (RFC 9562): made by a rule of our own.
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The event in the record that a stand-in keeps, if this binary can read it by now.
pub fn undecoded(stand_in: &Event) -> Result<Event, String> {
    let record = stand_in.props.as_deref().and_then(record_kept);
    let record = record.ok_or("its record was too long to be kept whole")?;
    decode_record(&record).map_err(|error| error.to_string())
}

fn with_origin(props: Option<&str>, origin: Uuid) -> String {
    let known: Option<Map<String, Value>> = props.and_then(|props| serde_json::from_str(props).ok());
    let mut props = known.unwrap_or_default();
    props.insert(FROM.to_owned(), json!(origin));
    Value::Object(props).to_string()
}

fn set_field(event: &mut Event, field: &str, value: &Value) -> Result<(), String> {
    match field {
        "campaign_id" => event.campaign_id = name(field, value)?,
        "ad_id" => event.ad_id = name(field, value)?,
        "placement_id" => event.placement_id = Some(name(field, value)?),
        "publisher_id" => event.publisher_id = Some(name(field, value)?),
        "variant" => event.variant = Some(name(field, value)?),
        "click_id" => event.click_id = Some(name(field, value)?),
        "currency" => event.currency = Some(currency(value)?),
        "cost_micros" => event.cost_micros = micros(field, value)?,
        "revenue_micros" => event.revenue_micros = micros(field, value)?,
        _ => return Err(format!("`{field}` cannot be set; set {FIELDS}")),
    }
    Ok(())
}

fn name(field: &str, value: &Value) -> Result<String, String> {
    let text = value.as_str().filter(|text| (1..=ID_BYTES_MAX).contains(&text.len()));
    text.map(ToOwned::to_owned)
        .ok_or_else(|| format!("`{field}` is {value}; give a text of up to {ID_BYTES_MAX} bytes"))
}

fn currency(value: &Value) -> Result<String, String> {
    let is_code = |text: &&str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    let code = value.as_str().filter(is_code).map(str::to_ascii_uppercase);
    code.ok_or_else(|| format!("`currency` is {value}; give three letters (ISO 4217)"))
}

fn micros(field: &str, value: &Value) -> Result<i64, String> {
    let micros = value.as_i64().filter(|micros| (-MICROS_MAX..=MICROS_MAX).contains(micros));
    micros.ok_or_else(|| format!("`{field}` is {value}; give a whole number of millionths, up to {MICROS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{Kind, StandIn, encode_record, stand_in};

    fn conversion() -> Event {
        let mut event = Event::new(Uuid::from_u128(7), Kind::Conversion, 1, "", "");
        event.click_id = Some("k".to_owned());
        event.user_hash = Some(42);
        event.revenue_micros = 9;
        event.props = Some(r#"{"txn":"t"}"#.to_owned());
        event
    }

    fn set(fields: Value) -> Map<String, Value> {
        fields.as_object().unwrap().clone()
    }

    #[test]
    fn a_mended_event_is_a_new_one_with_the_same_people_time_and_amounts() {
        let old = conversion();
        let new = mended(&old, Reason::ClickUnresolved, &set(json!({"campaign_id": "c", "ad_id": "a"})), 99).unwrap();
        let expected = Event {
            id: resubmitted_id(old.id),
            received_at_us: 99,
            campaign_id: "c".to_owned(),
            ad_id: "a".to_owned(),
            props: Some(format!(r#"{{"txn":"t","resubmitted_from":"{}"}}"#, old.id)),
            ..old.clone()
        };
        assert_eq!(new, expected);
        assert_ne!(new.id, old.id);
    }

    #[test]
    fn a_record_that_can_be_read_by_now_is_sent_as_the_event_that_it_is() {
        let inner = Event { campaign_id: "c".to_owned(), ..conversion() };
        let bytes = encode_record(&inner);
        let stand_in = |bytes| stand_in(StandIn { partition: 0, offset: 3, at_us: 5, bytes, why: "old binary" });
        let new = mended(&stand_in(&bytes), Reason::Undecodable, &Map::new(), 99).unwrap();
        assert_eq!((new.id, new.user_hash, &*new.campaign_id), (resubmitted_id(stand_in(&bytes).id), Some(42), "c"));
        let refused = mended(&stand_in(&[9]), Reason::Undecodable, &Map::new(), 99).unwrap_err();
        assert!(refused.contains("format version 9"), "{refused}");
    }

    #[test]
    fn what_would_not_count_either_is_refused_with_the_cure() {
        for (fields, says) in [
            (json!({}), "set `campaign_id`"),
            (json!({"campaign_id": ""}), "give a text"),
            (json!({"campaign_id": "c".repeat(65)}), "up to 64 bytes"),
            (json!({"campaign_id": "c", "user_id": "alice"}), "`user_id` cannot be set"),
            (json!({"campaign_id": "c", "cost_micros": 1.5}), "whole number of millionths"),
            (json!({"campaign_id": "c", "currency": "euro"}), "three letters"),
        ] {
            let refused = mended(&conversion(), Reason::ClickUnresolved, &set(fields), 99).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
