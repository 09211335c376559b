//! Redis as a cache of answers that several servers share. What it says is only ever an answer that a server put there under the
//! same question and state of the tables; where it is away, slow or full, questions are answered without it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncTypedCommands, Client};
use tally_api::SharedCache;
use tracing::debug;

/// An answer that nobody asked for this long goes; its tables have most likely changed.
const KEPT_S: u64 = 3_600;
const CONNECT_TIME: Duration = Duration::from_secs(2);

struct RedisCache(ConnectionManager);

/// None where the URL is empty. Connects when it is first asked, and again after it was away.
pub(super) fn open(url: &str) -> Result<Option<Arc<dyn SharedCache>>> {
    if url.is_empty() {
        return Ok(None);
    }
    let wrong = "`reports.redis_url` is no address of a Redis; write redis://HOST:PORT/NUMBER, or \"\" for none";
    let client = Client::open(url).context(wrong)?;
    let settings = ConnectionManagerConfig::new().set_connection_timeout(Some(CONNECT_TIME)).set_number_of_retries(1);
    Ok(Some(Arc::new(RedisCache(ConnectionManager::new_lazy_with_config(client, settings).context(wrong)?))))
}

#[async_trait]
impl SharedCache for RedisCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let found: redis::RedisResult<Option<Vec<u8>>> =
            redis::cmd("GET").arg(name(key)).query_async(&mut self.0.clone()).await;
        found.inspect_err(|error| debug!(%error, "the shared cache was not asked")).ok()?.map(Bytes::from)
    }

    async fn put(&self, key: &str, answer: Bytes) {
        let put = self.0.clone().set_ex(name(key), answer.as_ref(), KEPT_S).await;
        if let Err(error) = put {
            debug!(%error, "the shared cache took no answer");
        }
    }
}

fn name(key: &str) -> String {
    format!("tally:answer:{key}")
}
