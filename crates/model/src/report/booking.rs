//! Reports by attribution: conversions by what they are owed to, booked on one day or another.

use super::{Base, Dimension, GroupBy, Metric};
use crate::{Class, Kind};

/// The date that a conversion is booked on, under the click or view that it is owed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Booking {
    /// Of the click or view: what a day's clicks have brought so far.
    ClickDate,
    /// Of the first word about the conversion: what came in on a day.
    ConversionDate,
}

impl Booking {
    pub const ALL: [Booking; 2] = [Booking::ClickDate, Booking::ConversionDate];

    pub fn as_str(self) -> &'static str {
        match self {
            Booking::ClickDate => "click_date",
            Booking::ConversionDate => "conversion_date",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|booking| booking.as_str() == name)
    }
}

impl Base {
    /// Whether it is a sum over conversions that are owed to something.
    pub fn is_attributed(self) -> bool {
        matches!(self, Base::Events(Kind::Conversion, Class::Counted) | Base::RevenueMicros)
    }
}

impl Metric {
    /// Whether a report by attribution can tell it: what is not counted is owed to nothing, and people do not add up.
    pub fn can_be_attributed(self) -> bool {
        self.bases().iter().all(|base| match base {
            Base::Events(Kind::Conversion, class) => *class == Class::Counted,
            Base::Users => false,
            _ => true,
        })
    }
}

impl Dimension {
    /// Whether what a conversion is owed to is kept with this property.
    pub fn can_be_attributed(self) -> bool {
        !matches!(self, Dimension::Segment | Dimension::Kind | Dimension::Reason)
    }
}

impl GroupBy {
    pub fn can_be_attributed(self) -> bool {
        match self {
            GroupBy::Dimension(dimension) => dimension.can_be_attributed(),
            GroupBy::Time(_) => true,
        }
    }
}
