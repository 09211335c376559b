//! What all lists of the newest first take besides their own filters: how many rows, and behind which.

use tally_model::report::ReportError;
use tally_model::{Page, Place};

/// Listed at once.
pub(crate) const LIMIT_MAX: usize = 10_000;
const LIMIT_DEFAULT: usize = 100;

pub(crate) fn page(limit: Option<usize>, cursor: Option<&str>) -> Result<Page, ReportError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(wrong("limit", format!("{limit} are not listed"), format!("ask for 1 to {LIMIT_MAX}")));
    }
    let place = |cursor| {
        let cure = "give `next` of the answer before as it is, or leave it out to begin with the newest";
        Place::parse(cursor).ok_or_else(|| wrong("cursor", "it is none of this server's", cure))
    };
    Ok(Page { limit, after: cursor.map(place).transpose()? })
}

fn wrong(field: &str, what: impl Into<String>, cure: impl Into<String>) -> ReportError {
    ReportError { field: field.to_owned(), what: what.into(), cure: cure.into() }
}
