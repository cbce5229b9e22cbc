//! A port that stays one server's through its restarts.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use super::site::Site;

/// A port that is bound and not listened on: the kernel gives it to nobody who does not ask for it by number.
#[derive(Debug)]
pub(super) struct Reserved {
    _socket: Socket,
    site: Site,
    port: u16,
}

impl Reserved {
    pub(super) fn new(site: &Site) -> Result<Self> {
        let socket = bound(site, 0)?;
        let address = socket.local_addr().context("a socket without an address")?;
        let port = address.as_socket().context("an address without a port")?.port();
        Ok(Self { _socket: socket, site: site.clone(), port })
    }

    pub(super) fn address(&self) -> SocketAddr {
        (self.site.address(), self.port).into()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Listens at the port, besides reserving it.
    pub(super) fn listen(&self) -> Result<TcpListener> {
        let socket = bound(&self.site, self.port)?;
        socket.listen(128).with_context(|| format!("cannot listen at port {}", self.port))?;
        socket.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        Ok(socket.into())
    }
}

/// Two sockets may have one port if both say so and one listens at most; servers in Go say so too.
fn bound(site: &Site, port: u16) -> Result<Socket> {
    let socket = site.within(|| Socket::new(Domain::IPV4, Type::STREAM, None))?.context("no socket")?;
    socket.set_reuse_address(true).context("cannot share a port")?;
    let address = SocketAddr::from((site.address(), port));
    socket.bind(&address.into()).with_context(|| format!("cannot bind {address}"))?;
    Ok(socket)
}
