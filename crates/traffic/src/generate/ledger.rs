//! Keeps the truth while events are generated, in plain tables by number; names come in at the end.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::Offset;
use tally_model::Kind;

use super::draft::{Draft, Visitor};
use super::memory::Age;
use super::truth::{Counts, Micros, Truth};
use super::world::{AGE_GROUPS, COUNTRIES, GENDERS, PLACEMENTS, VARIANTS, World};

const KINDS: usize = Kind::ALL.len();
const DAY_US: i64 = 86_400_000_000;

type ByKind = [u64; KINDS];

pub struct Ledger {
    received: ByKind,
    counted: ByKind,
    duplicate: ByKind,
    invalid_givt: ByKind,
    /// Campaign by campaign, one cell for each variant.
    campaign_variant: Vec<ByKind>,
    ad: Vec<ByKind>,
    publisher: Vec<ByKind>,
    placement: [ByKind; PLACEMENTS.len()],
    gender: [ByKind; GENDERS.len()],
    age_group: [ByKind; AGE_GROUPS.len()],
    country: [ByKind; COUNTRIES.len()],
    device: BTreeMap<&'static str, ByKind>,
    day: BTreeMap<i64, ByKind>,
    /// Cost and revenue of each campaign.
    cost_micros: Vec<[i64; KINDS]>,
    revenue_micros: Vec<[i64; KINDS]>,
    /// For each kind, a bit for each person.
    users: [Vec<u64>; KINDS],
    late: u64,
    resent: [u64; 3],
    altered: u64,
}

impl Ledger {
    pub fn new(world: &World, population: u32) -> Self {
        let campaigns = world.campaigns.len();
        let words = population.div_ceil(64) as usize;
        Self {
            received: [0; KINDS],
            counted: [0; KINDS],
            duplicate: [0; KINDS],
            invalid_givt: [0; KINDS],
            campaign_variant: vec![[0; KINDS]; campaigns * VARIANTS.len()],
            ad: vec![[0; KINDS]; campaigns * world.ads_per_campaign as usize],
            publisher: vec![[0; KINDS]; world.publishers as usize],
            placement: [[0; KINDS]; PLACEMENTS.len()],
            gender: [[0; KINDS]; GENDERS.len()],
            age_group: [[0; KINDS]; AGE_GROUPS.len()],
            country: [[0; KINDS]; COUNTRIES.len()],
            device: BTreeMap::new(),
            day: BTreeMap::new(),
            cost_micros: vec![[0; KINDS]; campaigns],
            revenue_micros: vec![[0; KINDS]; campaigns],
            users: std::array::from_fn(|_| vec![0; words]),
            late: 0,
            resent: [0; 3],
            altered: 0,
        }
    }

    pub fn resent(&mut self, draft: &Draft, age: Age, altered: bool) {
        let kind = draft.kind as usize;
        self.received[kind] += 1;
        self.duplicate[kind] += 1;
        self.resent[age as usize] += 1;
        self.altered += u64::from(altered);
    }

    pub fn first(&mut self, draft: &Draft, late: bool, world: &World) {
        let kind = draft.kind as usize;
        self.received[kind] += 1;
        self.late += u64::from(late);
        let Visitor::Person(number) = draft.visitor else {
            self.invalid_givt[kind] += 1;
            return;
        };
        self.counted[kind] += 1;
        let campaign = draft.campaign as usize;
        self.campaign_variant[campaign * VARIANTS.len() + usize::from(draft.variant)][kind] += 1;
        self.ad[campaign * world.ads_per_campaign as usize + draft.ad as usize][kind] += 1;
        self.publisher[draft.publisher as usize][kind] += 1;
        self.placement[usize::from(draft.placement)][kind] += 1;
        self.cost_micros[campaign][kind] += draft.cost_micros;
        self.revenue_micros[campaign][kind] += draft.revenue_micros;
        self.day.entry(draft.occurred_at_us.div_euclid(DAY_US)).or_default()[kind] += 1;

        let person = world.person(number);
        self.country[person.country][kind] += 1;
        let device = world.agents.people[usize::from(person.agent)].device.device;
        self.device.entry(device).or_default()[kind] += 1;
        if let Some(gender) = person.gender {
            self.gender[gender][kind] += 1;
        }
        if let Some(age_group) = person.age_group {
            self.age_group[age_group][kind] += 1;
        }
        if person.id.is_some() {
            self.users[kind][number as usize / 64] |= 1 << (number % 64);
        }
    }

