//! The lake: judged events, their rollups and their attribution as three Delta tables, and the questions asked of them.
//!
//! The only crate that names `deltalake` or `datafusion`. One process writes; the raw table `events` is the one commit point,
//! `rollups` follows it version by version, and readers see both as of the same events. `attributions` follows as it can.

mod attribution;
mod cell_cache;
mod compact;
mod day_files;
mod error;
mod event_files;
mod event_rows;
mod events;
mod files;
mod layout;
mod live_file;
mod new_file;
mod numbered;
mod query;
mod rebuild;
mod rollups;
mod schema;
mod sql;
mod store;
mod sweep;
mod table;
mod threads;
mod touched;
mod writer;

pub use attribution::{AttributionRound, Attributor, Searched};
pub use compact::{CompactionReport, CompactionSettings};
pub use error::LakeError;
pub use event_rows::EventRows;
pub use events::{CountedClick, FirstSighting};
pub use query::{Moment, Queries};
pub use rebuild::Rebuild;
pub use sql::{Rows, Sql, SqlError, SqlLimits, SqlSession, encode_answer};
pub use threads::{Threads, blocking_threads, step_back};
pub use touched::Touched;
pub use writer::{Lake, LakeView, TableSize, WantedSightings};
