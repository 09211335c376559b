//! Reports: which metrics, over which dimensions, for which time. The request as it comes in, and the same once checked.
//!
//! Metrics and dimensions are declared here and nowhere else; planning and serving are functions of these declarations.

mod answer;
mod booking;
mod catalog;
mod dimension;
mod metric;
mod request;

pub use answer::{Answer, AnswerMeta};
pub use booking::Booking;
pub use catalog::Catalog;
pub use dimension::{Dimension, GroupBy, TimeUnit};
pub use metric::{Base, Measure, Metric, Value};
pub use request::{Direction, Fill, Filter, FilterRequest, OrderBy, OrderRequest, Report, ReportError, ReportRequest};
