//! The columns of the tables. What is on disk is named here and nowhere else.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tally_model::report::{Base, Measure, Metric};
use tally_model::{Class, Dimension, Kind};

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// The columns of `events` that are in its files, in order; the partition columns follow in [`EVENTS`].
pub(crate) static EVENTS_FILE: LazyLock<SchemaRef> = LazyLock::new(|| {
    let segment = Field::new("element", DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        required("event_id", DataType::Binary),
        required("kind", DataType::Utf8),
        required("occurred_at", timestamp()),
        required("utc_offset_minutes", DataType::Int16),
        required("received_at", timestamp()),
        // The partition's time, where it was ahead of `received_at`: see `Judged::judged_at_s`.
        optional("judged_at", timestamp()),
        required("partition", DataType::Int32),
        required("offset", DataType::Int64),
        required("verdict", DataType::Utf8),
        optional("reason", DataType::Utf8),
        required("campaign_id", DataType::Utf8),
        required("ad_id", DataType::Utf8),
        optional("placement_id", DataType::Utf8),
        optional("publisher_id", DataType::Utf8),
        optional("variant", DataType::Utf8),
        optional("user_hash", DataType::Int64),
        optional("ip_hash", DataType::Int64),
        optional("user_agent", DataType::Utf8),
        required("device", DataType::Utf8),
        required("os", DataType::Utf8),
        required("browser", DataType::Utf8),
        optional("referrer", DataType::Utf8),
        optional("x", DataType::Float32),
        optional("y", DataType::Float32),
        optional("country", DataType::Utf8),
        optional("age_group", DataType::Utf8),
        optional("gender", DataType::Utf8),
        optional("segments", DataType::List(Arc::new(segment))),
        required("cost_micros", DataType::Int64),
        required("revenue_micros", DataType::Int64),
        optional("currency", DataType::Utf8),
        optional("click_id", DataType::Utf8),
        optional("props", DataType::Utf8),
        // Added later, so at the end: tables that were made before get them when they are opened.
        optional("subdivision", DataType::Utf8),
        optional("purpose", DataType::Utf8),
        optional("gdpr", DataType::Boolean),
        optional("gdpr_consent", DataType::Utf8),
        optional("gpp", DataType::Utf8),
        optional("gpp_sid", DataType::Utf8),
        optional("us_privacy", DataType::Utf8),
        optional("gpc", DataType::Boolean),
        optional("txn_id", DataType::Utf8),
        optional("status", DataType::Utf8),
    ]))
});

/// UTC day of `occurred_at`, then region.
pub(crate) const EVENTS_PARTITION_COLUMNS: [&str; 2] = ["event_date", "region"];

pub(crate) static EVENTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields: Vec<Arc<Field>> = EVENTS_FILE.fields().iter().cloned().collect();
    fields.push(Arc::new(required("event_date", DataType::Date32)));
    fields.push(Arc::new(required("region", DataType::Utf8)));
    Arc::new(Schema::new(fields))
});

/// Columns of both tables whose texts repeat, so that files hold them as numbers of a dictionary.
pub(crate) const REPEATED_TEXTS: [&str; 24] = [
    "kind",
    "verdict",
    "reason",
    "campaign_id",
    "ad_id",
    "placement_id",
    "publisher_id",
    "variant",
    "user_agent",
    "device",
    "os",
    "browser",
    "country",
    "region",
    "subdivision",
    "age_group",
    "gender",
    "currency",
    "purpose",
    "gpp_sid",
    "us_privacy",
    "status",
    "grain",
    "view",
];

/// Columns whose least and greatest values stand in the log. No identifying column may ever be among them.
pub(crate) const EVENTS_STATISTICS: [&str; 6] =
    ["occurred_at", "received_at", "judged_at", "partition", "offset", "campaign_id"];

/// The dimension columns of `rollups`, besides `campaign_id`. Null where a view does not have them.
pub(crate) const ROLLUP_DIMENSIONS: [Dimension; 9] = [
    Dimension::AdId,
    Dimension::Variant,
    Dimension::Country,
    Dimension::Region,
    Dimension::AgeGroup,
    Dimension::Gender,
    Dimension::Device,
    Dimension::Os,
    Dimension::Browser,
];

