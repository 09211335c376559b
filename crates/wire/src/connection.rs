//! One connection, message by message. The library's own loop lets a client that is not let in yet send a gigabyte, and goes on
//! after a login that failed: this one does neither.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use datafusion_postgres::pgwire::api::NoopHandler;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use datafusion_postgres::pgwire::messages::PgWireFrontendMessage;
use datafusion_postgres::pgwire::tokio::TlsAcceptor;
use datafusion_postgres::pgwire::tokio::server::{negotiate_tls, process_error, process_message};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, FramedParts};
use tracing::debug;

use crate::server::Shared;
use crate::session::{Prepared, Session};
use crate::startup::Startup;

/// To come in, TLS and login included.
const STARTUP_TIME: Duration = Duration::from_secs(30);
/// Bytes of messages that are not whole yet: more than any login, and than any statement with its parameters.
const STARTUP_BYTES_MAX: usize = 32 * 1024;
const MESSAGE_BYTES_MAX: usize = 1 << 20;

pub(crate) async fn serve(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: &Arc<Shared>,
    startup: Arc<Startup>,
    session: Arc<Session>,
) -> io::Result<()> {
    let deadline = tokio::time::Instant::now() + STARTUP_TIME;
    let negotiated = tokio::time::timeout_at(deadline, negotiate_tls::<Prepared>(socket, tls)).await;
    let Some(negotiated) = negotiated.map_err(|_| io::ErrorKind::TimedOut)?? else { return Ok(()) };
    let parts = negotiated.into_parts();
    let mut bounded = FramedParts::new(Bounded { socket: parts.io, left: STARTUP_BYTES_MAX }, parts.codec);
    bounded.read_buf = parts.read_buf;
    bounded.write_buf = parts.write_buf;
    let mut socket = Framed::from_parts(bounded);
    // There is no COPY, so nobody handles it.
    let no_copy = Arc::new(NoopHandler);
    loop {
        let next = if session.is_admitted() {
            socket.get_mut().left = MESSAGE_BYTES_MAX;
            socket.next().await
        } else {
            tokio::time::timeout_at(deadline, socket.next()).await.map_err(|_| io::ErrorKind::TimedOut)?
        };
        let message = match next {
            None => return Ok(()),
            Some(message) => message?,
        };
        if matches!(message, PgWireFrontendMessage::Terminate(_)) {
            return Ok(());
        }
        let is_extended = message.is_extended_query();
        let processed = process_message(
            message,
            &mut socket,
            startup.clone(),
            session.clone(),
            session.clone(),
            no_copy.clone(),
            shared.cancels.clone(),
        );
        if let Err(error) = processed.await {
            shared.metrics.failures.inc();
            debug!(%error, "an error is sent to a client of the Postgres wire");
            let error = ErrorInfo::from(error);
            let ends = error.is_fatal() || !session.is_admitted();
            process_error(&mut socket, PgWireError::UserError(Box::new(error)), is_extended).await?;
            if ends {
                return Ok(());
            }
        }
    }
}

/// A socket that gives so many bytes for one message, and then no more.
struct Bounded<S> {
    socket: S,
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("a message is too long")));
        }
        let before = out.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, out);
        self.left = self.left.saturating_sub(out.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
