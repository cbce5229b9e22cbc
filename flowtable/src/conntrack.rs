//! Connection tracking: what is remembered of a connection, how a packet steps it, and when it expires.
//!
//! The states and times are Calico's (felix/bpf/conntrack/timeouts): no sequence numbers are kept, only which TCP
//! flags each leg has sent and when the last packet passed. Pure: the table stores the state and decides races.

mod phase;

use margay_encap::protocol;
use margay_encap::tcp::flags as tcp;

pub use phase::Phase;

/// Which way a packet goes in its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The way of the packet that made the connection.
    Original = 0,
    Reply = 1,
}

impl Direction {
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// What a packet does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtStatus {
    /// It belongs to the connection.
    Tracked,
    /// It opens a new connection with the addresses and ports of one that is closed: the caller removes the old one
    /// and classifies the packet as a first one.
    Reopen,
    /// The connection had expired or was removed since the lookup: the packet is to be treated as a miss.
    Gone,
}

// Flags that a leg has sent, four bits a leg: Original in the low half of the byte, Reply in the high half.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 8;

/// The state of a connection. For protocols other than TCP `last_seen` counts, and which sides have spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtState {
    /// When a packet of either direction last passed, in seconds of the caller's clock.
    pub last_seen: u32,
    pub(crate) legs: u8,
}

impl CtState {
    /// The state that a connection's first packet makes. A TCP connection whose first packet here is not the one that
    /// opened it was open before (Margay started later, or traffic moved to it): a mere ACK has it taken as
    /// established, a FIN, a RST or the answer to a SYN that passed elsewhere does not before the other side speaks.
    pub fn first(protocol: u8, tcp_flags: u8, now: u32) -> Self {
        let tcp_flags = if protocol == protocol::TCP { tcp_flags } else { 0 };
        let sent = leg(Direction::Original, tcp_flags);
        let legs = if protocol != protocol::TCP || opens(tcp_flags) {
            sent
        } else if sent == ACK {
            PICKED_UP
        } else {
            sent | PICKED_UP | SYN
        };
        Self { last_seen: now, legs }
    }

    /// The state after one more packet. Clocks of two workers may differ by a moment: time never runs back.
    #[inline]
    #[must_use]
    pub fn step(self, direction: Direction, tcp_flags: u8, now: u32) -> Self {
        let lasts = tcp_flags == 0 && now > self.last_seen && self.legs & both(ACK) == both(ACK);
        let lasting = if lasts { LASTING } else { 0 };
        Self { last_seen: self.last_seen.max(now), legs: self.legs | leg(direction, tcp_flags) | lasting }
    }

    /// TCP: both legs have sent SYN and ACK, or it was met established.
    pub fn is_established(self) -> bool {
        self.legs & both(SYN | ACK) == both(SYN | ACK) || self.legs & (SYN | SYN << 4) == PICKED_UP & !ACK
    }

    /// TCP: both legs have sent FIN, or one has sent RST.
    pub fn is_closed(self) -> bool {
        self.is_finished() || self.is_reset()
    }

    /// Whether both sides have shown that they want the connection to last, and neither has ended it: no other is ever
    /// taken out to make room. As the kernel's ASSURED: one question and its answer are not enough, for whoever floods
    /// a server is answered too, and ICMP never is. (TCP that was met established becomes assured with the first packet
    /// of its other side: else a flood of ACKs would fill the table for an hour.)
    pub fn is_assured(self, protocol: u8) -> bool {
        match protocol {
            protocol::TCP => self.legs & ACK << 4 != 0 && self.is_established() && !self.is_closed(),
            protocol::ICMP | protocol::ICMPV6 => false,
            _ => self.legs & LASTING != 0,
        }
    }

    fn is_finished(self) -> bool {
        self.legs & both(FIN) == both(FIN)
    }

    fn is_reset(self) -> bool {
        self.legs & both(RST) != 0
    }
}

/// Where there are no control bits, what SYN is to TCP: after both sides had spoken, a packet came in a later second.
const LASTING: u8 = SYN;

