//! Who and what events are about: campaigns, publishers, people. All of it is a function of the seed, so a person is
//! a number here, and never stored.

use super::agents::Agents;
use super::dice::{Weights, mix};

pub struct World {
    pub agents: Agents,
    pub campaigns: Vec<Campaign>,
    pub ads_per_campaign: u32,
    pub publishers: u32,
    seed: u64,
    countries: Weights,
}

pub struct Campaign {
    pub currency: &'static str,
    /// Paid by the click, or else by the impression.
    pub by_click: bool,
    /// For a click or an impression, before its own small difference.
    pub price_micros: i64,
    /// The least basket of a conversion.
    pub basket_micros: i64,
}

pub struct Person {
    /// Absent where the person consented to nothing; then age and gender are absent too.
    pub id: Option<u64>,
    pub country: usize,
    pub agent: u8,
    pub age_group: Option<usize>,
    pub gender: Option<usize>,
    /// Bit n: in segment n.
    pub segments: u32,
    /// The low 17 bits of an address within 198.18.0.0/15.
    pub address: u32,
}

pub struct Place {
    pub code: &'static str,
    pub weight: u64,
    pub utc_offset: &'static str,
    pub utc_offset_us: i64,
}

const fn place(code: &'static str, weight: u64, utc_offset: &'static str, minutes: i64) -> Place {
    Place { code, weight, utc_offset, utc_offset_us: minutes * 60_000_000 }
}

/// With the offset that clients there write their times in: days must come out right whatever the zone.
pub const COUNTRIES: [Place; 16] = [
    place("US", 300, "-05:00", -300),
    place("DE", 110, "+01:00", 60),
    place("GB", 100, "Z", 0),
    place("FR", 75, "+01:00", 60),
    place("JP", 70, "+09:00", 540),
    place("IN", 65, "+05:30", 330),
    place("BR", 55, "-03:00", -180),
    place("CA", 45, "-05:00", -300),
    place("ES", 40, "+01:00", 60),
    place("IT", 35, "+01:00", 60),
    place("AU", 30, "+11:00", 660),
    place("NL", 25, "+01:00", 60),
    place("MX", 20, "-06:00", -360),
    place("PL", 15, "+01:00", 60),
    place("SG", 10, "+08:00", 480),
    place("ZA", 5, "+02:00", 120),
];
pub const PLACEMENTS: [&str; 8] =
    ["in-feed", "header", "sidebar", "video-pre-roll", "interstitial", "search-top", "native", "footer"];
pub const VARIANTS: [&str; 2] = ["a", "b"];
pub const GENDERS: [&str; 3] = ["female", "male", "other"];
pub const AGE_GROUPS: [&str; 6] = ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"];
pub const SEGMENTS: [&str; 12] = [
    "auto",
    "travel",
    "sports",
    "finance",
    "gaming",
    "beauty",
    "parents",
    "students",
    "gardening",
    "luxury",
    "music",
    "pets",
];

impl World {
    pub fn new(seed: u64, campaigns: u32, ads_per_campaign: u32, publishers: u32) -> Self {
        let campaigns = (0..u64::from(campaigns)).map(|n| Campaign::of(mix(seed ^ mix(n + 1)))).collect();
        let countries = Weights::of(COUNTRIES.iter().map(|country| country.weight));
        Self { agents: Agents::new(), campaigns, ads_per_campaign, publishers, seed: mix(seed), countries }
    }

    pub fn person(&self, number: u32) -> Person {
        // `mix` gives each number a value of its own, so no two people share an id.
        let id = mix(u64::from(number).wrapping_add(self.seed));
        let (more, most) = (mix(id ^ 1), mix(id ^ 2));
        let known = !more.is_multiple_of(32);
        Person {
            id: known.then_some(id),
            country: self.countries.pick_by(more as u32) as usize,
            agent: self.agents.of_person((more >> 32) as u32),
            // One in seven does not tell.
            age_group: Some(most as u8 as usize % (AGE_GROUPS.len() + 1))
                .filter(|age| known && *age < AGE_GROUPS.len()),
            gender: known.then_some(match (most >> 8) as u8 {
                0..=126 => 0,
                127..=251 => 1,
                _ => 2,
            }),
            // Two masks met: a quarter of the bits stay, three segments on average.
            segments: ((most >> 24) & (most >> 40)) as u32 & ((1 << SEGMENTS.len()) - 1),
            address: (id >> 20) as u32 & 0x1_FFFF,
        }
    }
}

impl Campaign {
    fn of(bits: u64) -> Self {
        let by_click = !bits.is_multiple_of(3);
        let steps = (bits >> 8 & 0xFFFF) as i64;
        Self {
            currency: if bits >> 32 & 3 == 0 { "EUR" } else { "USD" },
            by_click,
            // 0.10 to 1.41 for a click; 0.5 to 7 for a thousand impressions.
            price_micros: if by_click { 100_000 + steps * 20 } else { 500 + steps / 10 },
            basket_micros: 5_000_000 + (bits >> 40 & 0xFF) as i64 * 100_000,
        }
    }
}
