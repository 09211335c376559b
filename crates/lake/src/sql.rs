//! SQL for people and their tools: read-only views over one snapshot of both tables, in bounded time and memory.
//!
//! Statements come as text and leave as streams of rows. What may run is decided on the plan (`check`), what it may use up by the
//! engine that runs it (`engine`), and that it really stops by what is put into the plan before it starts (`stop`).

mod catalog;
mod check;
mod date_trunc;
mod dictionaries;
mod encode;
mod engine;
mod error;
mod functions;
mod rows;
mod session;
mod stop;
mod views;

pub use encode::encode_answer;
pub use engine::{Sql, SqlLimits};
pub use error::SqlError;
pub use rows::Rows;
pub use session::SqlSession;

pub(crate) use functions::id_text;
pub(crate) use views::HIDDEN;
