//! Which bytes of a file a request asks for (RFC 9110, section 14): what makes a download that broke off go on.

/// The first byte and the one after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub from: u64,
    pub to: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    Part(Span),
    /// It begins behind the end.
    Nothing,
}

/// One range is given; of more than one, and of what is no range, the whole file is, as the standard allows.
pub(super) fn wanted(header: Option<&str>, bytes: u64) -> Wanted {
    let part = || {
        let (first, last) = header?.trim().strip_prefix("bytes=")?.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", last) => {
                let length: u64 = last.parse().ok()?;
                Some(Span { from: bytes.saturating_sub(length), to: bytes }).filter(|_| length > 0)
            }
            (first, "") => Some(Span { from: first.parse().ok()?, to: bytes }),
            (first, last) => {
                let (from, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
                (from <= last).then(|| Span { from, to: last.saturating_add(1).min(bytes) })
            }
        }
    };
    match part() {
        None => Wanted::Whole,
        Some(span) if span.from >= bytes => Wanted::Nothing,
        Some(span) => Wanted::Part(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: Wanted) {
        assert_eq!(wanted(Some(header), 100), expected, "{header:?}");
    }

    #[test]
    fn a_range_is_cut_to_the_file_and_what_is_none_is_the_whole() {
        let part = |from, to| Wanted::Part(Span { from, to });
        check("bytes=0-9", part(0, 10));
        check("bytes=90-", part(90, 100));
        check("bytes=-10", part(90, 100));
        check("bytes=-1000", part(0, 100));
        check("bytes=99-4000", part(99, 100));
        check("bytes=0-18446744073709551615", part(0, 100));
        check("bytes=100-", Wanted::Nothing);
        for none in ["bytes=9-0", "bytes=", "bytes=-", "bytes=a-b", "bytes=-0", "bytes=0-1,5-6", "lines=0-1", ""] {
            check(none, Wanted::Whole);
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }
}
