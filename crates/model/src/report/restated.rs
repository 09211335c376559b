//! What an old report said, beside what it says now.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::{Answer, Metric, Report, Value};

impl Report {
    /// The groups whose figures are different now: each figure as it is now, and after it as it was. A group that was not there
    /// then, or is not there now, had or has what sums over nothing are.
    pub fn restated(&self, then: &Answer, now: &Answer) -> Answer {
        let groups = self.group_by.len();
        let key = |row: &[Json]| serde_json::to_string(&row[..groups]).unwrap_or_default();
        let mut earlier: HashMap<String, &Vec<Json>> = then.rows.iter().map(|row| (key(row), row)).collect();
        let nothing: Vec<Json> = self.metrics.iter().map(nothing).collect();
        let mut rows = Vec::new();
        for row in &now.rows {
            let (keys, figures) = row.split_at(groups);
            let then = earlier.remove(&key(row)).map_or(nothing.as_slice(), |row| &row[groups..]);
            if then != figures {
                rows.push(beside(keys, figures, then));
            }
        }
        for row in then.rows.iter().filter(|row| earlier.contains_key(&key(row))) {
            let (keys, figures) = row.split_at(groups);
            rows.push(beside(keys, &nothing, figures));
        }
        rows.truncate(self.limit);
        Answer { columns: self.answer_columns(), rows, meta: now.meta.clone() }
    }
}

fn beside(keys: &[Json], now: &[Json], then: &[Json]) -> Vec<Json> {
    let figures = now.iter().zip(then).flat_map(|(now, then)| [now.clone(), then.clone()]);
    keys.iter().cloned().chain(figures).collect()
}

fn nothing(metric: &Metric) -> Json {
    match metric.value(|_| 0) {
        Value::Whole(number) => number.into(),
        Value::Ratio(_) | Value::Null => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AnswerMeta, ReportRequest};
    use super::*;
    use serde_json::json;

    fn answer(rows: Json) -> Answer {
        let meta = AnswerMeta { source: String::new(), table_version: 1, users_error: None, warnings: Vec::new() };
        Answer { columns: Vec::new(), rows: serde_json::from_value(rows).unwrap(), meta }
    }

    #[test]
    fn only_what_is_different_is_told_with_both_figures() {
        let request: ReportRequest = serde_json::from_value(json!({
            "metrics": ["clicks", "ctr"], "group_by": ["country"], "as_of": 3, "restated": true,
            "from": "2024-05-01T00:00:00Z", "to": "2024-05-02T00:00:00Z"
        }))
        .unwrap();
        let report = Report::try_from(&request).unwrap();
        let then = answer(json!([["DE", 3, 0.5], ["FR", 1, 0.1], ["IT", 2, 0.2]]));
        let now = answer(json!([["DE", 4, 0.4], ["FR", 1, 0.1], [null, 1, null]]));
        let told = report.restated(&then, &now);
        assert_eq!(told.columns, ["country", "clicks", "clicks_as_of", "ctr", "ctr_as_of"]);
        assert_eq!(
            json!(told.rows),
            json!([["DE", 4, 3, 0.4, 0.5], [null, 1, 0, null, null], ["IT", 0, 2, null, 0.2]])
        );
    }
}