/// TCP that was met with an ACK: its SYN is missing, which a connection that was seen from its first packet has always
/// sent, and the other side's is taken as sent. (If a SYN does come it is a handshake again until the other side speaks.)
const PICKED_UP: u8 = SYN << 4 | ACK;

/// Whether a TCP packet with these flags asks for a new connection.
#[inline]
pub const fn opens(tcp_flags: u8) -> bool {
    tcp_flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
}

const fn both(flags: u8) -> u8 {
    flags << 4 | flags
}

/// What a packet leaves in its leg. One without flags, as every packet is that is no TCP, counts as an ACK: the side
/// has spoken.
#[inline]
const fn leg(direction: Direction, tcp_flags: u8) -> u8 {
    // FIN, SYN and RST stand in the header as they do here; ACK is bit 4 there and bit 3 here.
    let sent = if tcp_flags == 0 { ACK } else { tcp_flags & (FIN | SYN | RST) | tcp_flags >> 1 & ACK };
    sent << (4 * direction as u8)
}

/// By direction and the low five control bits: the bits of `legs` that a connection must have for such a packet to
/// change nothing. No `legs` has the ninth bit, which stands for a packet that asks for a new connection.
static NEEDED: [u16; 64] = needed();

const OPENS: u16 = 0x100;

const fn needed() -> [u16; 64] {
    let mut needed = [0; 64];
    let mut flags = 0;
    while flags < 32 {
        let opens = if opens(flags) { OPENS } else { 0 };
        needed[flags as usize] = leg(Direction::Original, flags) as u16 | opens;
        needed[32 + flags as usize] = leg(Direction::Reply, flags) as u16 | opens;
        flags += 1;
    }
    needed
}

impl CtState {
    /// Whether one more packet changes nothing, as nearly every packet does. Where that is not certain the answer is no,
    /// and the packet takes the step that may turn out to change nothing.
    #[inline]
    pub(crate) fn is_settled(self, direction: Direction, tcp_flags: u8, now: u32) -> bool {
        let needed = NEEDED[usize::from((direction as u8) << 5 | tcp_flags & 31) & 63];
        needed & !u16::from(self.legs) == 0 && self.last_seen >= now
    }
}

/// How long a connection without packets is kept, in seconds. It expires when it is strictly older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, not established.
    pub tcp_handshake: u32,
    pub tcp_established: u32,
    /// TCP, FIN sent by both.
    pub tcp_fins: u32,
    /// TCP, RST sent by one.
    pub tcp_rst: u32,
    pub udp: u32,
    pub icmp: u32,
    /// Every other protocol.
    pub other: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_handshake: 20,
            tcp_established: 3600,
            tcp_fins: 120,
            tcp_rst: 40,
            udp: 60,
            icmp: 5,
            other: 600,
        }
    }
}

impl Timeouts {
    /// How long a connection in this state is kept. Where several times apply the shortest does: a handshake that is
    /// reset is still a handshake.
    pub fn of(&self, protocol: u8, state: CtState) -> u32 {
        match protocol {
            protocol::TCP => {
                let mut limit =
                    if state.is_established() { self.tcp_established } else { self.tcp_handshake };
                if state.is_finished() {
                    limit = limit.min(self.tcp_fins);
                }
                if state.is_reset() {
                    limit = limit.min(self.tcp_rst);
                }
                limit
            }
            protocol::UDP => self.udp,
            protocol::ICMP | protocol::ICMPV6 => self.icmp,
            _ => self.other,
        }
    }

    pub fn expired(&self, protocol: u8, state: CtState, now: u32) -> bool {
        now.saturating_sub(state.last_seen) > self.of(protocol, state)
    }

    /// The first second at which the connection is expired if no packet comes.
    pub(crate) fn deadline(&self, protocol: u8, state: CtState) -> u64 {
        u64::from(state.last_seen) + u64::from(self.of(protocol, state)) + 1
    }
}
