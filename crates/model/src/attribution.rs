//! Which click, or view, a conversion is owed to. The rule is a pure function of what was received of both.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Class, ConversionStatus, Kind};

const DAY_US: i64 = 86_400_000_000;
/// A shop's clock may be behind ours: a conversion may seem to come this much before its click.
const CLOCKS_APART_MAX_US: i64 = 3_600_000_000;

/// How a conversion was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It names its click.
    ClickId,
    /// The person's last click before it.
    LastClick,
    /// The person's last view before it, where there was no click.
    LastView,
    /// None that fits is known. Where it names a click, that may still come.
    Unresolved,
}

impl Resolution {
    pub const ALL: [Resolution; 4] =
        [Resolution::ClickId, Resolution::LastClick, Resolution::LastView, Resolution::Unresolved];

    pub fn as_str(self) -> &'static str {
        match self {
            Resolution::ClickId => "click_id",
            Resolution::LastClick => "last_click",
            Resolution::LastView => "last_view",
            Resolution::Unresolved => "unresolved",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| resolution.as_str() == name)
    }
}

/// How long after a click, or a view, a conversion is owed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributionWindows {
    pub click_us: i64,
    pub view_us: i64,
}

impl AttributionWindows {
    pub fn of_days(click_days: u32, view_days: u32) -> Self {
        Self { click_us: i64::from(click_days) * DAY_US, view_us: i64::from(view_days) * DAY_US }
    }

    /// After a click (or a view) of this kind.
    pub fn after(self, kind: Kind) -> i64 {
        match kind {
            Kind::Impression => self.view_us,
            Kind::Click | Kind::Conversion => self.click_us,
        }
    }
}

/// What the rule looks at in a conversion.
#[derive(Debug, Clone, Copy)]
pub struct Converted<'a> {
    pub occurred_at_us: i64,
    pub received_at_us: i64,
    /// Empty where it names only its click.
    pub campaign_id: &'a str,
}

/// What the rule looks at in a click or a view.
#[derive(Debug, Clone, Copy)]
pub struct Touched<'a> {
    pub kind: Kind,
    pub class: Class,
    pub occurred_at_us: i64,
    pub received_at_us: i64,
    pub campaign_id: &'a str,
}

/// Whether a conversion that names a click is owed to it. A second click within moments is a duplicate for billing, and the
/// one that the person went on with; what no person did brings no conversion. A partner cannot claim another campaign's click.
pub fn named_click_fits(converted: &Converted<'_>, click: &Touched<'_>, windows: AttributionWindows) -> bool {
    let is_persons = matches!(click.class, Class::Counted | Class::Duplicate);
    // A click that comes in later than that changes nothing any more: an attribution is settled at some time.
    let is_in_time = click.received_at_us <= converted.received_at_us.saturating_add(windows.click_us);
    click.kind == Kind::Click
        && is_persons
        && is_in_time
        && is_of_campaign(converted, click)
        && is_within(converted, click, windows, CLOCKS_APART_MAX_US)
}

/// Whether a conversion may be owed to something that its person did: known by the time that the conversion came in, so that
/// looking later finds the same.
pub fn persons_touch_fits(converted: &Converted<'_>, touch: &Touched<'_>, windows: AttributionWindows) -> bool {
    touch.kind != Kind::Conversion
        && touch.class == Class::Counted
        && touch.received_at_us <= converted.received_at_us
        && is_of_campaign(converted, touch)
        && is_within(converted, touch, windows, 0)
}

fn is_of_campaign(converted: &Converted<'_>, touch: &Touched<'_>) -> bool {
    converted.campaign_id.is_empty() || converted.campaign_id == touch.campaign_id
}

fn is_within(converted: &Converted<'_>, touch: &Touched<'_>, windows: AttributionWindows, ahead_max_us: i64) -> bool {
    let after_us = converted.occurred_at_us.saturating_sub(touch.occurred_at_us);
    (-ahead_max_us..=windows.after(touch.kind)).contains(&after_us)
}

