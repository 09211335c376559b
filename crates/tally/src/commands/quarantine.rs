//! `tally quarantine`.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde_json::{Map, Value, json};
use tally_model::{decode_record, record_kept};
use uuid::Uuid;

use super::say;
use crate::cli::{KeyArguments, QuarantineCommand};
use crate::client::{self, Source};

/// Events in one request.
const CHUNK: usize = 1_000;

pub async fn run(what: QuarantineCommand) -> Result<ExitCode> {
    match what {
        QuarantineCommand::List { reason, limit, json, place } => {
            let events = Source::of(&place).await?.quarantined(reason.as_deref(), usize::from(limit)).await?;
            if json { events.iter().for_each(say) } else { print_list(&events) }
        }
        QuarantineCommand::Show { event_id, place } => {
            let life = Source::of(&place).await?.why(&event_id).await?;
            say(serde_json::to_string_pretty(&shown(&life))?);
        }
        QuarantineCommand::Resubmit { file, id, set, server, key } => {
            let set = set.iter().map(|text| assignment(text)).collect::<Result<_>>()?;
            let events = match &file {
                Some(file) => from_lines(&read(file)?, &set)?,
                None => id.iter().map(|id| json!({"event_id": id, "set": set})).collect(),
            };
            return resubmit(&server, &key, &events).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_list(events: &[Value]) {
    let columns = ["event_id", "partition", "offset", "received_at", "reason", "kind", "campaign_id", "why"];
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(columns);
    for event in events {
        table.add_row(columns.map(|name| match &event[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }));
    }
    say(table);
    say(format!("{} events in quarantine, the newest first", events.len()));
}

/// The quarantined sighting, and the event in its record where it can be read by now. Without hashes of people.
fn shown(life: &Value) -> Value {
    let sightings = life["sightings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sighting = sightings.iter().find(|sighting| sighting["verdict"] == "quarantined");
    let mut shown = sighting.cloned().unwrap_or(Value::Null);
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("cells");
    }
    if shown["reason"] == "undecodable" {
        let record = shown["fields"]["props"].as_str().and_then(record_kept);
        if let Some(Ok(event)) = record.map(|record| decode_record(&record)) {
            let mut event = json!(event);
            for hash in ["user_hash", "ip_hash"] {
                event.as_object_mut().and_then(|fields| fields.remove(hash));
            }
            shown["decoded"] = event;
        }
    }
    shown
}

/// A whole number where it is one, else text.
fn assignment(text: &str) -> Result<(String, Value)> {
    let (field, value) = text.split_once('=').with_context(|| format!("--set {text:?} has no `=`"))?;
    let number = if field.ends_with("_micros") { value.parse::<i64>().ok() } else { None };
    Ok((field.to_owned(), number.map_or_else(|| json!(value), |number| json!(number))))
}

fn read(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

/// What a listed event tells of itself is no field to set.
const LISTED: [&str; 7] = ["partition", "offset", "received_at", "occurred_at", "kind", "reason", "why"];

fn from_lines(text: &str, set: &Map<String, Value>) -> Result<Vec<Value>> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let event = |(number, line): (usize, &str)| -> Result<Value> {
        let mut fields: Map<String, Value> =
            serde_json::from_str(line).with_context(|| format!("line {number} is no JSON object"))?;
        let id = fields.remove("event_id");
        let id: Option<Uuid> = id.as_ref().and_then(Value::as_str).and_then(|id| id.parse().ok());
        let id = id.with_context(|| format!("line {number} has no `event_id` that is a UUID"))?;
        fields.retain(|name, value| !LISTED.contains(&name.as_str()) && *value != json!(""));
        fields.extend(set.clone());
        Ok(json!({"event_id": id, "set": fields}))
    };
    lines.map(event).collect()
}

async fn resubmit(server: &str, key: &KeyArguments, events: &[Value]) -> Result<ExitCode> {
    ensure!(!events.is_empty(), "there is nothing to resubmit");
    let (mut sent, mut refused) = (0, 0);
    for chunk in events.chunks(CHUNK) {
        let answer = client::post(server, key, "/v1/admin/quarantine/resubmit", &json!({"events": chunk})).await?;
        for result in answer["results"].as_array().into_iter().flatten() {
            let text = |name: &str| result[name].as_str().unwrap_or("-").to_owned();
            let was_sent = result["new_event_id"].is_string();
            sent += usize::from(was_sent);
            refused += usize::from(!was_sent);
            let arrow = if was_sent { format!(" -> {}", text("new_event_id")) } else { String::new() };
            say(format!("{}{arrow}: {}", text("event_id"), text("outcome")));
        }
    }
    say(format!("{sent} resubmitted, {refused} not; `tally why` tells what became of the new ones"));
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_event_with_fields_added_is_a_line_to_resubmit() {
        let id = Uuid::from_u128(7);
        let line = json!({"event_id": id, "offset": 3, "why": "x", "campaign_id": "", "ad_id": "a"}).to_string();
        let set = Map::from_iter([assignment("campaign_id=c").unwrap(), assignment("cost_micros=5").unwrap()]);
        let expected = json!({"event_id": id, "set": {"ad_id": "a", "campaign_id": "c", "cost_micros": 5}});
        assert_eq!(from_lines(&format!("\n{line}\n"), &set).unwrap(), [expected]);
        assert!(from_lines("\n{}", &set).unwrap_err().to_string().starts_with("line 2 has no `event_id`"));
        assert!(from_lines("{", &set).unwrap_err().to_string().contains("line 1 is no JSON object"));
    }
}
