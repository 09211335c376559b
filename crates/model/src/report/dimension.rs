//! What a report can be grouped and filtered by.

/// A property of events. Those in a rollup view are answered from it; the others from raw events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    CampaignId,
    AdId,
    Variant,
    PlacementId,
    PublisherId,
    Country,
    Region,
    AgeGroup,
    Gender,
    /// One of an event's segments; an event with three segments stands in three groups.
    Segment,
    Device,
    Os,
    Browser,
    Currency,
    Kind,
    /// Why an event does not count; null for those that do.
    Reason,
}

impl Dimension {
    pub const ALL: [Dimension; 16] = [
        Dimension::CampaignId,
        Dimension::AdId,
        Dimension::Variant,
        Dimension::PlacementId,
        Dimension::PublisherId,
        Dimension::Country,
        Dimension::Region,
        Dimension::AgeGroup,
        Dimension::Gender,
        Dimension::Segment,
        Dimension::Device,
        Dimension::Os,
        Dimension::Browser,
        Dimension::Currency,
        Dimension::Kind,
        Dimension::Reason,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::CampaignId => "campaign_id",
            Dimension::AdId => "ad_id",
            Dimension::Variant => "variant",
            Dimension::PlacementId => "placement_id",
            Dimension::PublisherId => "publisher_id",
            Dimension::Country => "country",
            Dimension::Region => "region",
            Dimension::AgeGroup => "age_group",
            Dimension::Gender => "gender",
            Dimension::Segment => "segment",
            Dimension::Device => "device",
            Dimension::Os => "os",
            Dimension::Browser => "browser",
            Dimension::Currency => "currency",
            Dimension::Kind => "kind",
            Dimension::Reason => "reason",
        }
    }

    /// Whether it says what kind of person somebody is. Few of a kind are not told apart from others.
    pub fn is_audience(self) -> bool {
        matches!(self, Dimension::AgeGroup | Dimension::Gender | Dimension::Segment)
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.as_str() == name)
    }
}

/// A calendar unit, in the report's time zone. Weeks start on Monday (ISO 8601).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimeUnit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl TimeUnit {
    pub const ALL: [TimeUnit; 5] = [TimeUnit::Minute, TimeUnit::Hour, TimeUnit::Day, TimeUnit::Week, TimeUnit::Month];

    pub fn as_str(self) -> &'static str {
        match self {
            TimeUnit::Minute => "minute",
            TimeUnit::Hour => "hour",
            TimeUnit::Day => "day",
            TimeUnit::Week => "week",
            TimeUnit::Month => "month",
        }
    }
}

/// One column to group by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupBy {
    Dimension(Dimension),
    Time(TimeUnit),
}

impl GroupBy {
    pub fn all() -> impl Iterator<Item = GroupBy> {
        let dimensions = Dimension::ALL.into_iter().map(GroupBy::Dimension);
        dimensions.chain(TimeUnit::ALL.into_iter().map(GroupBy::Time))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            GroupBy::Dimension(dimension) => dimension.as_str(),
            GroupBy::Time(unit) => unit.as_str(),
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|group| group.as_str() == name)
    }
}
