//! `tally rebuild`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tally_lake::Lake;
use tally_model::{Days, SystemClock};

use super::query::grouped;
use super::say;
use super::verify::print_differences;
use crate::cli::RebuildArguments;
use crate::client;
use crate::config::DataFolder;
use crate::rebuild::rebuild;

pub async fn run(arguments: &RebuildArguments) -> Result<()> {
    let days = Days::parse(&arguments.from, &arguments.to)?;
    let report = match &arguments.data {
        Some(data) => in_folder(data, days).await?,
        None => {
            let asked = json!({"from": arguments.from, "to": arguments.to});
            client::post(&arguments.server, &arguments.key, "/v1/admin/rebuild", &asked).await?
        }
    };
    if arguments.json {
        say(serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn in_folder(data: &Path, days: Days) -> Result<Value> {
    let folder = DataFolder::new(data);
    let _claim = folder.claim()?;
    if !Lake::exists(&folder.lake()) {
        bail!("there is no lake in `{}`; give the folder that `tally serve --data` was given", data.display());
    }
    let lake = Lake::open(&folder.lake(), 0, Arc::new(SystemClock)).await?;
    Ok(serde_json::to_value(rebuild(&lake, days).await?)?)
}

fn print(report: &Value) {
    let text = |name: &str| report[name].as_str().unwrap_or("-").to_owned();
    let cells = grouped(report["cells"].as_i64().unwrap_or_default());
    say(format!("days {}, months {}: {cells} cells counted from raw events", text("days"), text("months")));
    print_differences(report);
    match report["differences_total"].as_u64() {
        Some(0) => say("nothing differed; nothing was replaced"),
        Some(total) if report["replaced"] == true => {
            say(format!("{total} differences; all of these cells are replaced"))
        }
        _ => say("the server did not say whether anything was replaced"),
    }
}
