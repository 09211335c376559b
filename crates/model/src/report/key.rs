//! What makes two reports the same question, however they were written.

use super::{Filter, Report};

impl Report {
    /// Equal for reports that have one answer: neither the format matters, nor the order in which a filter lists its values.
    pub fn key(&self) -> String {
        let Self {
            metrics,
            group_by,
            filters,
            from_us,
            to_us,
            time_zone,
            order_by,
            limit,
            attribution,
            fill,
            basis,
            ..
        } = self;
        let mut filters: Vec<Filter> = filters.clone();
        for filter in &mut filters {
            filter.values.sort_unstable();
            filter.values.dedup();
        }
        let zone = time_zone.iana_name().unwrap_or("UTC");
        let (as_of, is_restated) = (self.as_of, self.is_restated);
        format!(
            "{metrics:?} {group_by:?} {filters:?} {from_us} {to_us} {zone} {order_by:?} {limit} {attribution:?} {fill:?} {basis:?} \
             {as_of:?} {is_restated}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReportRequest;
    use super::*;

    fn key(rest: &str) -> String {
        let json =
            format!(r#"{{"metrics":["clicks"],"from":"2024-05-01T00:00:00Z","to":"2024-05-02T00:00:00Z"{rest}}}"#);
        let request: ReportRequest = serde_json::from_str(&json).unwrap();
        Report::try_from(&request).unwrap().key()
    }

    #[test]
    fn one_question_has_one_key_and_another_has_another() {
        let filter = |values: &str| format!(r#","filters":[{{"field":"country","values":[{values}]}}]"#);
        assert_eq!(key(&filter(r#""DE","FR""#)), key(&filter(r#""FR","DE","FR""#)));
        assert_eq!(key(""), key(r#","format":"csv","time_zone":"UTC""#));
        let others = [
            key(""),
            key(&filter(r#""DE""#)),
            key(&filter(r#"null"#)),
            key(r#","time_zone":"Europe/Berlin""#),
            key(r#","limit":5"#),
            key(r#","group_by":["day"]"#),
            key(r#","group_by":["day"],"fill":"zero""#),
            key(r#","basis":"gross""#),
            key(r#","as_of":5"#),
            key(r#","as_of":5,"restated":true"#),
        ];
        let distinct: std::collections::BTreeSet<_> = others.iter().collect();
        assert_eq!(distinct.len(), others.len(), "{others:#?}");
    }
}
