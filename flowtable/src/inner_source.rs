//! Which node may send packets from an address inside a tunnel.

use std::net::IpAddr;
use std::sync::Arc;

use crate::Fib;

/// What is asked of the source of a packet that came in a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InnerSource {
    /// That the sender of the tunnel packet is one that may send from there.
    #[default]
    Strict,
    /// That some node may send from there.
    Loose,
    Off,
}

/// Tunnel ends of the nodes that send for an address: where it lives, and the gateways before that.
pub type Senders = Vec<IpAddr>;

/// Addresses of other nodes and of what lives there, with who sends for them. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct InnerSources {
    pub check: InnerSource,
    /// Its next hops are indexes into `senders`.
    pub homes: Fib,
    pub senders: Arc<[Senders]>,
}

impl InnerSources {
    /// Whether the tunnel end `sender`, which is a known node's, may send packets from `src`.
    pub fn admits(&self, src: IpAddr, sender: IpAddr) -> bool {
        let senders = || self.homes.lookup(src).and_then(|id| self.senders.get(id.0 as usize));
        match self.check {
            InnerSource::Strict => senders().is_some_and(|senders| senders.contains(&sender)),
            InnerSource::Loose => senders().is_some_and(|senders| !senders.is_empty()),
            InnerSource::Off => true,
        }
    }
}
