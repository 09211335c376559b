//! The Postgres wire: SQL over the lake's views for psql, drivers and BI tools.
//!
//! The library below speaks the protocol and plays Postgres's catalog. Who may come in (`startup`, `scram`), what may run
//! (`statement`, and the lake's own check), for how long, and that it stops when it is told to (`session`), is decided here.

mod cancel;
mod connection;
mod format;
mod identity;
mod information_schema;
mod metrics;
mod parameters;
mod questions;
mod scram;
mod server;
mod session;
mod startup;
mod statement;

pub use datafusion_postgres::pgwire::tokio::TlsAcceptor;
pub use metrics::WireMetrics;
pub use scram::{NotAVerifier, Verifier};
pub use server::{Denied, Holder, Users, Wire};
