//! The targets' side of probes: echo servers for connections and datagrams, ears for everything else.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::attempt::{Attempt, Place, Transport};
use super::token::Token;
use crate::netns;

const ICMP_ECHO: u8 = 8;

/// One notification for each attempt, by the number in its token.
pub(super) type Arrivals = Arc<[Arc<Notify>]>;

/// Where something must listen for an attempt to be answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Ear {
    place: Place,
    socket: EarSocket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum EarSocket {
    Stream { protocol: u8, port: u16 },
    Datagram { port: u16 },
    Raw { protocol: u8 },
}

impl Ear {
    pub(super) fn of(attempt: &Attempt) -> Self {
        let (place, socket) = match attempt.transport {
            Transport::Tcp(port) => (&attempt.target, EarSocket::Stream { protocol: 6, port }),
            Transport::Sctp(port) => (&attempt.target, EarSocket::Stream { protocol: 132, port }),
            Transport::Udp(port) => (&attempt.target, EarSocket::Datagram { port }),
            // The reply comes back to the source.
            Transport::Icmp { kind: ICMP_ECHO, .. } => (&attempt.source, EarSocket::Raw { protocol: 1 }),
            Transport::Icmp { .. } => (&attempt.target, EarSocket::Raw { protocol: 1 }),
            Transport::Other(protocol) => (&attempt.target, EarSocket::Raw { protocol }),
        };
        Self { place: place.clone(), socket }
    }

    /// Opens the socket in its namespace and serves it for as long as the runtime runs.
    pub(super) fn open(&self, arrivals: &Arrivals) -> Result<()> {
        let arrivals = arrivals.clone();
        match self.socket {
            EarSocket::Stream { protocol, port } => {
                let socket = self.bind(Type::STREAM, protocol, port)?;
                let listener =
                    TcpListener::from_std(socket.into()).context("cannot watch a listening socket")?;
                tokio::spawn(accept(listener));
            }
            EarSocket::Datagram { port } => {
                let socket = self.bind(Type::DGRAM, 17, port)?;
                let socket = UdpSocket::from_std(socket.into()).context("cannot watch a UDP socket")?;
                tokio::spawn(echo_datagrams(socket));
            }
            EarSocket::Raw { protocol } => {
                // A raw socket receives by the same calls as a UDP socket; only the IP header stands before the data.
                let socket = self.bind(Type::RAW, protocol, 0)?;
                let socket = UdpSocket::from_std(socket.into()).context("cannot watch a raw socket")?;
                tokio::spawn(hear(socket, protocol, arrivals));
            }
        }
        Ok(())
    }

    fn bind(&self, kind: Type, protocol: u8, port: u16) -> Result<Socket> {
        let Place { netns, address } = &self.place;
        let local = SocketAddr::from(SocketAddrV4::new(*address, port));
        netns::within(netns, || {
            let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(i32::from(protocol))))?;
            if kind == Type::STREAM {
                // Connections of an earlier probe may linger on the port.
                socket.set_reuse_address(true)?;
            }
            socket.bind(&local.into())?;
            if kind == Type::STREAM {
                socket.listen(1024)?;
            }
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        })?
        .with_context(|| format!("cannot listen on {local} for protocol {protocol} in {netns}"))
    }
}

/// The ears that the attempts need, each once.
pub(super) fn ears<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> HashSet<Ear> {
    attempts.map(Ear::of).collect()
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(echo(stream));
            }
            // Out of descriptors for the moment, or the connection is gone again: its probe sees no answer.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(received @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..received]).await.is_err() {
            return;
        }
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        if let Ok((received, peer)) = socket.recv_from(&mut buffer).await {
            // A datagram may be lost; the probe sends again.
            let _ = socket.send_to(&buffer[..received], peer).await;
        }
    }
}

async fn hear(socket: UdpSocket, protocol: u8, arrivals: Arrivals) {
    let mut buffer = [0; 2048];
    loop {
        let Ok(received) = socket.recv(&mut buffer).await else { continue };
        if let Some(arrived) = heard(&buffer[..received], protocol).and_then(|number| arrivals.get(number)) {
            arrived.notify_one();
        }
    }
}

/// Number of the attempt that an IPv4 packet answers.
fn heard(packet: &[u8], protocol: u8) -> Option<usize> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let payload = packet.get(header..)?;
    let number = if protocol == 1 {
        let (kind, number) = Token::in_icmp_message(payload)?;
        // A request on its way in is not yet an answer.
        (kind != ICMP_ECHO).then_some(number)?
    } else {
        Token::number_in(payload)?
    };
    usize::try_from(number).ok()
}
