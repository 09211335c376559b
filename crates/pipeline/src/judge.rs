//! One verdict for each event. Reads as the policy itself.

use tally_model::{Device, Event, Kind, Reason, Verdict};

/// The order matters: a copy is a copy whatever else it may be, so that a robot's resent click is not invalid twice. A double
/// click is one that would count otherwise.
pub fn judge(event: &Event, device: &Device, is_first: bool, is_double_click: bool) -> Verdict {
    if !is_first {
        return Verdict::Not(Reason::SameId);
    }
    if device.is_robot() {
        return Verdict::Not(Reason::DeclaredBot);
    }
    if event.is_rate_limited() {
        return Verdict::Not(Reason::RateLimited);
    }
    if event.kind == Kind::Conversion && event.campaign_id.is_empty() {
        return Verdict::Not(Reason::ClickUnresolved);
    }
    if is_double_click {
        return Verdict::Not(Reason::DoubleClick);
    }
    Verdict::Counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::Limit;
    use uuid::Uuid;

    fn check(agent: Option<&str>, campaign_id: &str, is_first: bool, is_double_click: bool, verdict: Verdict) {
        let event = Event::new(Uuid::from_u128(1), Kind::Conversion, 0, campaign_id, "a");
        assert_eq!(judge(&event, &Device::of(agent), is_first, is_double_click), verdict);
    }

    #[test]
    fn an_event_gets_the_first_verdict_that_fits() {
        check(None, "c", true, false, Verdict::Counted);
        check(None, "c", true, true, Verdict::Not(Reason::DoubleClick));
        check(None, "c", false, true, Verdict::Not(Reason::SameId));
        check(Some("curl/8"), "c", true, true, Verdict::Not(Reason::DeclaredBot));
        check(Some("curl/8"), "c", false, false, Verdict::Not(Reason::SameId));
        check(None, "", true, false, Verdict::Not(Reason::ClickUnresolved));
    }

    #[test]
    fn what_came_over_a_limit_does_not_count_unless_something_graver_is_wrong_with_it() {
        let check = |agent, is_first, reason| {
            let mut event = Event::new(Uuid::from_u128(1), Kind::Conversion, 0, "", "");
            event.mark_rate_limited(Limit::Campaign);
            assert_eq!(judge(&event, &Device::of(agent), is_first, true), Verdict::Not(reason), "{event:?}");
        };
        check(None, true, Reason::RateLimited);
        check(Some("curl/8"), true, Reason::DeclaredBot);
        check(None, false, Reason::SameId);
    }
}
