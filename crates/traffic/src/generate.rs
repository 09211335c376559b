//! Seeded traffic with planted duplicates, late events and robots, and the exact totals that a server must arrive at.
//!
//! The same plan yields the same bytes on every machine: the dice are ChaCha8, and all arithmetic behind them is on
//! integers, since `ln` and `pow` differ in the last bit between platforms.

mod agents;
mod clicks;
mod curve;
mod dice;
mod draft;
mod generator;
mod ledger;
mod memory;
mod plan;
mod truth;
mod world;

pub use generator::{Generated, Generator, write_to};
pub use plan::{Plan, PlanError};
pub use truth::{Counts, Micros, Truth};
