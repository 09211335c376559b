//! One verdict for each event. Reads as the policy itself.

use tally_model::{ConversionStatus, Device, Event, Kind, Purpose, Reason, Verdict, is_link_preview};

/// The order matters: a copy is a copy whatever else it may be, so that a robot's resent click is not invalid twice. A double
/// click is one that would count otherwise.
pub fn judge<T: AsRef<str>>(event: &Event<T>, device: &Device, is_first: bool, is_double_click: bool) -> Verdict {
    if !is_first {
        return Verdict::Not(Reason::SameId);
    }
    if device.is_robot() {
        let is_preview = event.user_agent.as_ref().is_some_and(|agent| is_link_preview(agent.as_ref()));
        return Verdict::Not(if is_preview { Reason::LinkPreview } else { Reason::DeclaredBot });
    }
    match event.purpose {
        Some(Purpose::Prefetch) => return Verdict::Not(Reason::Prefetch),
        Some(Purpose::Head) => return Verdict::Not(Reason::HeadRequest),
        None => {}
    }
    if event.is_rate_limited() {
        return Verdict::Not(Reason::RateLimited);
    }
    if matches!(event.status, Some(ConversionStatus::Pending | ConversionStatus::Rejected)) {
        return Verdict::Not(Reason::NotApproved);
    }
    if event.kind == Kind::Conversion && event.campaign_id.as_ref().is_empty() {
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

    fn event(agent: Option<&str>, campaign_id: &str) -> Event {
        let user_agent = agent.map(ToOwned::to_owned);
        Event { user_agent, ..Event::new(Uuid::from_u128(1), Kind::Conversion, 0, campaign_id, "a") }
    }

    fn check(agent: Option<&str>, campaign_id: &str, is_first: bool, is_double_click: bool, verdict: Verdict) {
        assert_eq!(judge(&event(agent, campaign_id), &Device::of(agent), is_first, is_double_click), verdict);
    }

    #[test]
    fn what_was_not_fetched_for_a_person_to_see_does_not_count() {
        let check = |purpose, agent: &str, is_first, reason| {
            let event = Event { purpose: Some(purpose), ..event(Some(agent), "c") };
            assert_eq!(judge(&event, &Device::of(Some(agent)), is_first, true), Verdict::Not(reason), "{event:?}");
        };
        check(Purpose::Prefetch, "Mozilla/5.0", true, Reason::Prefetch);
        check(Purpose::Head, "Mozilla/5.0", true, Reason::HeadRequest);
        check(Purpose::Head, "Slackbot 1.0", true, Reason::LinkPreview);
        check(Purpose::Prefetch, "curl/8", true, Reason::DeclaredBot);
        check(Purpose::Prefetch, "Mozilla/5.0", false, Reason::SameId);
    }

    #[test]
    fn an_event_gets_the_first_verdict_that_fits() {
        check(None, "c", true, false, Verdict::Counted);
        check(None, "c", true, true, Verdict::Not(Reason::DoubleClick));
        check(None, "c", false, true, Verdict::Not(Reason::SameId));
        check(Some("curl/8"), "c", true, true, Verdict::Not(Reason::DeclaredBot));
        check(Some("WhatsApp/2.23"), "c", true, true, Verdict::Not(Reason::LinkPreview));
        check(Some("curl/8"), "c", false, false, Verdict::Not(Reason::SameId));
        check(None, "", true, false, Verdict::Not(Reason::ClickUnresolved));
    }

    #[test]
    fn a_transaction_is_a_conversion_where_it_is_approved_and_at_no_other_word_of_it() {
        let check = |status, campaign_id: &str, verdict| {
            let event = Event { status, ..event(None, campaign_id) };
            assert_eq!(judge(&event, &Device::NONE, true, false), verdict, "{event:?}");
        };
        check(Some(ConversionStatus::Approved), "c", Verdict::Counted);
        check(Some(ConversionStatus::Approved), "", Verdict::Not(Reason::ClickUnresolved));
        check(Some(ConversionStatus::Pending), "c", Verdict::Not(Reason::NotApproved));
        check(Some(ConversionStatus::Rejected), "", Verdict::Not(Reason::NotApproved));
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