pub(crate) static ROLLUPS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        required("grain", DataType::Utf8),
        required("view", DataType::Utf8),
        required("bucket", timestamp()),
        required("campaign_id", DataType::Utf8),
    ];
    fields.extend(ROLLUP_DIMENSIONS.map(|dimension| optional(dimension.as_str(), DataType::Utf8)));
    fields.push(optional("currency", DataType::Utf8));
    for kind in Kind::ALL {
        fields.extend(Class::ALL.map(|class| required(events_column(kind, class), DataType::Int64)));
    }
    fields.push(required("cost_micros", DataType::Int64));
    fields.push(required("revenue_micros", DataType::Int64));
    // HyperLogLog sketch (Apache DataSketches) of counted users; from the hour upwards.
    fields.push(optional("users", DataType::Binary));
    // The versions of `events` that this row sums up.
    fields.push(required("events_version_first", DataType::Int64));
    fields.push(required("events_version_last", DataType::Int64));
    Arc::new(Schema::new(fields))
});

pub(crate) const ROLLUP_STATISTICS: [&str; 4] = ["grain", "view", "bucket", "campaign_id"];

/// The rollup column that counts events of a kind and class: `clicks` for those that count, else `duplicate_clicks` and so on.
pub(crate) fn events_column(kind: Kind, class: Class) -> &'static str {
    let measure = match class {
        Class::Counted => Measure::Net,
        Class::Duplicate => Measure::Duplicate,
        Class::InvalidGivt => Measure::InvalidGivt,
        Class::InvalidSivt => Measure::InvalidSivt,
        Class::Quarantined => Measure::Quarantined,
    };
    Metric::Events(kind, measure).as_str()
}

/// The rollup column that holds the parts of a sum.
pub(crate) fn base_column(base: Base) -> &'static str {
    match base {
        Base::Events(kind, class) => events_column(kind, class),
        Base::CostMicros => "cost_micros",
        Base::RevenueMicros => "revenue_micros",
        Base::Users => "users",
    }
}

/// All sums of a cell that are plain numbers, in column order.
pub(crate) fn summed_bases() -> Vec<Base> {
    let events = Kind::ALL.into_iter().flat_map(|kind| Class::ALL.map(|class| Base::Events(kind, class)));
    events.chain([Base::CostMicros, Base::RevenueMicros]).collect()
}

/// The columns of `attributions`: one row for each word about a conversion, with the dimensions of what it is owed to under the
/// names that reports have for them.
pub(crate) static ATTRIBUTIONS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        required("event_id", DataType::Binary),
        required("transaction_id", DataType::Binary),
        optional("txn_id", DataType::Utf8),
        required("status", DataType::Utf8),
        required("verdict", DataType::Utf8),
        required("partition", DataType::Int32),
        required("offset", DataType::Int64),
        required("received_at", timestamp()),
        required("occurred_at", timestamp()),
        // As the conversion itself says it; empty where it names only its click.
        required("own_campaign_id", DataType::Utf8),
        optional("click_id", DataType::Utf8),
        required("cost_micros", DataType::Int64),
        required("revenue_micros", DataType::Int64),
        optional("currency", DataType::Utf8),
        required("resolution", DataType::Utf8),
        optional("touch_id", DataType::Binary),
        optional("touched_at", timestamp()),
        optional("touch_verdict", DataType::Utf8),
        optional("time_to_convert_s", DataType::Int64),
    ];
    fields.extend(ATTRIBUTION_DIMENSIONS.map(|dimension| optional(dimension.as_str(), DataType::Utf8)));
    Arc::new(Schema::new(fields))
});

/// Of the click or view; where there is none, the conversion's own campaign and nothing else.
pub(crate) const ATTRIBUTION_DIMENSIONS: [Dimension; 12] = [
    Dimension::CampaignId,
    Dimension::AdId,
    Dimension::PlacementId,
    Dimension::PublisherId,
    Dimension::Variant,
    Dimension::Country,
    Dimension::Region,
    Dimension::AgeGroup,
    Dimension::Gender,
    Dimension::Device,
    Dimension::Os,
    Dimension::Browser,
];

pub(crate) const ATTRIBUTION_STATISTICS: [&str; 7] =
    ["received_at", "occurred_at", "touched_at", "resolution", "campaign_id", "partition", "offset"];
