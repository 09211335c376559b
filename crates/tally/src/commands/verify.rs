//! `tally verify`.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;
use tally_model::Days;

use super::query::grouped;
use super::say;
use crate::cli::VerifyArguments;
use crate::client::Source;

pub async fn run(arguments: VerifyArguments) -> Result<ExitCode> {
    let days = match (&arguments.from, &arguments.to) {
        (Some(from), Some(to)) => Some(Days::parse(from, to)?),
        _ => None,
    };
    let source = Source::of(&arguments.place).await?;
    let proof = match days {
        Some(days) => source.verify_days(days).await?,
        None => source.verify(arguments.recount).await?,
    };
    if arguments.json {
        say(serde_json::to_string_pretty(&proof)?);
    } else {
        print(&proof["report"]);
    }
    Ok(if proof["holds"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The conservation of each kind, and whether everything holds.
pub(crate) fn print(report: &Value) {
    let number = |value: &Value| grouped(value.as_i64().unwrap_or_default());
    let classes = ["counted", "duplicate", "invalid_givt", "invalid_sivt", "quarantined"];
    for (kind, count) in report["kinds"].as_object().into_iter().flatten() {
        let parts: Vec<String> = classes.iter().map(|class| format!("{} {class}", number(&count[*class]))).collect();
        say(format!("{kind:>10}s: {} received = {}", number(&count["received"]), parts.join(" + ")));
    }
    if report["recounted"] == true {
        say(format!("recounted from raw events: {} rollup cells compared", number(&report["cells_compared"])));
    }
    print_differences(report);
    match report["differences_total"].as_u64() {
        Some(0) => say("everything holds"),
        Some(total) => say(format!("{total} differences; the figures cannot be trusted until they are explained")),
        None => say("the server did not say whether it holds"),
    }
}

/// The differences that a report tells one by one.
pub(crate) fn print_differences(report: &Value) {
    let number = |value: &Value| grouped(value.as_i64().unwrap_or_default());
    for difference in report["differences"].as_array().into_iter().flatten() {
        let place = difference["place"].as_str().unwrap_or_default();
        say(format!(
            "DIFFERENCE {place}: expected {}, found {}",
            number(&difference["expected"]),
            number(&difference["found"])
        ));
    }
}
