//! A port of loopback that stays one server's through its restarts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// A port that is bound and not listened on: the kernel gives it to nobody who does not ask for it by number.
#[derive(Debug)]
pub(super) struct Reserved {
    _socket: Socket,
    port: u16,
}

impl Reserved {
    pub(super) fn new() -> Result<Self> {
        let socket = bound(0)?;
        let address = socket.local_addr().context("a socket without an address")?;
        let port = address.as_socket().context("an address without a port")?.port();
        Ok(Self { _socket: socket, port })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Listens at the port, besides reserving it.
    pub(super) fn listen(&self) -> Result<TcpListener> {
        let socket = bound(self.port)?;
        socket.listen(128).with_context(|| format!("cannot listen at port {}", self.port))?;
        socket.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        Ok(socket.into())
    }
}

/// Two sockets may have one port if both say so and one listens at most; servers in Go say so too.
fn bound(port: u16) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("no socket")?;
    socket.set_reuse_address(true).context("cannot share a port")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.bind(&address.into()).with_context(|| format!("cannot bind {address}"))?;
    Ok(socket)
}
