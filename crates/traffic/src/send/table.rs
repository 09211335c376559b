//! A row of a CSV file as an event, by a mapping of columns to fields.

use csv::StringRecord;
use serde_json::{Map, Value};

use super::SendError;

/// The fields that events know (the contract). Columns of these names need no mapping.
const FIELDS: [&str; 30] = [
    "event_id",
    "kind",
    "occurred_at",
    "campaign_id",
    "ad_id",
    "placement_id",
    "publisher_id",
    "variant",
    "user_id",
    "ip",
    "user_agent",
    "referrer",
    "x",
    "y",
    "country",
    "subdivision",
    "age_group",
    "gender",
    "segments",
    "cost_micros",
    "revenue_micros",
    "currency",
    "click_id",
    "gdpr",
    "gdpr_consent",
    "gpp",
    "gpp_sid",
    "us_privacy",
    "gpc",
    "props",
];

#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, usize)>,
    constants: Vec<(String, Value)>,
}

impl Table {
    pub fn new(header: &StringRecord, map: &[(String, String)], set: &[(String, String)]) -> Result<Self, SendError> {
        let mut columns: Vec<(String, usize)> = Vec::new();
        for (field, column) in map {
            if columns.iter().any(|(mapped, _)| mapped == field) {
                return Err(SendError::Mapping(format!("`{field}` is mapped twice; keep one of the two columns")));
            }
            if set.iter().any(|(fixed, _)| fixed == field) {
                return Err(SendError::Mapping(format!("`{field}` is both mapped and set; keep one of the two")));
            }
            let Some(place) = header.iter().position(|name| name.trim() == column) else {
                let names: Vec<&str> = header.iter().collect();
                return Err(SendError::Mapping(format!(
                    "there is no column `{column}` to map `{field}` to; the columns are: {}",
                    names.join(", ")
                )));
            };
            columns.push((field.clone(), place));
        }
        for (place, name) in header.iter().map(str::trim).enumerate() {
            let is_taken = columns.iter().any(|(field, column)| field == name || *column == place)
                || set.iter().any(|(field, _)| field == name);
            if FIELDS.contains(&name) && !is_taken {
                columns.push((name.to_owned(), place));
            }
        }
        let has_kind = columns.iter().any(|(field, _)| field == "kind") || set.iter().any(|(field, _)| field == "kind");
        if !has_kind {
            return Err(SendError::Mapping(
                "no column gives the event's `kind`; map one to it, or set it: `--set kind=click`".to_owned(),
            ));
        }
        let constants = set.iter().map(|(field, text)| (field.clone(), value(field, text))).collect();
        Ok(Self { columns, constants })
    }

    /// Empty cells are absent fields.
    pub fn event(&self, row: &StringRecord) -> Map<String, Value> {
        let cells = self.columns.iter().map(|(field, place)| (field, row.get(*place).unwrap_or("").trim()));
        let cells = cells.filter(|(_, cell)| !cell.is_empty()).map(|(field, cell)| (field.clone(), value(field, cell)));
        cells.chain(self.constants.iter().cloned()).collect()
    }
}

/// What does not read as its field wants it stays text, and the server says what is wrong with it.
fn value(field: &str, text: &str) -> Value {
    let read = match field {
        "cost_micros" | "revenue_micros" => text.parse::<i64>().ok().map(Value::from),
        "x" | "y" => text.parse::<f64>().ok().map(Value::from),
        "segments" => Some(text.split([';', '|']).map(str::trim).filter(|name| !name.is_empty()).collect()),
        "props" => serde_json::from_str(text).ok().filter(Value::is_object),
        _ => None,
    };
    read.unwrap_or_else(|| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(field, column)| ((*field).to_owned(), (*column).to_owned())).collect()
    }

    fn check(header: &[&str], map: &[(&str, &str)], row: &[&str], expected: &str) {
        let table = Table::new(&header.to_vec().into(), &pairs(map), &pairs(&[("kind", "click")])).unwrap();
        assert_eq!(Value::from(table.event(&row.to_vec().into())).to_string(), expected);
    }

    #[test]
    fn columns_become_the_fields_that_they_are_mapped_to() {
        check(
            &["time", "camp", "ad_id"],
            &[("occurred_at", "time"), ("campaign_id", "camp")],
            &["2026-01-01", "c", "a"],
            r#"{"occurred_at":"2026-01-01","campaign_id":"c","ad_id":"a","kind":"click"}"#,
        );
    }

    #[test]
    fn other_columns_are_left_out_unless_mapped_to_a_name_of_their_own() {
        check(
            &["ad_id", "email", "score"],
            &[("propensity", "score")],
            &["a", "x@example.com", "0.5"],
            r#"{"propensity":"0.5","ad_id":"a","kind":"click"}"#,
        );
    }

    #[test]
    fn numbers_are_read_where_the_field_is_one_and_empty_cells_are_absent() {
        check(
            &["ad_id", "cost_micros", "x", "y", "segments", "gender"],
            &[],
            &["7", "1200", "0.5", "abc", "a;b", ""],
            r#"{"ad_id":"7","cost_micros":1200,"x":0.5,"y":"abc","segments":["a","b"],"kind":"click"}"#,
        );
    }

    #[test]
    fn a_mapping_that_cannot_be_kept_is_refused_before_anything_is_sent() {
        let refused = |header: &[&str], map: &[(&str, &str)], set: &[(&str, &str)]| {
            Table::new(&header.to_vec().into(), &pairs(map), &pairs(set)).unwrap_err().to_string()
        };
        assert!(refused(&["a", "b"], &[("ad_id", "c")], &[]).contains("the columns are: a, b"));
        assert!(refused(&["a"], &[("ad_id", "a")], &[("ad_id", "1")]).contains("both mapped and set"));
        assert!(refused(&["a", "b"], &[("ad_id", "a"), ("ad_id", "b")], &[]).contains("mapped twice"));
        assert!(refused(&["a"], &[], &[]).contains("--set kind=click"));
    }
}
