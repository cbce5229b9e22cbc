//! Records as IPFIX messages (RFC 7011) over UDP: elements of IANA's registry, and of packets that went the other way their
//! reverses (RFC 5103). Names of pods and rules have no element there, and are in the lines of JSON alone.
//!
//! The four templates lead every interval's messages, so a collector that begins later, or missed them, waits an interval.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use jiff::Timestamp;

use super::flow::{Flow, Reason, What};

/// Version 10 is IPFIX.
const VERSION: u16 = 10;
const HEADER: usize = 16;
const TEMPLATE_SET: u16 = 2;
/// Of IPv4; that of IPv6 has the next number.
const ENDS: u16 = 256;
const OTHERS: u16 = 258;
/// Bytes of headers of IPv6 and UDP before a message.
const BEFORE: u16 = 48;
/// Information elements of packets in the reverse direction (RFC 5103).
const REVERSE: u32 = 29305;
const ENTERPRISE: u16 = 1 << 15;

/// Element, and bytes of it.
type Field = (u16, u16);

/// After the addresses.
const COMMON: [Field; 9] = [
    (7, 2),   // sourceTransportPort, 0 where a record is of several
    (11, 2),  // destinationTransportPort
    (4, 1),   // protocolIdentifier
    (233, 1), // firewallEvent
    (152, 8), // flowStartMilliseconds
    (153, 8), // flowEndMilliseconds
    (1, 8),   // octetDeltaCount
    (2, 8),   // packetDeltaCount
    (3, 8),   // deltaFlowCount
];
/// Of flows that have ended.
const OF_END: [Field; 3] = [
    (136, 1),            // flowEndReason
    (1 | ENTERPRISE, 8), // octetDeltaCount, reverse
    (2 | ENTERPRISE, 8), // packetDeltaCount, reverse
];
/// Of others: type and code of ICMP, 0 where it is none.
const ICMP_V4: Field = (32, 2);
const ICMP_V6: Field = (139, 2);

#[derive(Debug)]
pub(super) struct Exporter {
    socket: UdpSocket,
    /// Bytes of a message at most.
    longest: usize,
    /// Data records of all messages so far.
    sequence: u32,
}

impl Exporter {
    /// Sends to the collector, in IP packets of so many bytes at most.
    pub(super) fn new(collector: SocketAddr, mtu: u16) -> io::Result<Self> {
        let any: SocketAddr = if collector.is_ipv6() { ([0; 8], 0).into() } else { ([0; 4], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(collector)?;
        // A full buffer loses a message and keeps nobody.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, longest: usize::from(mtu.saturating_sub(BEFORE)), sequence: 0 })
    }

    /// Sends the templates and the records. Says how many records were not sent, and why the last of them was not.
    pub(super) fn send(&mut self, flows: &[Flow], now: Timestamp) -> Result<(), (u64, io::Error)> {
        let mut failed = None;
        let mut message = Message::new();
        message.add_templates();
        for flow in flows {
            if message.bytes.len() + Message::room_for(flow) > self.longest {
                self.finish(&mut message, now, &mut failed);
            }
            message.add(flow);
        }
        self.finish(&mut message, now, &mut failed);
        failed.map_or(Ok(()), Err)
    }

    fn finish(&mut self, message: &mut Message, now: Timestamp, failed: &mut Option<(u64, io::Error)>) {
        let bytes = message.finish(self.sequence, now);
        let sent = self.socket.send(&bytes);
        // What was not sent is missing from the sequence, as what a network lost.
        self.sequence = self.sequence.wrapping_add(message.records);
        if let Err(error) = sent {
            let lost = failed.as_ref().map_or(0, |(lost, _)| *lost) + u64::from(message.records);
            *failed = Some((lost, error));
        }
        *message = Message::new();
    }
}

/// A message that is being written.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    /// The set that is open: its template, and where it begins.
    set: Option<(u16, usize)>,
    records: u32,
}

impl Message {
    fn new() -> Self {
        Self { bytes: vec![0; HEADER], set: None, records: 0 }
    }

    fn put(&mut self, value: u64, len: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes()[8 - usize::from(len)..]);
    }

