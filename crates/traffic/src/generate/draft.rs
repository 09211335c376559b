//! One event before it is written: small and `Copy`, so that thousands can be kept for resending, and written again.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::Offset;
use tally_model::Kind;
use uuid::Builder;

use super::world::{AGE_GROUPS, COUNTRIES, GENDERS, PLACEMENTS, SEGMENTS, VARIANTS, World};

#[derive(Debug, Clone, Copy)]
pub struct Draft {
    /// The bits that its version 4 UUID is made of.
    pub id: u128,
    pub kind: Kind,
    pub occurred_at_us: i64,
    pub visitor: Visitor,
    pub campaign: u32,
    /// Within the campaign.
    pub ad: u32,
    pub publisher: u32,
    pub placement: u8,
    pub variant: u8,
    /// Thousandths of the ad's width and height.
    pub point: Option<(u16, u16)>,
    pub cost_micros: i64,
    pub revenue_micros: i64,
    pub click_id: Option<u128>,
}

#[derive(Debug, Clone, Copy)]
pub enum Visitor {
    Person(u32),
    /// Its agent, and the last byte of its address in 203.0.113.0/24.
    Robot {
        agent: u8,
        address: u8,
    },
}

/// Writes drafts as JSON. Keeps the last day that it wrote, as nearly all lines share it.
#[derive(Default)]
pub struct Pen {
    day: i64,
    date: String,
}

const DAY_US: i64 = 86_400_000_000;

impl Pen {
    /// Appends the JSON object, without a line's end. No value needs an escape: all come from our own tables.
    pub fn write(&mut self, draft: &Draft, world: &World, out: &mut String) {
        out.push_str("{\"event_id\":\"");
        push_id(draft.id, out);
        put(out, "\",\"kind\":\"", draft.kind.as_str());
        let person = match draft.visitor {
            Visitor::Person(number) => Some(world.person(number)),
            Visitor::Robot { .. } => None,
        };
        // Robots run in data centres, on UTC.
        let place = person.as_ref().map_or(&COUNTRIES[0], |person| &COUNTRIES[person.country]);
        let (utc_offset, utc_offset_us) = person.as_ref().map_or(("Z", 0), |_| (place.utc_offset, place.utc_offset_us));
        out.push_str("\",\"occurred_at\":\"");
        self.push_time(draft.occurred_at_us + utc_offset_us, out);
        out.push_str(utc_offset);
        push(out, format_args!("\",\"campaign_id\":\"campaign-{:03}\"", draft.campaign + 1));
        push(out, format_args!(",\"ad_id\":\"ad-{:03}-{}\"", draft.campaign + 1, draft.ad + 1));
        put(out, ",\"placement_id\":\"", PLACEMENTS[usize::from(draft.placement)]);
        push(out, format_args!("\",\"publisher_id\":\"publisher-{:04}\"", draft.publisher + 1));
        put(out, ",\"variant\":\"", VARIANTS[usize::from(draft.variant)]);
        match (&person, draft.visitor) {
            (Some(person), _) => {
                if let Some(id) = person.id {
                    push(out, format_args!("\",\"user_id\":\"{id:016x}"));
                }
                let [_, high, middle, low] = person.address.to_be_bytes();
                push(out, format_args!("\",\"ip\":\"198.{}.{middle}.{low}", 18 + high));
                put(out, "\",\"user_agent\":\"", &world.agents.people[usize::from(person.agent)].text);
            }
            (None, Visitor::Robot { agent, address }) => {
                push(out, format_args!("\",\"ip\":\"203.0.113.{address}"));
                put(out, "\",\"user_agent\":\"", &world.agents.robots[usize::from(agent)].text);
            }
            (None, Visitor::Person(_)) => {}
        }
        // Not every page names itself.
        if draft.id & 3 != 0 && draft.kind != Kind::Conversion {
            let (publisher, section) = (draft.publisher + 1, (draft.id >> 8) as u8 % 40);
            push(out, format_args!("\",\"referrer\":\"https://publisher-{publisher:04}.example/section/{section}"));
        }
        put(out, "\",\"country\":\"", place.code);
        if let Some(age_group) = person.as_ref().and_then(|person| person.age_group) {
            put(out, "\",\"age_group\":\"", AGE_GROUPS[age_group]);
        }
        if let Some(gender) = person.as_ref().and_then(|person| person.gender) {
            put(out, "\",\"gender\":\"", GENDERS[gender]);
        }
        out.push('"');
        push_segments(person.map_or(0, |person| person.segments), out);
        if let Some((x, y)) = draft.point {
            push(out, format_args!(",\"x\":0.{x:03},\"y\":0.{y:03}"));
        }
        if draft.cost_micros != 0 {
            push(out, format_args!(",\"cost_micros\":{}", draft.cost_micros));
        }
        if draft.revenue_micros != 0 {
            push(out, format_args!(",\"revenue_micros\":{}", draft.revenue_micros));
        }
        if draft.cost_micros != 0 || draft.revenue_micros != 0 {
            put(out, ",\"currency\":\"", world.campaigns[draft.campaign as usize].currency);
            out.push('"');
        }
        if let Some(click_id) = draft.click_id {
            out.push_str(",\"click_id\":\"");
            push_id(click_id, out);
            out.push('"');
        }
        out.push('}');
    }

    fn push_time(&mut self, local_us: i64, out: &mut String) {
        let (day, in_day_ms) = (local_us.div_euclid(DAY_US), local_us.rem_euclid(DAY_US) / 1_000);
        if self.day != day || self.date.is_empty() {
            self.day = day;
            self.date.clear();
            // The plan keeps its times within the years that jiff knows.
            let date = Timestamp::from_microsecond(day * DAY_US).map(|start| Offset::UTC.to_datetime(start).date());
            push(&mut self.date, format_args!("{}", date.unwrap_or_default()));
        }
        out.push_str(&self.date);
        let (seconds, ms) = (in_day_ms / 1_000, in_day_ms % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        push(out, format_args!("T{hour:02}:{minute:02}:{second:02}.{ms:03}"));
    }
}

fn push_id(bits: u128, out: &mut String) {
    let id = Builder::from_random_bytes(bits.to_be_bytes()).into_uuid();
    out.push_str(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
}

fn push_segments(segments: u32, out: &mut String) {
    let named = SEGMENTS.iter().enumerate().filter(|(n, _)| segments >> n & 1 == 1);
    for (place, (_, name)) in named.enumerate() {
        put(out, if place == 0 { ",\"segments\":[\"" } else { "\",\"" }, name);
    }
    if segments != 0 {
        out.push_str("\"]");
    }
}

fn put(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push_str(value);
}

fn push(out: &mut String, text: std::fmt::Arguments) {
    // A `String` takes whatever memory holds.
    let _ = out.write_fmt(text);
}
