//! Log lines: fields with a short message, to standard error.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

pub fn start(config: &LogConfig) -> Result<()> {
    // The libraries below tell each file they read; ours is the story.
    let libraries = "deltalake_core=warn,delta_kernel=warn,buoyant_kernel=warn,datafusion=warn,hyper=warn,reqwest=warn";
    let filter = EnvFilter::try_new(format!("{libraries},{}", config.level))
        .with_context(|| format!("`log.level` is {:?}; use error, warn, info, debug or a filter", config.level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
