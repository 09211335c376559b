//! `tally sign-link`: a link to `/v1/click` that may lead anywhere, since it says so itself.

use anyhow::{Context, Result, bail, ensure};
use jiff::{Span, SpanRelativeTo};
use tally_capture::{SigningKeys, check_destination};
use tally_model::{Clock, SystemClock, SystemEntropy};

use super::say;
use crate::cli::SignLinkArguments;
use crate::config::DataFolder;

pub fn run(arguments: &SignLinkArguments) -> Result<()> {
    let data = &arguments.data;
    ensure!(
        data.is_dir(),
        "there is no data folder `{}`; give the one that `tally serve --data` was given, or make it first",
        data.display()
    );
    check_destination(&arguments.to).map_err(anyhow::Error::msg).context("--to is no destination")?;
    let pairs = pairs(arguments)?;
    let expires_at_s = expires_at_s(&arguments.expires, SystemClock.now_us() / 1_000_000)?;
    let path = DataFolder::new(data).signing_keys();
    let keys = match arguments.new_key {
        true => SigningKeys::rotate(&path, &SystemEntropy)?,
        false => SigningKeys::load_or_create(&path, &SystemEntropy)?,
    };
    let Some(query) = keys.sign(arguments.key.as_deref(), &pairs, expires_at_s) else {
        bail!("`{}` has no key with that id; look there for the ids that it has", path.display());
    };
    say(format!("{}/v1/click?{query}", arguments.server.trim_end_matches('/')));
    Ok(())
}

fn pairs(arguments: &SignLinkArguments) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let named = [("campaign_id", &arguments.campaign), ("ad_id", &arguments.ad)];
    pairs.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    for set in &arguments.set {
        let Some((name, value)) = set.split_once('=') else { bail!("--set {set} is no FIELD=VALUE") };
        ensure!(
            name != "to" && name != "sig",
            "--set cannot set `{name}`; use --to, and leave signing to this command"
        );
        pairs.push((name.to_owned(), value.to_owned()));
    }
    // Empty parameters are absent where the link is read, and so they are not signed.
    pairs.retain(|(_, value)| !value.is_empty());
    pairs.push(("to".to_owned(), arguments.to.clone()));
    Ok(pairs)
}

fn expires_at_s(expires: &str, now_s: i64) -> Result<Option<i64>> {
    if expires == "never" {
        return Ok(None);
    }
    let wrong = || format!("--expires is {expires:?}; write a time such as 30d or 12h, or `never`");
    let span: Span = expires.parse().with_context(wrong)?;
    let lasts_s = span.total((jiff::Unit::Second, SpanRelativeTo::days_are_24_hours())).with_context(wrong)?;
    ensure!((1.0..1e11).contains(&lasts_s), wrong());
    Ok(Some(now_s + lasts_s as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_told_in_words_that_people_use() {
        assert_eq!(expires_at_s("30d", 100).unwrap(), Some(100 + 30 * 86_400));
        assert_eq!(expires_at_s("1d 12h", 0).unwrap(), Some(129_600));
        assert_eq!(expires_at_s("never", 0).unwrap(), None);
        for wrong in ["", "soon", "30", "-1d", "0s", "99999y"] {
            let error = format!("{:#}", expires_at_s(wrong, 0).unwrap_err());
            assert!(error.contains("write a time such as 30d"), "{error}");
        }
    }
}
