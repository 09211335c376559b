//! The promise that an append gets: it resolves once the records are durable, or says why they are not.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::JournalError;

/// Resolves once the records of one append are durable. Dropping it changes nothing about the records.
#[derive(Debug)]
#[must_use = "records are durable only once the receipt resolves"]
pub struct Receipt(oneshot::Receiver<Result<(), JournalError>>);

impl Receipt {
    /// A receipt, and the end that resolves it. If that end is dropped, the receipt says [`JournalError::Closed`].
    pub fn pending() -> (oneshot::Sender<Result<(), JournalError>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// For records that are durable already.
    pub fn durable() -> Self {
        let (sender, receipt) = Self::pending();
        // The other end is in our hands, so this cannot fail.
        let _ = sender.send(Ok(()));
        receipt
    }

    /// Waits on this thread; must not be called from async code, where the receipt is awaited instead.
    pub fn wait(self) -> Result<(), JournalError> {
        self.0.blocking_recv().unwrap_or(Err(JournalError::Closed))
    }
}

impl Future for Receipt {
    type Output = Result<(), JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(JournalError::Closed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_receipt_says_what_its_other_end_says() {
        let (sender, receipt) = Receipt::pending();
        sender.send(Err(JournalError::Full { queued_bytes: 7 })).unwrap();
        assert_eq!(receipt.await, Err(JournalError::Full { queued_bytes: 7 }));
        assert_eq!(Receipt::durable().await, Ok(()));
    }

    #[test]
    fn a_receipt_whose_other_end_is_gone_never_says_durable() {
        let (sender, receipt) = Receipt::pending();
        drop(sender);
        assert_eq!(receipt.wait(), Err(JournalError::Closed));
    }
}
