//! `tally keys`: works on the data folder itself, so that whoever may write there decides who else may do what.

use anyhow::{Context, Result, bail, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde_json::json;
use tally_model::{Clock, SystemClock, SystemEntropy};

use super::{note, say};
use crate::cli::{KeysCommand, KeysFolderArguments};
use crate::config::{Config, DataFolder, Overrides};
use crate::keys::{KEYS_MAX, Key, KeyFile, Scope, is_name};

pub fn run(what: &KeysCommand) -> Result<()> {
    match what {
        KeysCommand::Create { name, scopes, expires, folder } => {
            create(&file_in(folder)?, name, scopes, expires.as_deref())
        }
        KeysCommand::List { json, folder } => list(&file_in(folder)?, *json),
        KeysCommand::Revoke { name, folder } => revoke(&file_in(folder)?, name),
    }
}

fn file_in(folder: &KeysFolderArguments) -> Result<KeyFile> {
    let overrides = Overrides { file: folder.config.clone(), data: folder.data.clone(), ..Overrides::default() };
    Ok(KeyFile::new(DataFolder::new(&Config::load(&overrides)?.server.data).keys()))
}

fn create(file: &KeyFile, name: &str, scopes: &[Scope], expires: Option<&str>) -> Result<()> {
    ensure!(is_name(name), "{name:?} is no name for a key; use up to 64 letters, digits, `.`, `_` and `-`");
    let now = Timestamp::from_microsecond(SystemClock.now_us())?;
    let expires_at_s = expires.map(|text| expiry(text, now)).transpose()?;
    let mut scopes = scopes.to_vec();
    scopes.sort_by_key(|scope| scope.as_str());
    scopes.dedup();
    let token = file.change(&SystemEntropy, |keys| {
        ensure!(keys.len() < KEYS_MAX, "there are {KEYS_MAX} keys; revoke some that are not used");
        ensure!(
            keys.iter().all(|key| key.name != name),
            "there is a key `{name}`; revoke it first, or give the new one another name"
        );
        // Ids are drawn until one is free: with a thousand keys the first one is, but for one time in four million.
        loop {
            let (key, token) = Key::new(name, scopes.clone(), now.as_second(), expires_at_s, &SystemEntropy);
            if keys.iter().all(|other| other.id != key.id) {
                keys.push(key);
                return Ok(token);
            }
        }
    })?;
    say(token.reveal());
    let until = expires_at_s.map(|at_s| format!(", until {}", time(at_s))).unwrap_or_default();
    note(format!(
        "key `{name}` for {}{until}; this is the only time that it is shown. Servers on this folder take it within seconds",
        names(&scopes)
    ));
    Ok(())
}

fn list(file: &KeyFile, as_json: bool) -> Result<()> {
    let keys = file.read()?;
    let now_s = SystemClock.now_us().div_euclid(1_000_000);
    if as_json {
        for key in &keys {
            say(json!({
                "name": key.name, "id": key.id, "scopes": key.scopes, "created_at": time(key.created_at_s),
                "expires_at": key.expires_at_s.map(time), "is_expired": key.is_expired(now_s),
            }));
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["name", "id", "scopes", "created", "expires"]);
    for key in &keys {
        let expires = match key.expires_at_s {
            None => "never".to_owned(),
            Some(at_s) if key.is_expired(now_s) => format!("{} (expired)", time(at_s)),
            Some(at_s) => time(at_s),
        };
        let id = key.id.to_string();
        table.add_row([key.name.clone(), id, names(&key.scopes), time(key.created_at_s), expires]);
    }
    say(table);
    say(format!("{} keys in {}", keys.len(), file.path().display()));
    Ok(())
}

fn revoke(file: &KeyFile, name: &str) -> Result<()> {
    file.change(&SystemEntropy, |keys| {
        let before = keys.len();
        keys.retain(|key| key.name != name);
        if keys.len() == before {
            bail!("there is no key `{name}`; `tally keys list` shows those that there are");
        }
        Ok(())
    })?;
    say(format!("key `{name}` revoked; servers on this folder refuse it within seconds"));
    Ok(())
}

fn names(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

fn time(at_s: i64) -> String {
    Timestamp::from_second(at_s).map_or_else(|_| at_s.to_string(), |at| at.to_string())
}

/// A moment, a date (its midnight in UTC), or how long from now; in any case to come.
fn expiry(text: &str, now: Timestamp) -> Result<i64> {
    let at = match (text.parse::<Timestamp>(), text.parse::<Date>(), text.parse::<Span>()) {
        (Ok(at), _, _) => Some(at),
        (_, Ok(date), _) if text.len() == 10 => Some(date.to_zoned_datetime(TimeZone::UTC)?.timestamp()),
        (_, _, Ok(span)) => {
            let span = span.to_duration(now.to_zoned_datetime(TimeZone::UTC).date());
            span.ok().and_then(|span: SignedDuration| now.checked_add(span).ok())
        }
        _ => None,
    };
    let at =
        at.with_context(|| format!("--expires {text:?} is no time; write 2027-01-31, 2027-01-31T12:00:00Z or 90d"))?;
    ensure!(at > now, "--expires {text:?} is past; give a time to come");
    Ok(at.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_moment_a_date_or_a_span_and_never_past() {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| {
            let at: Timestamp = expected.parse().unwrap();
            assert_eq!(expiry(text, now).unwrap(), at.as_second(), "{text}");
        };
        check("2027-01-31", "2027-01-31T00:00:00Z");
        check("2027-01-31T12:00:00+01:00", "2027-01-31T11:00:00Z");
        check("90d", "2027-02-23T10:00:00Z");
        check("1 year", "2027-11-25T10:00:00Z");
        check("30m", "2026-11-25T10:30:00Z");
        for wrong in ["", "soon", "2026-11-25", "-1d", "2026-02-30"] {
            assert!(expiry(wrong, now).is_err(), "{wrong:?} was taken");
        }
    }
}
