//! What is wrong with a request, said so that it can be mended.

/// How much of a wrong value is quoted back: an answer is no echo.
const QUOTE_CHARS_MAX: usize = 80;

/// What is wrong with a request: the field, what it holds, and what it may hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {what}; {cure}")]
pub struct ReportError {
    pub field: String,
    pub what: String,
    pub cure: String,
}

impl ReportError {
    /// An unknown name, with the nearest known one where there is one, else all of them.
    pub fn unknown(field: impl Into<String>, name: &str, known: Vec<&str>) -> Self {
        unknown(field.into(), name, known)
    }
}

/// An unknown name, with the nearest known one where there is one, else all of them.
pub(super) fn unknown(field: String, name: &str, known: Vec<&str>) -> ReportError {
    // What is longer than any name is none that was mistyped.
    let characters = Some(name.chars().count()).filter(|count| *count <= QUOTE_CHARS_MAX);
    let nearest = characters.and_then(|count| {
        let (distance, candidate) = known.iter().map(|candidate| (edits(name, candidate), *candidate)).min()?;
        (distance <= 2 || distance * 3 <= count).then_some(candidate)
    });
    let cure = match nearest {
        Some(candidate) => format!("did you mean {candidate:?}?"),
        None => format!("use one of {}", known.join(", ")),
    };
    error(field, format!("{} is not known", quoted(name)), cure)
}

pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{:?}..", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Levenshtein distance, for short names.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

pub(super) fn error(field: impl Into<String>, what: impl Into<String>, cure: impl Into<String>) -> ReportError {
    ReportError { field: field.into(), what: what.into(), cure: cure.into() }
}
