//! Echo requests of any size, whole or in the fragments that the kernel makes, and what becomes of each.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{IpHeaders, Ipv4Extensions, Ipv4Header, PacketBuilder};
use margay_testbed::netns;
use socket2::{Domain, Protocol, Socket, Type};

use super::traffic::{Place, blob};

/// Headers of a request: IP and ICMP.
pub const HEADERS: usize = 28;
pub const HEADERS6: usize = 48;

/// How late an answer may be, and how often a request is sent that nothing answers.
const LATE: Duration = Duration::from_secs(1);
const TRIES: usize = 3;

/// No gateway sends more errors than these, one at a time.
const BETWEEN_ERRORS: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It came back with all its bytes.
    Whole,
    /// Somebody said that no more than this fits.
    TooBig {
        from: IpAddr,
        mtu: u32,
    },
    /// Another ICMP error, or an answer with other bytes.
    Wrong(Vec<u8>),
    Lost,
}

/// One place's requests to another.
pub struct Echo {
    from: IpAddr,
    to: IpAddr,
    /// Takes ICMP and sends it by the kernel's rules.
    icmp: UdpSocket,
    /// Sends IPv4 packets as they are.
    whole: Option<UdpSocket>,
    sequence: u16,
}

impl Echo {
    const IDENT: u16 = 0x4d47;

    pub fn new(from: &Place, to: &Place) -> Self {
        let open = |protocol| -> UdpSocket {
            let domain = Domain::for_address(SocketAddr::from((from.address, 0)));
            netns::within(&from.netns, || Socket::new(domain, Type::RAW, Some(protocol)))
                .unwrap()
                .unwrap()
                .into()
        };
        let is_ipv6 = from.address.is_ipv6();
        let icmp = open(if is_ipv6 { Protocol::ICMPV6 } else { Protocol::ICMPV4 });
        let whole = (!is_ipv6).then(|| open(Protocol::from(255)));
        Self { from: from.address, to: to.address, icmp, whole, sequence: 0 }
    }

    /// Sends a request that is an IP packet of so many bytes, with DF, or so that it may be in fragments. (IPv6 is so where it
    /// fits no more.)
    pub fn send(&mut self, length: usize, dont_fragment: bool) -> Fate {
        let headers = if self.to.is_ipv6() { HEADERS6 } else { HEADERS };
        let payload = blob(length - headers, length as u64);
        for _ in 0..TRIES {
            self.sequence += 1;
            let request = self.request(&payload);
            let to = SocketAddr::from((self.to, 0));
            match (&self.whole, dont_fragment) {
                (Some(whole), true) => whole.send_to(&request, to).unwrap(),
                (Some(_), false) => self.icmp.send_to(&request[20..], to).unwrap(),
                (None, _) => self.icmp.send_to(&request, to).unwrap(),
            };
            let fate = self.fate(&payload);
            if fate != Fate::Lost {
                return fate;
            }
        }
        Fate::Lost
    }

    /// Of IPv4 with its header, of IPv6 without; the kernel fills in the checksum of the latter.
    fn request(&self, payload: &[u8]) -> Vec<u8> {
        let mut request = Vec::new();
        if let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from, self.to) {
            let header = Ipv4Header {
                dont_fragment: true,
                time_to_live: 64,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv4Header::default()
            };
            PacketBuilder::ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
                .icmpv4_echo_request(Self::IDENT, self.sequence)
                .write(&mut request, payload)
                .unwrap();
        } else {
            request.extend([128, 0, 0, 0]);
            request.extend(self.mark());
            request.extend(payload);
        }
        request
    }

    /// Identifier and sequence number.
    fn mark(&self) -> [u8; 4] {
        let ([a, b], [c, d]) = (Self::IDENT.to_be_bytes(), self.sequence.to_be_bytes());
        [a, b, c, d]
    }

    fn fate(&self, payload: &[u8]) -> Fate {
        let deadline = Instant::now() + LATE;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Fate::Lost;
            }
            self.icmp.set_read_timeout(Some(left)).unwrap();
            let Ok((length, from)) = self.icmp.recv_from(&mut buffer) else { continue };
            let header = if self.from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            let fate = self.fate_by(&buffer[header..length], from.ip(), payload);
            if let Some(fate) = fate {
                if fate != Fate::Whole {
                    thread::sleep(BETWEEN_ERRORS);
                }
                return fate;
            }
        }
    }

    /// What this message says of the last request, if it is about that.
    fn fate_by(&self, message: &[u8], from: IpAddr, payload: &[u8]) -> Option<Fate> {
        let (reply, too_big, ip) =
            if self.from.is_ipv4() { ([0, 0], [3, 4], 20) } else { ([129, 0], [2, 0], 40) };
        let kind = [message[0], message[1]];
        if kind == reply {
            let is_whole = message[8..] == *payload && from == self.to;
            let fate = if is_whole { Fate::Whole } else { Fate::Wrong(message.to_vec()) };
            return (message[4..8] == self.mark()).then_some(fate);
        }
        // Behind the error's header the packet that it is about; of IPv6 perhaps a fragment's header in it.
        let quote = message.get(8..)?;
        let is_fragment = self.from.is_ipv6() && quote.get(6) == Some(&44);
        let icmp = quote.get(if is_fragment { ip + 8 } else { ip }..)?;
        if icmp.get(4..8) != Some(&self.mark()) {
            return None;
        }
        if kind != too_big || !self.is_sound(message) || !self.is_ours(quote) {
            return Some(Fate::Wrong(message.to_vec()));
        }
        let mtu = &message[if self.from.is_ipv4() { 6 } else { 4 }..8];
        Some(Fate::TooBig { from, mtu: mtu.iter().fold(0, |mtu, byte| mtu << 8 | u32::from(*byte)) })
    }

    /// Whether the checksum holds. Of ICMPv6 the kernel has looked.
    fn is_sound(&self, message: &[u8]) -> bool {
        let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
        let sum: u32 = message.chunks(2).map(word).sum();
        self.from.is_ipv6() || (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    /// Whether the addresses of the quoted packet are those of the request.
    fn is_ours(&self, quote: &[u8]) -> bool {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => quote[12..20] == [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => quote[8..40] == [from.octets(), to.octets()].concat(),
            _ => false,
        }
    }
}
