//! `tally check-config`.

use anyhow::Result;

use super::say;
use crate::cli::ConfigArguments;
use crate::config::{Config, DEFAULTS, Overrides};

pub fn run(arguments: &ConfigArguments) -> Result<()> {
    if arguments.defaults {
        say(DEFAULTS.trim_end());
        return Ok(());
    }
    let config = Config::load(&Overrides { file: arguments.config.clone(), ..Overrides::default() })?;
    say(format!("{config:#?}"));
    say("the configuration is fine");
    Ok(())
}
