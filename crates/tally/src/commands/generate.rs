//! `tally generate`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use tally_traffic::{Plan, Truth, write_to};

use crate::cli::GenerateArguments;

pub fn run(arguments: &GenerateArguments) -> Result<()> {
    let plan = plan(arguments)?;
    let truth = match &arguments.output {
        None => write_to(plan, BufWriter::new(io::stdout().lock()))?,
        Some(path) => write_file(plan, path).with_context(|| format!("cannot write `{}`", path.display()))?,
    };
    if let Some(path) = &arguments.truth {
        let text = serde_json::to_string_pretty(&truth)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

fn plan(arguments: &GenerateArguments) -> Result<Plan> {
    let mut plan =
        Plan { seed: arguments.seed, events: arguments.events, duration_s: arguments.duration_s, ..Plan::default() };
    if let Some(start) = &arguments.start {
        let start: Timestamp =
            start.parse().with_context(|| format!("--start {start:?} is no time; write 2026-03-01T00:00:00Z"))?;
        plan.start_us = start.as_microsecond();
    }
    plan.campaigns = arguments.campaigns.unwrap_or(plan.campaigns);
    plan.duplicate_fraction = arguments.duplicates.unwrap_or(plan.duplicate_fraction);
    plan.late_fraction = arguments.late.unwrap_or(plan.late_fraction);
    plan.bot_fraction = arguments.bots.unwrap_or(plan.bot_fraction);
    Ok(plan)
}

fn write_file(plan: Plan, path: &Path) -> io::Result<Truth> {
    let file = BufWriter::new(File::create(path)?);
    if path.extension().is_some_and(|extension| extension == "zst") {
        let mut compressed = zstd::Encoder::new(file, 3)?;
        let truth = write_to(plan, &mut compressed)?;
        compressed.finish()?.flush()?;
        return Ok(truth);
    }
    write_to(plan, file)
}
