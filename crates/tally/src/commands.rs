//! What each command does. One file each.

pub mod bench;
pub mod check_config;
pub mod demo;
pub mod generate;
pub mod keys;
pub mod postback_url;
pub mod quarantine;
pub mod query;
pub mod rebuild;
pub mod replay;
pub mod send;
pub mod sign_link;
pub mod sql;
pub mod verify;
pub mod why;

/// What a person should know beside a command's answer, to standard error.
#[allow(clippy::print_stderr, reason = "notes of commands go to the terminal")]
pub(crate) fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// A command's answer, to standard output.
#[allow(clippy::print_stdout, reason = "answers of commands go to the terminal")]
pub(crate) fn say(text: impl std::fmt::Display) {
    println!("{text}");
}
