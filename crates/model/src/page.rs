//! Long lists, page by page: newest first, by place in the log. A place does not move when newer rows come in front of it, as
//! the number of a page would.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Where a row stands in a list of the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub received_at_us: i64,
    pub partition: i32,
    pub offset: i64,
}

/// Which rows of a list are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows, at least 1.
    pub limit: usize,
    /// Only rows that stand behind this one.
    pub after: Option<Place>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    pub rows: Vec<T>,
    /// The place of the last row; none where no rows follow.
    pub next: Option<Place>,
}

impl Page {
    /// Makes a page of its rows, of which one more than `limit` was looked for.
    pub fn of<T>(&self, mut found: Vec<(Place, T)>) -> Listed<T> {
        let has_more = found.len() > self.limit;
        found.truncate(self.limit);
        let next = found.last().filter(|_| has_more).map(|(place, _)| *place);
        Listed { rows: found.into_iter().map(|(_, row)| row).collect(), next }
    }
}

impl Place {
    /// As a cursor: a text of 27 letters that means nothing to anybody else.
    pub fn cursor(&self) -> String {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.received_at_us.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.partition.to_be_bytes());
        bytes[12..].copy_from_slice(&self.offset.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// None where it is no cursor of ours.
    pub fn parse(cursor: &str) -> Option<Self> {
        let bytes: [u8; 20] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, offset @ ..] = bytes;
        Some(Self {
            received_at_us: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            partition: i32::from_be_bytes([i, j, k, l]),
            offset: i64::from_be_bytes(offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { received_at_us: 1_574_553_600_000_000, partition: 3, offset: 1 << 40 };

    #[test]
    fn a_cursor_leads_back_to_its_place_and_nothing_else_is_one() {
        assert_eq!(Place::parse(&PLACE.cursor()), Some(PLACE));
        for wrong in ["", "1", "nonsense", &PLACE.cursor()[1..], &format!("{}A", PLACE.cursor())] {
            assert_eq!(Place::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_last_page_says_that_it_is_the_last() {
        let rows = |count: i64| (0..count).map(|nth| (Place { offset: nth, ..PLACE }, nth)).collect();
        let page = Page { limit: 2, after: None };
        assert_eq!(page.of(rows(3)), Listed { rows: vec![0, 1], next: Some(Place { offset: 1, ..PLACE }) });
        assert_eq!(page.of(rows(2)), Listed { rows: vec![0, 1], next: None });
        assert_eq!(page.of(rows(0)), Listed { rows: Vec::new(), next: None });
    }
}
