//! What is told of flows: who the ends are, which rules decided, and how much it was.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use margay_flowtable::Traffic;

use crate::compile::policy::RuleName;
use crate::config::FlowEvent;
use crate::state::{Name, Pod};

/// What happened to flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    Start,
    End(Reason),
    Denial,
}

impl What {
    pub fn event(self) -> FlowEvent {
        match self {
            Self::Start => FlowEvent::Start,
            Self::End(_) => FlowEvent::End,
            Self::Denial => FlowEvent::Denial,
        }
    }
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No packet came for the timeout of its protocol.
    Idle,
    /// TCP that both sides had ended, or one had reset.
    Closed,
    /// It made room in a full table, being not assured.
    Evicted,
    /// Another took its place: a new handshake on its ports, or itself, after an end of it had moved to or from this node.
    Replaced,
    /// A change of policy ended it.
    Policy,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Closed => "closed",
            Self::Evicted => "evicted",
            Self::Replaced => "replaced",
            Self::Policy => "policy",
        }
    }
}

/// Who holds an address when something happens there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    Pod { name: Arc<Name>, pod: Arc<Pod> },
    Node(Arc<str>),
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub address: IpAddr,
    pub party: Party,
}

/// What flows have in common that are told of together. As their first packets went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub what: What,
    pub src: End,
    pub dst: End,
    /// IP protocol number.
    pub protocol: u8,
    /// `None` where flows of any are told of together.
    pub sport: Option<u16>,
    pub dport: u16,
    /// Type and code of ICMP that begins or is denied.
    pub icmp: Option<(u8, u8)>,
    /// What the sender's egress policy decided by, and the receiver's ingress policy.
    pub rules: [Option<RuleName>; 2],
}

/// Rules and parties that differ where all else is the same are few.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.what, self.src.address, self.dst.address).hash(state);
        (self.protocol, self.sport, self.dport, self.icmp).hash(state);
    }
}

/// How much it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Flows; of denials, first packets.
    pub flows: u64,
    pub original: Traffic,
    pub reply: Traffic,
    pub first: Timestamp,
    pub last: Timestamp,
}

impl Sum {
    pub fn add(&mut self, other: &Self) {
        self.flows += other.flows;
        for (sum, more) in [(&mut self.original, other.original), (&mut self.reply, other.reply)] {
            sum.packets = sum.packets.saturating_add(more.packets);
            sum.bytes = sum.bytes.saturating_add(more.bytes);
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// One flow, or denials that a worker has added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub key: Key,
    pub sum: Sum,
}