    pub fn truth(&self, world: &World) -> Truth {
        let variants = VARIANTS.len();
        let campaign_name = |n: usize| format!("campaign-{:03}", n + 1);
        let ads = world.ads_per_campaign as usize;
        let ad_name = |n: usize| format!("ad-{:03}-{}", n / ads + 1, n % ads + 1);
        let campaign: Vec<ByKind> = self.campaign_variant.chunks(variants).map(sum).collect();
        let variant: Vec<ByKind> = (0..variants)
            .map(|n| sum(&self.campaign_variant.iter().skip(n).step_by(variants).copied().collect::<Vec<_>>()))
            .collect();
        let distinct = Kind::ALL.map(|kind| bits(self.users[kind as usize].iter().copied()));
        let any = (0..self.users[0].len()).map(|word| self.users.iter().fold(0, |all, users| all | users[word]));
        let planted = [
            ("late", self.late),
            ("resent_last", self.resent[Age::Last as usize]),
            ("resent_recent", self.resent[Age::Recent as usize]),
            ("resent_old", self.resent[Age::Old as usize]),
            ("resent_altered", self.altered),
        ];
        let currency = |n: usize| world.campaigns[n].currency.to_owned();
        Truth {
            received: by_kind(&self.received),
            counted: by_kind(&self.counted),
            duplicate: by_kind(&self.duplicate),
            invalid_givt: by_kind(&self.invalid_givt),
            by_campaign_id: named(&campaign, campaign_name),
            by_campaign_variant: named(&self.campaign_variant, |n| {
                format!("{}|{}", campaign_name(n / variants), VARIANTS[n % variants])
            }),
            by_ad_id: named(&self.ad, ad_name),
            by_placement_id: named(&self.placement, |n| PLACEMENTS[n].to_owned()),
            by_publisher_id: named(&self.publisher, |n| format!("publisher-{:04}", n + 1)),
            by_variant: named(&variant, |n| VARIANTS[n].to_owned()),
            by_gender: named(&self.gender, |n| GENDERS[n].to_owned()),
            by_age_group: named(&self.age_group, |n| AGE_GROUPS[n].to_owned()),
            by_country: named(&self.country, |n| COUNTRIES[n].code.to_owned()),
            by_device: keyed(self.device.iter().map(|(device, cell)| ((*device).to_owned(), cell))),
            by_utc_day: keyed(self.day.iter().map(|(day, cell)| (date(*day), cell))),
            cost_micros: money_by_kind(&self.cost_micros),
            cost_micros_by_campaign_id: money(&self.cost_micros, campaign_name),
            cost_micros_by_currency: money(&self.cost_micros, currency),
            revenue_micros: money_by_kind(&self.revenue_micros),
            revenue_micros_by_campaign_id: money(&self.revenue_micros, campaign_name),
            revenue_micros_by_currency: money(&self.revenue_micros, currency),
            distinct_users: by_kind(&distinct),
            distinct_users_total: bits(any),
            planted: planted.into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n)).collect(),
        }
    }
}

fn sum(cells: &[ByKind]) -> ByKind {
    std::array::from_fn(|kind| cells.iter().map(|cell| cell[kind]).sum())
}

fn bits(words: impl Iterator<Item = u64>) -> u64 {
    words.map(|word| u64::from(word.count_ones())).sum()
}

fn date(day: i64) -> String {
    Timestamp::from_microsecond(day * DAY_US)
        .map(|start| Offset::UTC.to_datetime(start).date())
        .unwrap_or_default()
        .to_string()
}

fn by_kind(cell: &ByKind) -> Counts {
    Kind::ALL
        .into_iter()
        .map(|kind| (kind.as_str().to_owned(), cell[kind as usize]))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn named(cells: &[ByKind], name: impl Fn(usize) -> String) -> Counts {
    keyed(cells.iter().enumerate().map(|(n, cell)| (name(n), cell)))
}

fn keyed<'a>(cells: impl Iterator<Item = (String, &'a ByKind)>) -> Counts {
    cells
        .flat_map(|(name, cell)| Kind::ALL.map(|kind| (format!("{name}|{}", kind.as_str()), cell[kind as usize])))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn money_by_kind(campaigns: &[[i64; KINDS]]) -> Micros {
    Kind::ALL
        .into_iter()
        .map(|kind| (kind.as_str().to_owned(), campaigns.iter().map(|cell| cell[kind as usize]).sum()))
        .filter(|(_, micros)| *micros != 0)
        .collect()
}

fn money(campaigns: &[[i64; KINDS]], name: impl Fn(usize) -> String) -> Micros {
    let mut by_name = Micros::new();
    for (n, cell) in campaigns.iter().enumerate().filter(|(_, cell)| cell.iter().any(|micros| *micros != 0)) {
        *by_name.entry(name(n)).or_default() += cell.iter().sum::<i64>();
    }
    by_name
}
