//! What becomes of an event after the journal: told from its copies, judged, rolled up, committed.
//!
//! The rules ([`Dedup`], [`DoubleClicks`], [`judge`], [`RollupBuilder`]) are pure functions of the record, its offset and what came before it;
//! a replay of the log decides the same. The one loop that drives them is [`run`]; it holds no rule.

mod agents;
mod batch;
mod dedup;
mod double_click;
mod judge;
mod live;
mod metrics;
mod poison;
mod rollup;
mod run;
mod sink;
mod urgency;

pub use batch::{Batch, Rows};
pub use dedup::{Arrival, Dedup, DedupError, DedupOptions, Known, Sighted};
pub use double_click::{DoubleClicks, PersonsClick};
pub use judge::judge;
pub use live::{LIVE_WINDOW_S, LiveCampaign, LivePart, LiveView, LiveWindow};
pub use metrics::PipelineMetrics;
pub use rollup::RollupBuilder;
pub use run::{Committing, Due, Judging, Pipeline, PipelineError, PipelineSettings, Progress};
pub use sink::{Sighting, Sink, SinkError, Wanted};
pub use urgency::{Urgency, Waiting};
