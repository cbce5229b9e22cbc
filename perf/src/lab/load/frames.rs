//! What a trial's packets look like: a template for each size, and what differs between packets of it.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use etherparse::{IpNumber, PacketBuilder};

use super::stamp::{self, Stamp};
use crate::lab::case::Job;
use crate::lab::world::{self, Beyond, Side};

/// Frames in memory come without their frame check sequence.
const FCS: usize = 4;
const TTL: u8 = 64;
/// An Ethernet, an IPv4 and a UDP header.
const HEADERS: usize = 14 + 20 + 8;
/// What VXLAN puts before a frame, and IP-in-IP before a packet.
const VXLAN_OVERHEAD: usize = 50;
const IPIP_OVERHEAD: usize = 20;
/// Where the source port of the outer UDP header stands.
const OUTER_PORT: usize = 14 + 20;
/// Sizes take turns in a pattern of at most so many packets.
pub const LONGEST_PATTERN: usize = 256;

/// What a trial's packets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub job: Job,
    /// Bytes of the inner Ethernet frame, FCS counted, and how many packets of that size there are for one of weight 1.
    pub sizes: Vec<(u16, u16)>,
    /// Packet `n` is of flow `first + n % flows`, where none ends.
    pub flows: u32,
    pub first: u32,
    /// After so many packets a flow ends and another one begins; 0: never.
    pub life: u32,
    /// In the jobs whose source is a node behind a tunnel: IP-in-IP in place of VXLAN.
    pub ipip: bool,
}

impl Stream {
    /// Packets of one size.
    #[must_use]
    pub fn of_size(job: Job, size: u16, flows: u32) -> Self {
        Self { job, sizes: vec![(size, 1)], flows, first: 0, life: 0, ipip: false }
    }

    /// The flow of packet `number`.
    #[must_use]
    pub fn flow(&self, number: u64) -> u32 {
        let ended = number.checked_div(u64::from(self.life)).unwrap_or(0);
        ((u64::from(self.first) + number % u64::from(self.flows) + ended) % u64::from(world::MOST_FLOWS))
            as u32
    }

    /// Which of the sizes the packets have, by turns: packet `n` has that of `n % length`. Each size is spread evenly.
    pub fn pattern(&self) -> Result<Vec<u8>> {
        let total: usize = self.sizes.iter().map(|&(_, weight)| usize::from(weight)).sum();
        ensure!(
            (1..=LONGEST_PATTERN).contains(&total),
            "the weights of the sizes have the sum {total}: it must be from 1 to {LONGEST_PATTERN}"
        );
        let mut places: Vec<(usize, u8)> = Vec::with_capacity(total);
        for (index, &(_, weight)) in self.sizes.iter().enumerate() {
            let middle = |nth: usize| (2 * nth + 1) * LONGEST_PATTERN * LONGEST_PATTERN / usize::from(weight);
            places.extend((0..usize::from(weight)).map(|nth| (middle(nth), index as u8)));
        }
        places.sort_unstable();
        Ok(places.into_iter().map(|(_, index)| index).collect())
    }

    /// A template for each of the sizes.
    pub fn templates(&self) -> Result<Vec<Template>> {
        ensure!(
            (1..=world::MOST_FLOWS).contains(&self.flows),
            "{} flows: there must be from 1 to {}",
            self.flows,
            world::MOST_FLOWS
        );
        ensure!(
            self.first < world::MOST_FLOWS,
            "flow {} is none: there are {}",
            self.first,
            world::MOST_FLOWS
        );
        self.sizes.iter().map(|&(size, _)| Template::new(self, size)).collect()
    }

    fn tunnel(&self) -> Tunnel {
        match world::beyond(self.job, Side::Source) {
            Beyond::Vxlan if self.ipip => Tunnel::Ipip,
            Beyond::Vxlan => Tunnel::Vxlan,
            Beyond::Pod | Beyond::Plain => Tunnel::None,
        }
    }
}

/// How packets come from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    None,
    Vxlan,
    Ipip,
}

impl Tunnel {
    /// Bytes before the inner IP header.
    fn before_inner(self) -> usize {
        14 + match self {
            Self::None => 0,
            Self::Vxlan => VXLAN_OVERHEAD,
            Self::Ipip => IPIP_OVERHEAD,
        }
    }
}

/// The packet of flow 0 and a size, its stamp zero, its IP checksums right. UDP checksums are 0: there is none.
#[derive(Clone, Debug)]
pub struct Template {
    job: Job,
    tunnel: Tunnel,
    bytes: Vec<u8>,
    /// Of the packet's inner header without its checksum and the low half of the far end's address: what is left to
    /// add for a flow.
    sum: u32,
}

