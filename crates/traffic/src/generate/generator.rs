//! Rolls the dice: what comes next, who it is about, and what follows from it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use tally_model::Kind;

use super::clicks::Clicks;
use super::curve::Curve;
use super::dice::{Chance, Crowd, Dice, Weights};
use super::draft::{Draft, Pen, Visitor};
use super::ledger::Ledger;
use super::memory::{Age, Memory, altered};
use super::plan::{Plan, PlanError};
use super::truth::Truth;
use super::world::{PLACEMENTS, VARIANTS, World};

/// Of resends, those that come with other figures.
const ALTERED_FRACTION: f64 = 0.25;
/// From the event to its sending, in the normal course: so the first events occur just before the plan's start.
const TRANSIT_US_MAX: u32 = 2_000_000;
/// A late event is late by about 3 to 6 minutes, or by any of the nine doublings after that: two days at most.
const LATE_LEAST_US: i64 = 168_000_000;
const LATE_DOUBLINGS: u32 = 10;
/// From an impression to its click (1 s to about a minute), and from there to a conversion (5 s to about 3 hours).
const CLICK_LEAST_US: i64 = 1_000_000;
const CLICK_DOUBLINGS: u32 = 6;
const CONVERSION_LEAST_US: i64 = 5_000_000;
const CONVERSION_DOUBLINGS: u32 = 11;
/// Clicks and conversions that wait for their time; past this, impressions go without.
const PENDING_MAX: usize = 1 << 18;

/// An endless supply by [`Generator::next_at`]; as an iterator, the plan's events over the plan's span.
pub struct Generator {
    plan: Plan,
    world: World,
    curve: Curve,
    crowd: Crowd,
    campaigns: Weights,
    ads: Weights,
    publishers: Weights,
    placements: Weights,
    dice: Dice,
    pending: BinaryHeap<Reverse<Pending>>,
    memory: Memory,
    clicks: Clicks,
    ledger: Ledger,
    pen: Pen,
    sent: u64,
}

/// One event's JSON, and the moment that the plan has it sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    pub line: String,
    pub sent_at_us: i64,
}

/// A click or conversion that an earlier event led to.
struct Pending {
    due_us: i64,
    /// Tells apart those that are due at once, and so keeps their order.
    number: u64,
    draft: Draft,
}

impl Generator {
    pub fn new(plan: Plan) -> Result<Self, PlanError> {
        plan.check()?;
        let world = World::new(plan.seed, plan.campaigns, plan.ads_per_campaign, plan.publishers);
        Ok(Self {
            curve: Curve::new(plan.start_us, plan.duration_s, plan.events),
            crowd: Crowd::of(plan.population()),
            campaigns: Weights::zipf(plan.campaigns),
            ads: Weights::zipf(plan.ads_per_campaign),
            publishers: Weights::zipf(plan.publishers),
            placements: Weights::zipf(PLACEMENTS.len() as u32),
            dice: Dice::new(plan.seed),
            pending: BinaryHeap::new(),
            memory: Memory::default(),
            clicks: Clicks::default(),
            ledger: Ledger::new(&world, plan.population()),
            pen: Pen::default(),
            sent: 0,
            world,
            plan,
        })
    }

    /// The next event as it is sent at `now_us`, which must not run backwards. Live traffic: hand in the clock's time,
    /// as often as events are wanted. The truth covers these too.
    pub fn next_at(&mut self, now_us: i64) -> Generated {
        let mut line = String::with_capacity(640);
        self.write_at(now_us, &mut line);
        Generated { line, sent_at_us: now_us }
    }

    /// Appends the same to `out`, without a line's end.
    pub fn write_at(&mut self, now_us: i64, out: &mut String) {
        let draft = self.draft_at(now_us);
        self.pen.write(&draft, &self.world, out);
        self.sent += 1;
    }

    /// The exact totals of everything generated so far.
    pub fn truth(&self) -> Truth {
        self.ledger.truth(&self.world)
    }

    fn draft_at(&mut self, now_us: i64) -> Draft {
        if self.dice.happens(Chance::of(self.plan.duplicate_fraction))
            && let Some((draft, age)) = self.memory.recall(now_us, &mut self.dice)
        {
            return self.resend(draft, age);
        }
        let (draft, late_us) = if self.dice.happens(Chance::of(self.plan.bot_fraction)) {
            (self.robot(now_us), 0)
        } else if self.pending.peek().is_some_and(|Reverse(next)| next.due_us <= now_us)
            && let Some(Reverse(next)) = self.pending.pop()
        {
            // Whoever is late stays late: the click of an impression that came an hour late comes an hour late.
            (next.draft, next.due_us - next.draft.occurred_at_us)
        } else {
            self.impression(now_us)
        };
        let is_late = late_us >= LATE_LEAST_US;
        self.ledger.first(&draft, is_late, &self.world);
        self.memory.keep(draft, now_us, &mut self.dice);
        if matches!(draft.visitor, Visitor::Person(_)) {
            self.follow_up(&draft, now_us, late_us);
        }
        draft
    }

    fn resend(&mut self, draft: Draft, age: Age) -> Draft {
        let is_altered = self.dice.happens(Chance::of(ALTERED_FRACTION));
        self.ledger.resent(&draft, age, is_altered);
        match is_altered {
            true => altered(draft, PLACEMENTS.len() as u8, &mut self.dice),
            false => draft,
        }
    }

