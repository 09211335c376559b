//! What stands on the sending side of Tally: seeded traffic whose totals are known, and the client that sends files.
//!
//! An event begins here and leaves by HTTP. What the server makes of it is the other crates' business: nothing here
//! knows how it is stored or judged, beyond the two rules the truth is counted by: first of an id, declared robots.

pub mod generate;
pub mod send;

pub use generate::{Generated, Generator, Plan, PlanError, Truth, write_to};
pub use send::{Client, Encoding, LineError, Resume, SendError, SendOptions, SendReport, progress_bar, send};
