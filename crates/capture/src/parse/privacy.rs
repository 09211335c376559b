//! What the signals of consent and privacy may be. They are taken along as they are: a consent string that was cut or mended would
//! say something else.

use super::checks::{Checked, text};
use super::field::Field;
use super::found::Found;

/// TC and GPP strings have 100 to 1,000 bytes; those of consent managers with many vendors and publisher restrictions three times that.
pub(crate) const CONSENT_BYTES_MAX: usize = 4 << 10;
/// A dozen sections, of two digits each.
const SECTIONS_BYTES_MAX: usize = 64;

/// Whether a regime applies, or a signal is set: 1 or 0, in numbers, text or JSON's own way.
pub(crate) fn flag(field: Field, found: &Found<'_>) -> Checked<Option<bool>> {
    match found {
        Found::Bool(flag) => Ok(Some(*flag)),
        Found::Whole(1) => Ok(Some(true)),
        Found::Whole(0) => Ok(Some(false)),
        Found::Text(text) => match text.as_ref() {
            "1" | "true" => Ok(Some(true)),
            "0" | "false" => Ok(Some(false)),
            text if is_nothing(text) => Ok(None),
            _ => Err(no_flag(field, found)),
        },
        _ => Err(no_flag(field, found)),
    }
}

fn no_flag(field: Field, found: &Found<'_>) -> crate::error::Fault {
    found.fault(field, "is neither 0 nor 1", "give 1 where it applies, 0 where it does not, or leave it out")
}

/// A TC string or a GPP string.
pub(crate) fn consent(field: Field, found: &Found<'_>) -> Checked<Option<String>> {
    signal(field, text(field, found)?, found, CONSENT_BYTES_MAX)
}

/// The sections of a GPP string that apply: `2,6` as the macro gives it, or the list of numbers of OpenRTB.
pub(crate) fn sections(field: Field, found: &Found<'_>) -> Checked<Option<String>> {
    const CURE: &str = "give the numbers of the sections, such as \"2,6\" or [2,6]";
    match found {
        Found::Whole(section) => Ok(Some(section.to_string())),
        Found::List(list) => {
            let number = |section: &Found<'_>| match section {
                Found::Whole(section) => Ok(section.to_string()),
                other => Err(other.fault(field, "is no number of a section", CURE)),
            };
            let sections = list.iter().map(number).collect::<Checked<Vec<_>>>()?.join(",");
            signal(field, &sections, found, SECTIONS_BYTES_MAX)
        }
        Found::Text(text) => signal(field, text, found, SECTIONS_BYTES_MAX),
        other => Err(other.fault(field, "is no list of sections", CURE)),
    }
}

/// `1YNN`: a version, then three times yes, no, or not applicable (IAB CCPA, U.S. Privacy String).
pub(crate) fn us_privacy(field: Field, found: &Found<'_>) -> Checked<Option<String>> {
    let text = text(field, found)?;
    if is_nothing(text) {
        return Ok(None);
    }
    let is_one = match text.as_bytes() {
        [version, rest @ ..] if rest.len() == 3 => {
            version.is_ascii_digit() && rest.iter().all(|byte| matches!(byte, b'Y' | b'y' | b'N' | b'n' | b'-'))
        }
        _ => false,
    };
    if is_one {
        return Ok(Some(text.to_owned()));
    }
    Err(found.fault(field, "is no U.S. Privacy string", "give a version and three of Y, N and -, such as \"1YNN\""))
}

fn signal(field: Field, text: &str, found: &Found<'_>, bytes_max: usize) -> Checked<Option<String>> {
    if is_nothing(text) {
        return Ok(None);
    }
    if text.len() > bytes_max {
        let cure = format!("give at most {bytes_max} bytes, whole: what is cut says something else");
        return Err(found.fault(field, &format!("has {} bytes", text.len()), cure));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(found.fault(
            field,
            "has more than letters, digits and signs",
            "give the string as the API gave it",
        ));
    }
    Ok(Some(text.to_owned()))
}

/// Empty, or a macro that nobody filled in, such as `${GDPR}`: that is how a tag looks where there is no consent manager, and no
/// reason to refuse a click.
fn is_nothing(text: &str) -> bool {
    let brackets = [("${", "}"), ("{", "}"), ("[", "]"), ("%%", "%%")];
    text.is_empty() || brackets.iter().any(|(open, close)| text.starts_with(open) && text.ends_with(close))
}