    /// With how late it is, where that is more than its time on the way.
    fn impression(&mut self, now_us: i64) -> (Draft, i64) {
        let visitor = Visitor::Person(self.crowd.pick(&mut self.dice));
        let late_us = match self.dice.happens(Chance::of(self.plan.late_fraction)) {
            true => self.dice.span_us(LATE_LEAST_US, LATE_DOUBLINGS),
            false => 0,
        };
        (self.shown(visitor, now_us - late_us), late_us)
    }

    fn robot(&mut self, now_us: i64) -> Draft {
        let agent = self.dice.below(self.world.agents.robots.len() as u32) as u8;
        let visitor = Visitor::Robot { agent, address: self.dice.below(254) as u8 + 1 };
        let draft = self.shown(visitor, now_us);
        match self.dice.happens(Chance::of(0.3)) {
            true => self.clicked(&draft, draft.occurred_at_us),
            false => draft,
        }
    }

    fn shown(&mut self, visitor: Visitor, sent_at_us: i64) -> Draft {
        let dice = &mut self.dice;
        let campaign = self.campaigns.pick(dice);
        let terms = &self.world.campaigns[campaign as usize];
        let cost_micros = if terms.by_click { 0 } else { about(terms.price_micros, dice) };
        Draft {
            id: dice.bits(),
            kind: Kind::Impression,
            occurred_at_us: sent_at_us - i64::from(dice.below(TRANSIT_US_MAX)),
            visitor,
            campaign,
            ad: self.ads.pick(dice),
            publisher: self.publishers.pick(dice),
            placement: self.placements.pick(dice) as u8,
            variant: dice.below(VARIANTS.len() as u32) as u8,
            point: None,
            cost_micros,
            revenue_micros: 0,
            click_id: None,
        }
    }

    fn clicked(&mut self, impression: &Draft, occurred_at_us: i64) -> Draft {
        let dice = &mut self.dice;
        let terms = &self.world.campaigns[impression.campaign as usize];
        // Two dice each: people aim at the middle.
        let (x, y) = (dice.below(500) + dice.below(500), dice.below(500) + dice.below(500));
        Draft {
            id: dice.bits(),
            kind: Kind::Click,
            occurred_at_us,
            point: Some((x as u16, y as u16)),
            cost_micros: if terms.by_click { about(terms.price_micros, dice) } else { 0 },
            ..*impression
        }
    }

    fn converted(&mut self, click: &Draft, occurred_at_us: i64) -> Draft {
        let basket_micros = self.world.campaigns[click.campaign as usize].basket_micros;
        Draft {
            id: self.dice.bits(),
            kind: Kind::Conversion,
            occurred_at_us,
            point: None,
            cost_micros: 0,
            // Whole cents, and few large baskets.
            revenue_micros: self.dice.span_us(basket_micros, 3) / 10_000 * 10_000,
            click_id: Some(click.id),
            ..*click
        }
    }

    /// Decides at once whether this event leads to another one, and when.
    fn follow_up(&mut self, draft: &Draft, now_us: i64, late_us: i64) {
        if self.pending.len() >= PENDING_MAX {
            return;
        }
        let next = match draft.kind {
            Kind::Impression => {
                // Variant `b` beats `a` by a quarter, and each later ad of a campaign does worse than the one before.
                let percent = [89, 111][usize::from(draft.variant)] * (120 - u64::from(draft.ad.min(4)) * 12) / 100;
                if !self.dice.happens(Chance::of(self.plan.click_fraction).times(percent)) {
                    return;
                }
                let due_us = now_us + self.dice.span_us(CLICK_LEAST_US, CLICK_DOUBLINGS);
                let click = self.clicked(draft, due_us - late_us);
                if let Visitor::Person(person) = draft.visitor
                    && !self.clicks.add(person, click.campaign, click.ad, click.occurred_at_us, now_us)
                {
                    return;
                }
                Pending { due_us, number: self.sent, draft: click }
            }
            Kind::Click => {
                if !self.dice.happens(Chance::of(self.plan.conversion_fraction)) {
                    return;
                }
                let due_us = now_us + self.dice.span_us(CONVERSION_LEAST_US, CONVERSION_DOUBLINGS);
                Pending { due_us, number: self.sent, draft: self.converted(draft, due_us - late_us) }
            }
            Kind::Conversion => return,
        };
        self.pending.push(Reverse(next));
    }
}

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        (self.sent < self.plan.events).then(|| self.next_at(self.curve.time_us(self.sent)))
    }
}

/// Writes the plan's events, one a line, and tells their exact totals.
pub fn write_to(plan: Plan, mut out: impl Write) -> io::Result<Truth> {
    let mut generator = Generator::new(plan).map_err(|wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong))?;
    let mut line = String::with_capacity(1_024);
    while generator.sent < generator.plan.events {
        line.clear();
        generator.write_at(generator.curve.time_us(generator.sent), &mut line);
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    out.flush()?;
    Ok(generator.truth())
}

/// Within a tenth of it.
fn about(micros: i64, dice: &mut Dice) -> i64 {
    micros - micros / 10 + dice.below_u64(micros as u64 / 5) as i64
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_us, self.number).cmp(&(other.due_us, other.number))
    }
}
