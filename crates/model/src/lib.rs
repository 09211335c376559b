//! The words of Tally: what an event is, what we think of it, and how it is counted.
//!
//! Plain data and pure functions, in the order that an event travels. Nothing here reads a clock, a file or a socket;
//! runtimes, HTTP and Arrow belong to the crates that use these words.

pub mod analysis;
mod attribution;
mod cells;
mod clock;
mod conversion;
mod days;
mod device;
mod event;
mod format;
mod geo;
mod judged;
mod mark;
mod offset;
mod page;
mod privacy;
mod proof;
mod rate_limit;
mod record;
pub mod report;
mod rollup;
mod schema;
mod stand_in;
mod users;
mod verdict;
mod window;

pub use attribution::{
    AttributionWindows, ConversionFilter, ConversionRow, Converted, Resolution, Touched, named_click_fits,
    persons_touch_fits,
};
pub use cells::{CellRef, Cells, Counter, NumberedKey, TextNumber, Texts};
pub use clock::{Clock, Entropy, ManualClock, SeededEntropy, SystemClock, SystemEntropy};
pub use conversion::ConversionStatus;
pub use days::{Days, DaysError};
pub use device::{Device, is_link_preview};
pub use event::{Event, EventId, Kind, Purpose};
pub use format::Format;
pub use geo::{Country, Region, Subdivision};
pub use judged::Judged;
pub use mark::{Mark, Standing, position_mark, position_marks};
pub use offset::{Offset, Partition, Positions, partition_of};
pub use page::{Listed, Page, Place};
pub use privacy::Privacy;
pub use proof::{
    CheckReport, Comparison, Difference, Differences, KindCount, Life, LifeCell, LifeEvent, Quarantined, RebuildReport,
    TableComparison,
};
pub use rate_limit::{Limit, RATE_LIMITED_PROP};
pub use record::{DecodeError, decode_borrowed, decode_record, encode_record, encode_record_onto};
pub use report::{Dimension, Metric};
pub use rollup::{Cell, CellKey, Counts, Fact, View};
pub use schema::one_of;
pub use stand_in::{StandIn, record_kept, stand_in};
pub use users::{SketchError, Users};
pub use verdict::{Class, Reason, Verdict};
pub use window::{Grain, bucket_start_us};