    fn open(&mut self, id: u16) {
        if self.set.is_some_and(|(open, _)| open == id) {
            return;
        }
        self.close();
        self.set = Some((id, self.bytes.len()));
        self.put(id.into(), 2);
        self.put(0, 2);
    }

    fn close(&mut self) {
        if let Some((_, at)) = self.set.take() {
            let len = (self.bytes.len() - at) as u16;
            self.bytes[at + 2..at + 4].copy_from_slice(&len.to_be_bytes());
        }
    }

    fn add_templates(&mut self) {
        self.open(TEMPLATE_SET);
        for (id, is_end) in [(ENDS, true), (OTHERS, false)] {
            for is_ipv6 in [false, true] {
                let fields = fields(is_end, is_ipv6);
                self.put((id + u16::from(is_ipv6)).into(), 2);
                self.put(fields.len() as u64, 2);
                for (element, len) in fields {
                    self.put(element.into(), 2);
                    self.put(len.into(), 2);
                    if element & ENTERPRISE != 0 {
                        self.put(REVERSE.into(), 4);
                    }
                }
            }
        }
        self.close();
    }

    /// Bytes that a record takes at most: with the header of its set.
    fn room_for(flow: &Flow) -> usize {
        let is_end = matches!(flow.key.what, What::End(_));
        let fields = fields(is_end, flow.key.src.address.is_ipv6());
        4 + fields.iter().map(|(_, len)| usize::from(*len)).sum::<usize>()
    }

    fn add(&mut self, Flow { key, sum }: &Flow) {
        let is_ipv6 = key.src.address.is_ipv6();
        let template = if matches!(key.what, What::End(_)) { ENDS } else { OTHERS };
        self.open(template + u16::from(is_ipv6));
        for end in [&key.src, &key.dst] {
            match end.address {
                IpAddr::V4(address) => self.bytes.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => self.bytes.extend_from_slice(&address.octets()),
            }
        }
        let values = [
            key.sport.unwrap_or(0).into(),
            key.dport.into(),
            key.protocol.into(),
            firewall_event(key.what),
            milliseconds(sum.first),
            milliseconds(sum.last),
            sum.original.bytes,
            sum.original.packets,
            sum.flows,
        ];
        for (value, (_, len)) in values.into_iter().zip(COMMON) {
            self.put(value, len);
        }
        if let What::End(reason) = key.what {
            for (value, (_, len)) in
                [end_reason(reason), sum.reply.bytes, sum.reply.packets].into_iter().zip(OF_END)
            {
                self.put(value, len);
            }
        } else {
            let (kind, code) = key.icmp.unwrap_or((0, 0));
            self.put(u64::from(kind) << 8 | u64::from(code), 2);
        }
        self.records += 1;
    }

    /// The whole message. `sequence`: data records before it.
    fn finish(&mut self, sequence: u32, now: Timestamp) -> Vec<u8> {
        self.close();
        let mut bytes = std::mem::take(&mut self.bytes);
        let seconds = u32::try_from(now.as_second()).unwrap_or(0);
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[4..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_be_bytes());
        // Observation domain 0: of the whole gateway.
        bytes
    }
}

fn fields(is_end: bool, is_ipv6: bool) -> Vec<Field> {
    let addresses = if is_ipv6 { [(27, 16), (28, 16)] } else { [(8, 4), (12, 4)] };
    let icmp = [if is_ipv6 { ICMP_V6 } else { ICMP_V4 }];
    let rest: &[Field] = if is_end { &OF_END } else { &icmp };
    [&addresses, &COMMON[..], rest].concat()
}

/// IANA's registry of firewallEvent.
fn firewall_event(what: What) -> u64 {
    match what {
        What::Start => 1,
        What::End(_) => 2,
        What::Denial => 3,
    }
}

/// IANA's registry of flowEndReason.
fn end_reason(reason: Reason) -> u64 {
    match reason {
        Reason::Idle => 1,
        Reason::Closed => 3,
        Reason::Replaced | Reason::Policy => 4,
        Reason::Evicted => 5,
    }
}

fn milliseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