impl Template {
    /// The packet of a size, which is that of the inner Ethernet frame, FCS counted.
    pub fn new(stream: &Stream, size: u16) -> Result<Self> {
        let shortest = HEADERS + stamp::LENGTH + FCS;
        ensure!(
            (shortest..=9018).contains(&usize::from(size)),
            "no packets of {size} bytes: 64 to 9018 will do"
        );
        let (job, tunnel) = (stream.job, stream.tunnel());
        let bytes = packet(job, tunnel, usize::from(size) - FCS);
        let mut template = Self { job, tunnel, bytes, sum: 0 };
        let (checksum, far) = (template.checksum_offset(), template.far_end_offset());
        let header = &template.bytes[tunnel.before_inner()..][..20];
        let words = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let word = |at: usize| u32::from(u16::from_be_bytes([template.bytes[at], template.bytes[at + 1]]));
        template.sum = words.sum::<u32>() - word(checksum) - word(far + 2);
        Ok(template)
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub fn tunnel(&self) -> Tunnel {
        self.tunnel
    }

    /// Where the inner IP header stands.
    #[must_use]
    pub fn inner_offset(&self) -> usize {
        self.tunnel.before_inner()
    }

    /// Sum of the inner IP header's 16-bit words without its checksum and the low half of the far end's address.
    #[must_use]
    pub fn partial_sum(&self) -> u32 {
        self.sum
    }

    /// Where the inner IP header's checksum stands.
    #[must_use]
    pub fn checksum_offset(&self) -> usize {
        self.tunnel.before_inner() + 10
    }

    /// Where the far end's address stands, which with the source port is what tells flows apart.
    #[must_use]
    pub fn far_end_offset(&self) -> usize {
        self.tunnel.before_inner() + if self.job.way() == Job::VxlanDecap { 12 } else { 16 }
    }

    /// Where the inner UDP header's source port stands.
    #[must_use]
    pub fn port_offset(&self) -> usize {
        self.tunnel.before_inner() + 20
    }

    /// Where the stamp stands: all before it are headers.
    #[must_use]
    pub fn stamp_offset(&self) -> usize {
        self.tunnel.before_inner() + 28
    }

    /// Makes a copy of the template's bytes the packet of a flow, with its stamp.
    pub fn write(&self, frame: &mut [u8], flow: u32, stamp: Stamp) {
        let (far, mut put) = (self.far_end_offset(), |at: usize, word: u16| {
            frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
        });
        let (address, port) = varying(self.job, flow);
        put(far + 2, address);
        put(self.port_offset(), port);
        let sum = self.sum + u32::from(address);
        let sum = (sum & 0xffff) + (sum >> 16);
        put(self.checksum_offset(), !((sum & 0xffff) + (sum >> 16)) as u16);
        if self.tunnel == Tunnel::Vxlan {
            put(OUTER_PORT, outer_port(flow));
        }
        frame[self.stamp_offset()..][..stamp::LENGTH].copy_from_slice(&stamp.to_bytes());
    }
}

/// The low half of a flow's far address, and its source port.
fn varying(job: Job, number: u32) -> (u16, u16) {
    let flow = world::flow(job, number);
    let far = if job.way() == Job::VxlanDecap { flow.source } else { flow.destination };
    (far.to_bits() as u16, flow.source_port)
}

/// The outer UDP header's source port, which varies with the flow (RFC 7348): a hash onto the dynamic ports.
#[must_use]
pub fn outer_port(flow: u32) -> u16 {
    0xc000 | (flow.wrapping_mul(0x9e37_79b1) >> 18) as u16
}

/// The packet of flow 0 whose inner frame has this length, as the source sends it to the gateway.
fn packet(job: Job, tunnel: Tunnel, length: usize) -> Vec<u8> {
    let [source, gateway] = [world::MAC[0], world::GATEWAY_MAC[0]];
    let flow = world::flow(job, 0);
    let mut inner = match tunnel {
        Tunnel::Vxlan => {
            udp([vtep(job), world::vtep_mac(world::GATEWAY_NAME)], flow.source, flow.destination)
        }
        Tunnel::None | Tunnel::Ipip => udp([source, gateway], flow.source, flow.destination),
    }(flow.source_port, world::PORT, &vec![0; length - HEADERS]);
    let (node, end) = (world::NODE[0], world::GATEWAY[0]);
    match tunnel {
        Tunnel::None => inner,
        Tunnel::Vxlan => {
            let mut payload = vec![8, 0, 0, 0];
            payload.extend((world::VNI << 8).to_be_bytes());
            payload.append(&mut inner);
            udp([source, gateway], node, end)(outer_port(0), world::VXLAN_PORT, &payload)
        }
        Tunnel::Ipip => {
            let mut bytes = Vec::new();
            let outer = PacketBuilder::ethernet2(source, gateway).ipv4(node.octets(), end.octets(), TTL);
            outer.write(&mut bytes, IpNumber::IPV4, &inner[14..]).expect("a Vec takes all");
            bytes
        }
    }
}

/// Address of the VXLAN device that the source has: where the far ends send, it is the node that they are on.
fn vtep(job: Job) -> [u8; 6] {
    let side = if job.way() == Job::VxlanDecap { Side::Sink } else { Side::Source };
    world::vtep_mac(world::NODE_NAME[side as usize])
}

/// Frames of UDP without a checksum between these: from the first address to the second.
fn udp(macs: [[u8; 6]; 2], source: Ipv4Addr, destination: Ipv4Addr) -> impl Fn(u16, u16, &[u8]) -> Vec<u8> {
    move |source_port, port, payload| {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(macs[0], macs[1])
            .ipv4(source.octets(), destination.octets(), TTL)
            .udp(source_port, port)
            .write(&mut bytes, payload)
            .expect("a Vec takes all");
        bytes[HEADERS - 2..HEADERS].fill(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use margay_encap::parse::parse;

    use super::*;

    const JOBS: [(Job, bool); 6] = [
        (Job::L3, false),
        (Job::VxlanEncap, false),
        (Job::VxlanDecap, false),
        (Job::VxlanDecap, true),
        (Job::VxlanBoth, false),
        (Job::VxlanBoth, true),
    ];

    #[test]
    fn packets_are_of_their_flow_and_size_and_hold_their_stamp() {
        for (job, ipip) in JOBS {
            let stream = Stream {
                job,
                sizes: vec![(64, 1), (1518, 1), (9018, 1)],
                flows: 1_000_000,
                first: 0,
                life: 0,
                ipip,
            };
            let mut outer_ports = HashSet::new();
            for (number, template) in
                [0, 1, 1023, 1024, 999_999].iter().zip(stream.templates().unwrap().iter().cycle())
            {
                let mut frame = template.bytes().to_vec();
                let stamp = Stamp { trial: 7, number: *number, departure: 99 };
                template.write(&mut frame, *number, stamp);
                assert_eq!(Stamp::find(&frame), Some(stamp), "{job:?}");

                let ethernet = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
                assert_eq!(
                    ethernet.link.unwrap().to_header().unwrap().ethernet2().unwrap().destination,
                    world::GATEWAY_MAC[0]
                );
                if template.tunnel() == Tunnel::Vxlan {
                    outer_ports.insert([frame[OUTER_PORT], frame[OUTER_PORT + 1]]);
                    assert_eq!(frame[42..50], [8, 0, 0, 0, 0, 0x10, 0, 0]);
                }
                // As if the tunnel ended here: `parse` looks at lengths and IP checksums.
                parse(&frame).expect("outer headers parse");
                let inner = [&frame[..12], &[8, 0], &frame[template.tunnel().before_inner()..]].concat();
                let headers = parse(&inner).expect("inner headers parse");
                let flow = world::flow(job, *number);
                let seen = (Ipv4Addr::from(headers.src()), headers.sport(), Ipv4Addr::from(headers.dst()));
                assert_eq!(seen, (flow.source, flow.source_port, flow.destination));
                assert_eq!(headers.dport(), world::PORT);
            }
            assert_eq!(outer_ports.len(), if job.way() == Job::L3 || outer_ports.is_empty() { 0 } else { 5 });
        }
    }

    #[test]
    fn sizes_take_turns_by_their_weights() {
        let mut stream = Stream::of_size(Job::L3, 64, 1);
        stream.sizes = vec![(64, 7), (594, 4), (1518, 1)];
        let pattern = stream.pattern().unwrap();
        let count = |size| pattern.iter().map(|&at| usize::from(at == size)).sum::<usize>();
        assert_eq!([count(0), count(1), count(2)], [7, 4, 1]);
        assert!(pattern[..6].contains(&1) && pattern[6..].contains(&1), "spread: {pattern:?}");

        stream.sizes = vec![(64, 0)];
        assert!(stream.pattern().is_err());
        stream.sizes = vec![(64, 200), (65, 57)];
        assert!(stream.pattern().is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        for (size, flows) in [(61, 1), (9019, 1), (64, 0), (64, world::MOST_FLOWS + 1)] {
            assert!(
                Stream::of_size(Job::L3, size, flows).templates().is_err(),
                "{size} bytes, {flows} flows"
            );
        }
    }
}
