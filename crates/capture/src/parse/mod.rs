//! From text to an event: JSON, a query or a form give fields and values, and one builder checks them all.

mod builder;
mod checks;
mod field;
mod form;
mod found;
mod json;
mod lines;
mod order;
mod privacy;
mod props;
mod scan;

pub(crate) use builder::{EventBuilder, FreshEvent, Stamp};
pub(crate) use checks::{ID_BYTES_MAX, MICROS_MAX, REFERRER_BYTES_MAX, SEGMENTS_MAX, USER_AGENT_BYTES_MAX, cut};
pub(crate) use field::Field;
pub(crate) use form::{fill as fill_from_form, pairs};
pub(crate) use json::event as event_from_json;
pub(crate) use lines::{Items, is_array};
pub(crate) use order::Order;
