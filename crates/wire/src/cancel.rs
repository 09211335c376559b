//! Cancelling: another connection names a session by its number and its secret, and what that session runs stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use tokio::sync::watch;

type Name = (i32, Vec<u8>);

/// The sessions that can be named.
#[derive(Debug, Default)]
pub(crate) struct Cancels(Mutex<HashMap<Name, watch::Sender<()>>>);

/// A session's place in the list, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Cancellable {
    list: Arc<Cancels>,
    name: Name,
    cancel: watch::Sender<()>,
}

impl Cancels {
    pub fn enter(self: &Arc<Self>, process: i32, secret: Vec<u8>) -> Cancellable {
        let (name, cancel) = ((process, secret), watch::Sender::new(()));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), cancel.clone());
        Cancellable { list: self.clone(), name, cancel }
    }
}

impl Cancellable {
    /// Changes when what begins now is to stop. What was cancelled before does not count.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.cancel.subscribe()
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        self.list.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[async_trait]
impl CancelHandler for Cancels {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let name = (request.pid, request.secret_key.to_bytes().to_vec());
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = sessions.get(&name) {
            cancel.send_replace(());
        }
    }
}