/// One word about a conversion, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConversionRow {
    pub event_id: String,
    pub transaction_id: String,
    pub txn_id: Option<String>,
    #[schema(value_type = ConversionStatus)]
    pub status: String,
    #[schema(value_type = Class)]
    pub verdict: String,
    pub received_at: String,
    pub occurred_at: String,
    pub revenue_micros: i64,
    pub currency: Option<String>,
    #[schema(value_type = Resolution)]
    pub resolution: String,
    /// The click as the conversion names it.
    pub click_id: Option<String>,
    /// The click or view that it is owed to.
    pub touch_id: Option<String>,
    pub touched_at: Option<String>,
    /// Of the click or view; of the conversion itself where there is none.
    pub campaign_id: Option<String>,
    pub ad_id: Option<String>,
    pub time_to_convert_s: Option<i64>,
}

/// Which of them are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConversionFilter {
    pub status: Option<ConversionStatus>,
    pub resolution: Option<Resolution>,
    pub txn_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_700_000_000_000_000;
    const CONVERTED: Converted<'_> =
        Converted { occurred_at_us: NOW_US, received_at_us: NOW_US + 5, campaign_id: "spring" };

    fn windows() -> AttributionWindows {
        AttributionWindows::of_days(30, 1)
    }

    fn touch(kind: Kind, before_us: i64) -> Touched<'static> {
        let at_us = NOW_US - before_us;
        Touched { kind, class: Class::Counted, occurred_at_us: at_us, received_at_us: at_us, campaign_id: "spring" }
    }

    #[test]
    fn a_conversion_is_owed_to_a_click_within_its_window_and_to_a_view_within_a_shorter_one() {
        for (kind, days) in [(Kind::Click, 30), (Kind::Impression, 1)] {
            let edge_us = days * DAY_US;
            assert!(persons_touch_fits(&CONVERTED, &touch(kind, edge_us), windows()), "{kind:?}");
            assert!(!persons_touch_fits(&CONVERTED, &touch(kind, edge_us + 1), windows()), "{kind:?}");
            assert!(!persons_touch_fits(&CONVERTED, &touch(kind, -1), windows()), "{kind:?} after the conversion");
        }
        assert!(named_click_fits(&CONVERTED, &touch(Kind::Click, 30 * DAY_US), windows()));
        assert!(!named_click_fits(&CONVERTED, &touch(Kind::Click, 30 * DAY_US + 1), windows()));
        assert!(named_click_fits(&CONVERTED, &touch(Kind::Click, -CLOCKS_APART_MAX_US), windows()));
        assert!(!named_click_fits(&CONVERTED, &touch(Kind::Impression, 1), windows()));
    }

    #[test]
    fn a_named_click_may_come_late_and_a_persons_may_not() {
        let late = |by_us| Touched { received_at_us: CONVERTED.received_at_us + by_us, ..touch(Kind::Click, 1) };
        assert!(named_click_fits(&CONVERTED, &late(windows().click_us), windows()));
        assert!(!named_click_fits(&CONVERTED, &late(windows().click_us + 1), windows()));
        assert!(
            persons_touch_fits(&CONVERTED, &late(0), windows()) && !persons_touch_fits(&CONVERTED, &late(1), windows())
        );
    }

    #[test]
    fn nobody_claims_another_campaigns_click_or_one_that_no_person_made() {
        let other = Touched { campaign_id: "summer", ..touch(Kind::Click, 1) };
        assert!(!named_click_fits(&CONVERTED, &other, windows()) && !persons_touch_fits(&CONVERTED, &other, windows()));
        assert!(named_click_fits(&Converted { campaign_id: "", ..CONVERTED }, &other, windows()));
        for class in Class::ALL {
            let click = Touched { class, ..touch(Kind::Click, 1) };
            let is_persons = matches!(class, Class::Counted | Class::Duplicate);
            assert_eq!(named_click_fits(&CONVERTED, &click, windows()), is_persons, "{class:?}");
            assert_eq!(persons_touch_fits(&CONVERTED, &click, windows()), class == Class::Counted, "{class:?}");
        }
    }
}
