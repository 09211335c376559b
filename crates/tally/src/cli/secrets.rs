//! What is made of secrets: API keys, signed links, addresses with a token.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::keys::Scope;

#[derive(Debug, Args)]
pub struct KeysArguments {
    #[command(subcommand)]
    pub what: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key, and print it: the only time that it is shown
    Create {
        /// What it is called in lists, metrics and errors
        name: String,
        /// What it is for; none includes another
        #[arg(long, required = true, value_enum, value_delimiter = ',', value_name = "SCOPES")]
        scopes: Vec<Scope>,
        /// When it ends: a date, a time (RFC 3339), or how long from now, such as 90d [default: never]
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        expires: Option<String>,
        #[command(flatten)]
        folder: KeysFolderArguments,
    },
    /// The keys there are, without their secrets
    List {
        /// Print them as JSON, one on each line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        folder: KeysFolderArguments,
    },
    /// Take a key out of force, for good
    Revoke {
        /// The key's name
        name: String,
        #[command(flatten)]
        folder: KeysFolderArguments,
    },
}

/// The server's folder, found as the server finds it.
#[derive(Debug, Args)]
pub struct KeysFolderArguments {
    /// Configuration file of the server
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder that holds the server's data [default: ./tally-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PostbackUrlArguments {
    /// The campaign that the token is for [default: all; the conversions are those of their clicks' campaigns]
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// The network's own macro for a parameter, such as click_id={aff_sub} or txn_id=[order_id]; empty leaves it out
    #[arg(long, value_name = "NAME=MACRO")]
    pub set: Vec<String>,
    /// The key to make the token with, by its id [default: the last one of the file]
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// The address under which servers reach this one
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "./tally-data")]
    pub data: PathBuf,
}

#[derive(Debug, Args)]
pub struct SignLinkArguments {
    /// Where the link leads; may have macros such as {click_id}, {campaign_id} or {cachebuster}
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// The campaign that the clicks count for; without it, the ad server adds `campaign_id`
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// The ad that is clicked; without it, the ad server adds `ad_id`
    #[arg(long, value_name = "ID")]
    pub ad: Option<String>,
    /// Another event field that nobody may change, such as cost_micros=250000
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// How long the link holds, such as 30d or 12h; `never` where it shall not expire
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub expires: String,
    /// The key to sign with, by its id [default: the last one of the file]
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// Add a key to the file first, which signs from now on; links with the earlier ones stay good
    #[arg(long, conflicts_with = "key")]
    pub new_key: bool,
    /// The address under which people reach the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "./tally-data")]
    pub data: PathBuf,
}
