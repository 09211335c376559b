//! What to generate.

use serde::{Deserialize, Serialize};

/// The first midnight of March 2026, UTC: a fixed moment, so that a plan left at its defaults is the same tomorrow.
const DEFAULT_START_US: i64 = 1_772_323_200_000_000;
/// Bounds the tables that the truth is counted in.
const ADS_MAX: u64 = 1_000_000;
/// Ten years: bounds the table of hours that sending is spread over.
const DURATION_S_MAX: u64 = 3_660 * 86_400;

/// A truth holds for a server that remembers ids for a day at least: no resend follows later than that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    pub seed: u64,
    /// Lines in all, resends included.
    pub events: u64,
    /// Where sending begins: microseconds since the Unix epoch, UTC.
    pub start_us: i64,
    /// The span that sending is spread over, denser in the evening than at night.
    pub duration_s: u64,
    pub campaigns: u32,
    pub ads_per_campaign: u32,
    pub publishers: u32,
    /// The average over people; a few see ten times as much.
    pub events_per_user: u32,
    /// Of all lines: those that carry the id of an earlier one. A quarter of them also differ in other fields.
    pub duplicate_fraction: f64,
    /// Of people's events: those that reach us minutes to two days after they occurred.
    pub late_fraction: f64,
    /// Of first sightings: those whose user agent names a robot.
    pub bot_fraction: f64,
    /// Clicks for each impression, on average over ads and variants; variant `b` does better by a quarter.
    pub click_fraction: f64,
    /// Conversions for each click.
    pub conversion_fraction: f64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            events: 100_000,
            start_us: DEFAULT_START_US,
            duration_s: 86_400,
            campaigns: 20,
            ads_per_campaign: 5,
            publishers: 300,
            events_per_user: 6,
            duplicate_fraction: 0.03,
            late_fraction: 0.02,
            bot_fraction: 0.02,
            click_fraction: 0.07,
            conversion_fraction: 0.12,
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum PlanError {
    #[error("`{field}` is {value}; give a fraction from 0 to {max}")]
    Fraction { field: &'static str, value: f64, max: f64 },
    #[error("`{field}` is 0; give 1 or more")]
    Zero { field: &'static str },
    #[error("`campaigns` times `ads_per_campaign` is {0}; keep it at {ADS_MAX} or less")]
    TooManyAds(u64),
    #[error("`publishers` is {0}; keep it at {ADS_MAX} or less")]
    TooManyPublishers(u32),
    #[error(
        "`start_us` and `duration_s` leave the calendar, or span over ten years; give a nearer start or a shorter span"
    )]
    Span,
}

impl Plan {
    /// People that events are drawn from.
    pub(crate) fn population(&self) -> u32 {
        let people = self.events / u64::from(self.events_per_user.max(1));
        u32::try_from(people.max(1_000)).unwrap_or(u32::MAX)
    }

    pub(crate) fn check(&self) -> Result<(), PlanError> {
        // Resends and robots leave room for the rest: beyond these, nothing would be left to resend.
        let fractions = [
            ("duplicate_fraction", self.duplicate_fraction, 0.9),
            ("late_fraction", self.late_fraction, 1.0),
            ("bot_fraction", self.bot_fraction, 1.0),
            ("click_fraction", self.click_fraction, 0.5),
            ("conversion_fraction", self.conversion_fraction, 1.0),
        ];
        for (field, value, max) in fractions {
            if !(0.0..=max).contains(&value) {
                return Err(PlanError::Fraction { field, value, max });
            }
        }
        let counts = [
            ("campaigns", self.campaigns),
            ("ads_per_campaign", self.ads_per_campaign),
            ("publishers", self.publishers),
            ("events_per_user", self.events_per_user),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(PlanError::Zero { field });
        }
        let ads = u64::from(self.campaigns) * u64::from(self.ads_per_campaign);
        if ads > ADS_MAX {
            return Err(PlanError::TooManyAds(ads));
        }
        if u64::from(self.publishers) > ADS_MAX {
            return Err(PlanError::TooManyPublishers(self.publishers));
        }
        let first_us = i128::from(self.start_us) - 3 * 86_400_000_000;
        let last_us = i128::from(self.start_us) + i128::from(self.duration_s) * 1_000_000 + 86_400_000_000;
        let years =
            i128::from(jiff::Timestamp::MIN.as_microsecond())..i128::from(jiff::Timestamp::MAX.as_microsecond());
        if self.duration_s > DURATION_S_MAX || !years.contains(&first_us) || !years.contains(&last_us) {
            return Err(PlanError::Span);
        }
        Ok(())
    }
}
