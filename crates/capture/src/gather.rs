//! Wakes a thread once for all of its records that one sync made durable, not once for each.
//!
//! The journal's writer is another thread, and to wake a task of ours from there costs as much as to parse its event. So on a
//! thread that serves connections one task awaits all receipts, one after the other, in the order of their appends: the
//! writer finds a waker in the first of a group only. What that task wakes in turn is on its own thread, which costs little.

use std::cell::OnceCell;

use tally_journal::{JournalError, Receipt};
use tokio::sync::{mpsc, oneshot};

type Durable = Result<(), JournalError>;

/// Held by requests in hand, each of which waits for its own: so what bounds them bounds the queue.
type Waiting = (Receipt, oneshot::Sender<Durable>);

thread_local! {
    static HERE: OnceCell<mpsc::UnboundedSender<Waiting>> = const { OnceCell::new() };
}

/// From now on, for this thread, which must have a runtime of its own that runs for as long as the thread does. Elsewhere each
/// request awaits its receipt itself.
pub fn gather_receipts_here() {
    let (sender, waiting) = mpsc::unbounded_channel();
    if HERE.with(|here| here.set(sender)).is_ok() {
        tokio::spawn(gather(waiting));
    }
}

async fn gather(mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    while let Some((receipt, answer)) = waiting.recv().await {
        // Whoever asked may have gone.
        let _ = answer.send(receipt.await);
    }
}

/// Resolves once the records of the receipt are durable.
pub(crate) async fn durable(receipt: Receipt) -> Durable {
    let (answer, answered) = oneshot::channel();
    let unsent = HERE.with(|here| match here.get() {
        Some(gatherer) => gatherer.send((receipt, answer)).err().map(|mpsc::error::SendError((receipt, _))| receipt),
        None => Some(receipt),
    });
    match unsent {
        Some(receipt) => receipt.await,
        None => answered.await.unwrap_or(Err(JournalError::Closed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on a thread of its own, since a thread that gathers does so for good.
    fn on_a_gathering_thread(test: impl AsyncFnOnce() + Send + 'static) {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                gather_receipts_here();
                test().await;
            });
        };
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn each_request_gets_the_answer_of_its_own_receipt() {
        on_a_gathering_thread(async || {
            let (first, first_receipt) = Receipt::pending();
            let (second, second_receipt) = Receipt::pending();
            let (lost, lost_receipt) = Receipt::pending();
            let waiting = [first_receipt, second_receipt, lost_receipt].map(|receipt| tokio::spawn(durable(receipt)));
            tokio::task::yield_now().await;
            drop(lost);
            second.send(Err(JournalError::Full { queued_bytes: 1 })).unwrap();
            first.send(Ok(())).unwrap();
            let mut answers = Vec::new();
            for task in waiting {
                answers.push(task.await.unwrap());
            }
            let expected = [Ok(()), Err(JournalError::Full { queued_bytes: 1 }), Err(JournalError::Closed)];
            assert_eq!(answers, expected);
        });
    }
}
