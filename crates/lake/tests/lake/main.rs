//! The lake from outside, on real files. In one binary: each that links the engines takes its minute to build.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attribution;
mod common;
mod compare;
mod crash;
mod figures;
mod older;
mod outage;
mod rebuild;
mod sql;
