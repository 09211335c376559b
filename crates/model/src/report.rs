//! Reports: which metrics, over which dimensions, for which time. The request as it comes in, and the same once checked.
//!
//! Metrics and dimensions are declared here and nowhere else; planning and serving are functions of these declarations.

mod answer;
mod booking;
mod catalog;
mod checked;
mod dimension;
mod key;
mod metric;
mod request;
mod restated;
mod wrong;

pub use answer::{Answer, AnswerMeta};
pub use booking::Booking;
pub use catalog::Catalog;
pub use checked::{AsOf, Consistency, Direction, Fill, Filter, OrderBy, Report};
pub use dimension::{Dimension, GroupBy, TimeUnit};
pub use metric::{Base, Basis, Measure, Metric, Value};
pub use request::{AsOfRequest, FilterRequest, OrderRequest, ReportRequest};
pub use wrong::ReportError;
