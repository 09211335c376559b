//! `tally why`.

use anyhow::Result;
use serde_json::Value;

use super::say;
use crate::cli::WhyArguments;
use crate::client::Source;

pub async fn run(arguments: WhyArguments) -> Result<()> {
    let life = Source::of(&arguments.place).await?.why(&arguments.event_id).await?;
    if arguments.json {
        say(serde_json::to_string_pretty(&life)?);
        return Ok(());
    }
    let sightings = life["sightings"].as_array().map(Vec::as_slice).unwrap_or_default();
    say(format!("event {}: came in {} time(s)", arguments.event_id, sightings.len()));
    for sighting in sightings {
        print(sighting);
    }
    Ok(())
}

fn print(sighting: &Value) {
    let text = |name: &str| sighting[name].as_str().unwrap_or("-").to_owned();
    let because = match (sighting["reason"].as_str(), sighting["duplicate_of_offset"].as_i64()) {
        (Some(reason), Some(offset)) => format!(" ({reason}: first seen at offset {offset})"),
        (Some(reason), None) => format!(" ({reason})"),
        (None, _) => String::new(),
    };
    say(format!("\n{} {}{because}", text("kind"), text("verdict")));
    say(format!("  occurred   {}", text("occurred_at")));
    say(format!("  received   {}", text("received_at")));
    say(format!("  log        partition {}, offset {}", sighting["partition"], sighting["offset"]));
    say(format!("  file       {}", text("file")));
    for (name, value) in sighting["fields"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        say(format!("  {name:<10} {value}"));
    }
    for cell in sighting["cells"].as_array().into_iter().flatten() {
        let values = cell["values"].as_object().into_iter().flatten();
        let values: Vec<String> =
            values.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("null"))).collect();
        say(format!(
            "  cell       {:<15} {} {}",
            cell["rollup"].as_str().unwrap_or("-"),
            cell["bucket"].as_str().unwrap_or("-"),
            values.join(" ")
        ));
    }
}
