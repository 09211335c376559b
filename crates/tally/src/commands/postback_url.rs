//! `tally postback-url`: the address that a network or a shop reports conversions to, with the token that lets it in.

use anyhow::{Result, bail, ensure};
use tally_capture::SigningKeys;
use tally_model::SystemEntropy;

use super::say;
use crate::cli::PostbackUrlArguments;
use crate::config::DataFolder;
use crate::outbound::encoded;

/// What a postback says, and the macro that stands for it unless the network has another.
const PARAMETERS: [&str; 5] = ["click_id", "txn_id", "amount", "currency", "status"];

pub fn run(arguments: &PostbackUrlArguments) -> Result<()> {
    let data = &arguments.data;
    ensure!(
        data.is_dir(),
        "there is no data folder `{}`; give the one that `tally serve --data` was given, or make it first",
        data.display()
    );
    let query = query(arguments)?;
    let path = DataFolder::new(data).signing_keys();
    let keys = SigningKeys::load_or_create(&path, &SystemEntropy)?;
    let campaign_id = arguments.campaign.as_deref().unwrap_or_default();
    let Some(token) = keys.postback_token(arguments.key.as_deref(), campaign_id) else {
        bail!("`{}` has no key with that id; look there for the ids that it has", path.display());
    };
    say(format!("{}/v1/postback?{query}&token={token}", arguments.server.trim_end_matches('/')));
    Ok(())
}

/// Macros are left as they are: it is the network that reads them, and not every one knows them when they are encoded.
fn query(arguments: &PostbackUrlArguments) -> Result<String> {
    let mut parameters: Vec<(&str, String)> = Vec::new();
    if let Some(campaign_id) = &arguments.campaign {
        parameters.push(("campaign_id", encoded(campaign_id)));
    }
    parameters.extend(PARAMETERS.map(|name| (name, format!("{{{name}}}"))));
    for set in &arguments.set {
        let Some((name, value)) = set.split_once('=') else { bail!("--set {set} is no NAME=MACRO") };
        ensure!(
            name != "token" && name != "campaign_id",
            "--set cannot set `{name}`; use --campaign, and leave the token to this command"
        );
        match parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => value.clone_into(known),
            None => parameters.push((name, value.to_owned())),
        }
    }
    let pairs = parameters.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}={value}"));
    Ok(pairs.collect::<Vec<_>>().join("&"))
}
