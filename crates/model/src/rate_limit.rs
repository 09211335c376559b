//! The mark that capture leaves on an event over a rate limit. Limits are counted at the door only, against its clock; the judge
//! reads the mark, so that a replay decides the same.

use crate::Event;

/// What a limit is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    Ip,
    User,
    Campaign,
    Key,
}

impl Limit {
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Ip => "ip",
            Limit::User => "user",
            Limit::Campaign => "campaign",
            Limit::Key => "key",
        }
    }
}

/// The field of `props` that the mark is. Capture leaves out a sender's own field of this name.
pub const RATE_LIMITED_PROP: &str = "tally_rate_limited";

/// The mark stands first, so that looking for it costs the judge next to nothing.
const BEGINNING: &str = r#"{"tally_rate_limited":"#;

impl<T: AsRef<str>> Event<T> {
    pub fn mark_rate_limited(&mut self, limit: Limit)
    where
        T: From<String>,
    {
        let mark = format!("{BEGINNING}\"{}\"", limit.as_str());
        let props = match self.props.as_ref().and_then(|props| props.as_ref().strip_prefix('{')) {
            None | Some("}") => format!("{mark}}}"),
            Some(others) => format!("{mark},{others}"),
        };
        self.props = Some(props.into());
    }

    pub fn is_rate_limited(&self) -> bool {
        self.props.as_ref().is_some_and(|props| props.as_ref().starts_with(BEGINNING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use uuid::Uuid;

    fn check(props: Option<&str>, marked: &str) {
        let mut event = Event::new(Uuid::nil(), Kind::Click, 0, "c", "a");
        event.props = props.map(ToOwned::to_owned);
        assert!(!event.is_rate_limited(), "{props:?} is taken for a mark");
        event.mark_rate_limited(Limit::User);
        assert_eq!(event.props.as_deref(), Some(marked));
        assert!(event.is_rate_limited(), "{marked}");
        assert!(serde_json::from_str::<serde_json::Value>(marked).is_ok(), "{marked} is no JSON");
    }

    #[test]
    fn a_marked_event_is_told_from_one_that_only_speaks_of_limits() {
        check(None, r#"{"tally_rate_limited":"user"}"#);
        check(Some("{}"), r#"{"tally_rate_limited":"user"}"#);
        check(Some(r#"{"a":1}"#), r#"{"tally_rate_limited":"user","a":1}"#);
        let nested = r#"{"a":{"tally_rate_limited":"ip"}}"#;
        check(Some(nested), r#"{"tally_rate_limited":"user","a":{"tally_rate_limited":"ip"}}"#);
        assert!(BEGINNING.contains(RATE_LIMITED_PROP));
    }
}
