//! End to end, on the real binary: it is started, fed, killed and asked as its users would.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod audit;
mod bad_input;
mod caches;
mod commands;
mod conversions;
mod correct;
mod crash;
mod dashboard;
mod dashboard_figures;
mod door;
mod exports;
mod independent;
mod keys;
mod landing;
mod limits;
mod load;
mod older;
mod openapi;
mod operations;
mod outbound;
mod peers;
mod postgres;
mod real_data;
mod redirect;
mod resources;
mod restart;
mod server;
mod signals;
mod small_disk;
mod sql;
mod tag;
mod tidy;
mod tls;
