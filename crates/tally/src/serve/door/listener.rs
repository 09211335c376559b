//! The listening socket: ours, or handed over by a supervisor that keeps it while we are restarted. In the second case nobody is
//! refused meanwhile: who connects waits in the kernel's queue for the next of us.

use std::io;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::coop::unconstrained;
use tracing::info;

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: u32 = 4_096;

pub(super) struct Listener {
    socket: TcpListener,
    pub address: SocketAddr,
    /// Whether somebody else keeps it open after us.
    pub is_handed_over: bool,
}

impl Listener {
    /// Must be called within the runtime that accepts.
    pub fn open(listen: SocketAddr) -> Result<Self> {
        let handed_over = handed_over()?;
        let is_handed_over = handed_over.is_some();
        let socket = match handed_over {
            Some(socket) => socket,
            None => bind(listen).with_context(|| {
                format!("cannot listen on {listen}; stop what else uses that port, or give another with --listen")
            })?,
        };
        let address = socket.local_addr()?;
        if is_handed_over {
            info!(%address, "listening on the socket that was handed over; `server.listen` is not used");
        }
        Ok(Self { socket, address, is_handed_over })
    }

    /// The next connection, which belongs to no runtime yet.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (tcp, peer) = self.socket.accept().await?;
        Ok((tcp.into_std()?, peer))
    }

    /// One that waits now.
    pub fn accept_waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        unconstrained(self.accept()).now_or_never()?.ok()
    }
}

/// By systemd's protocol of socket activation (`LISTEN_FDS`), which other supervisors speak too.
fn handed_over() -> Result<Option<TcpListener>> {
    let mut handed_over = ListenFd::from_env();
    match handed_over.len() {
        0 => Ok(None),
        1 => {
            let socket = handed_over.take_tcp_listener(0);
            let socket = socket.context("what was handed over (LISTEN_FDS) is no listening TCP socket")?;
            let with_runtime = |socket: std::net::TcpListener| {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket)
            };
            socket.map(with_runtime).transpose().context("cannot listen on the socket that was handed over")
        }
        sockets => bail!("{sockets} sockets were handed over (LISTEN_FDS); hand over the one to listen on"),
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}
