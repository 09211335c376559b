//! What cannot be read or judged must not stop what comes after it: it is quarantined, by itself and with the reason.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tally_model::{Device, Event, Reason, Verdict, decode_borrowed};

use crate::agents::Agents;

/// The event of a record and the device behind it, or why there is none. A panic in here is the record's own.
pub(crate) fn read_record<'a>(bytes: &'a [u8], agents: &mut Agents) -> Result<(Event<&'a str>, Device), String> {
    let read = || {
        let event = decode_borrowed(bytes).map_err(|error| error.to_string())?;
        let device = agents.device(event.user_agent);
        Ok((event, device))
    };
    caught(read).unwrap_or_else(|panic| Err(format!("reading it failed: {panic}")))
}

/// The verdict by `rule`, or the one that says that the rule failed.
pub(crate) fn verdict_by(rule: impl FnOnce() -> Verdict) -> Verdict {
    caught(rule).unwrap_or(Verdict::Not(Reason::JudgingFailed))
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What the closures above hold is given up after a panic, or only read; `agents` is whole between its calls to the rules.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_panics_quarantines_its_event() {
        assert_eq!(verdict_by(|| Verdict::Counted), Verdict::Counted);
        let verdict = verdict_by(|| panic!("a rule that divides by zero"));
        assert_eq!(verdict, Verdict::Not(Reason::JudgingFailed));
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        assert_eq!(caught(|| panic!("{} apples", 7)), Err::<(), _>("7 apples".to_owned()));
        assert_eq!(caught(|| panic!("apples")), Err::<(), _>("apples".to_owned()));
    }

    #[test]
    fn bytes_that_are_no_event_are_told_why() {
        let why = |bytes: &[u8]| read_record(bytes, &mut Agents::default()).unwrap_err();
        assert!(why(&[]).contains("empty"));
        assert!(why(&[9, 1]).contains("format version 9"));
        assert!(why(&[1, 1]).contains("not an event"));
    }
}
