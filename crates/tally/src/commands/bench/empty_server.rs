//! The empty answer: our HTTP stack with nothing behind it, as a process of its own. Reads what it is sent, and says 204.

use std::net::SocketAddr;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::config::{Config, Overrides};
use crate::serve::{Door, DoorMetrics};

pub(super) async fn run(listen: SocketAddr) -> Result<()> {
    let config = Config::load(&Overrides { listen: Some(listen), ..Overrides::default() })?;
    let routes = Router::new()
        .route("/v1/events", post(async |_: Bytes| StatusCode::NO_CONTENT))
        .route("/healthz", get(async || StatusCode::NO_CONTENT));
    let _door = Door::open(&config, routes, || {}, &DoorMetrics::default())?;
    std::future::pending().await
}
