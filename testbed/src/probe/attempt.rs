//! One probe as a real connection: from a namespace and address to another, and whether it got through.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::token::Token;
use crate::netns;

/// How long the packet of an unreliable protocol may take before another is sent.
const RESEND: Duration = Duration::from_millis(300);

/// An address and the namespace that has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) netns: String,
    pub(super) address: Ipv4Addr,
}

/// What is asked of the network. Ports are the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    Tcp(u16),
    Udp(u16),
    Sctp(u16),
    /// An echo request is answered by the target's kernel; of any other message the arrival counts.
    Icmp {
        kind: u8,
        code: u8,
    },
    /// Any other protocol: the arrival counts.
    Other(u8),
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) source: Place,
    pub(super) target: Place,
    pub(super) transport: Transport,
    pub(super) source_port: Option<u16>,
    /// When no answer means that there will be none.
    pub(super) patience: Duration,
    /// Told apart from all other attempts by this.
    pub(super) token: Token,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The target answered, with our own bytes.
    Answer,
    /// It did not; why, as far as the socket knows.
    NoAnswer(String),
}

impl Attempt {
    /// Makes the attempt. `arrived` is notified by the listener that hears of a message without a connection. Errors
    /// are those of this machine, not of the network.
    pub(super) async fn make(&self, arrived: Arc<Notify>) -> Result<Seen> {
        let seen = match self.transport {
            Transport::Tcp(port) => self.stream(Protocol::TCP, port).await?,
            Transport::Sctp(port) => self.stream(Protocol::from(132), port).await?,
            Transport::Udp(port) => self.datagrams(port).await?,
            Transport::Icmp { kind, code } => {
                self.messages(Protocol::ICMPV4, &self.token.icmp_message(kind, code), arrived).await?
            }
            Transport::Other(protocol) => {
                self.messages(Protocol::from(i32::from(protocol)), self.token.bytes(), arrived).await?
            }
        };
        Ok(seen)
    }

    fn socket(&self, kind: Type, protocol: Protocol) -> Result<Socket> {
        let local = SocketAddr::from((self.source.address, self.source_port.unwrap_or(0)));
        netns::within(&self.source.netns, || {
            let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
            socket.set_reuse_address(true)?;
            socket.bind(&local.into())?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        })?
        .with_context(|| format!("cannot open a socket on {local} in {}", self.source.netns))
    }

    fn remote(&self, port: u16) -> SocketAddr {
        SocketAddrV4::new(self.target.address, port).into()
    }

    /// Handshake, our token there and back.
    async fn stream(&self, protocol: Protocol, port: u16) -> Result<Seen> {
        let socket = self.socket(Type::STREAM, protocol)?;
        if self.source_port.is_some() {
            // Closed by a RST the connection does not linger in TIME_WAIT, and the next probe can have the port.
            socket.set_linger(Some(Duration::ZERO)).context("cannot set SO_LINGER")?;
        }
        let socket = TcpSocket::from_std_stream(socket.into());
        let exchange = async {
            let mut stream = socket.connect(self.remote(port)).await?;
            stream.write_all(self.token.bytes()).await?;
            let mut answer = [0; Token::LEN];
            stream.read_exact(&mut answer).await?;
            io::Result::Ok(answer)
        };
        Ok(match timeout(self.patience, exchange).await {
            Ok(Ok(answer)) if answer == *self.token.bytes() => Seen::Answer,
            Ok(Ok(_)) => Seen::NoAnswer("the echo has other bytes".into()),
            Ok(Err(error)) => Seen::NoAnswer(error.to_string()),
            Err(_) => self.silence(),
        })
    }

    async fn datagrams(&self, port: u16) -> Result<Seen> {
        let socket = self.socket(Type::DGRAM, Protocol::UDP)?;
        let socket = UdpSocket::from_std(socket.into()).context("cannot watch a UDP socket")?;
        let exchange = async {
            socket.connect(self.remote(port)).await?;
            let mut answer = [0; Token::LEN + 1];
            loop {
                socket.send(self.token.bytes()).await?;
                if let Ok(received) = timeout(RESEND, socket.recv(&mut answer)).await {
                    return io::Result::Ok(answer[..received?] == *self.token.bytes());
                }
            }
        };
        Ok(match timeout(self.patience, exchange).await {
            Ok(Ok(true)) => Seen::Answer,
            Ok(Ok(false)) => Seen::NoAnswer("the echo has other bytes".into()),
            Ok(Err(error)) => Seen::NoAnswer(error.to_string()),
            Err(_) => self.silence(),
        })
    }

    async fn messages(&self, protocol: Protocol, message: &[u8], arrived: Arc<Notify>) -> Result<Seen> {
        let socket = self.socket(Type::RAW, protocol)?;
        let remote = self.remote(0).into();
        let send = async {
            loop {
                match socket.send_to(message, &remote) {
                    Ok(_) => sleep(RESEND).await,
                    // The send buffer is full for the moment.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RESEND).await,
                    Err(error) => return error,
                }
            }
        };
        tokio::select! {
            () = arrived.notified() => Ok(Seen::Answer),
            error = send => Ok(Seen::NoAnswer(error.to_string())),
            () = sleep(self.patience) => Ok(self.silence()),
        }
    }

    fn silence(&self) -> Seen {
        Seen::NoAnswer(format!("no answer within {:.1} s", self.patience.as_secs_f64()))
    }
}
