//! UDP packets of many flows for each path through the gateway: templates, and what is patched into them.

use std::net::Ipv4Addr;

use clap::ValueEnum;
use etherparse::{IpNumber, PacketBuilder};
use margay_encap::checksum::{update_u16, update_u32};
use margay_encap::protocol;
use margay_fastpath::{Frame, Umem};
use margay_flowtable::{FlowKey, PortId};
use serde::{Deserialize, Serialize};

pub const UPLINK: PortId = PortId(0);
pub const POD: PortId = PortId(1);

pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(172, 20, 1, 10);
pub(crate) const PEER_NODE: Ipv4Addr = Ipv4Addr::new(172, 20, 2, 11);
pub(crate) const POD_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 65, 10, 5);
pub(crate) const VTEP: [u8; 6] = [0x66, 0, 0, 0, 0, 1];
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const VNI: u32 = 4096;
pub(crate) const VXLAN_PORT: u16 = 4789;

/// The far ends of a path's flows: these bits of a /22, which is 16 blocks of a Calico pool.
pub(crate) const REMOTE_BITS: u32 = 10;
const SOURCE_PORT_BITS: u32 = 13;

/// What the gateway does to the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// From a pod, out plainly.
    L3,
    VxlanEncap,
    VxlanDecap,
    IpipEncap,
    IpipDecap,
    /// VXLAN encapsulation where every packet is the first of its connection.
    NewFlow,
}

impl Path {
    pub const ALL: [Self; 6] =
        [Self::L3, Self::VxlanEncap, Self::VxlanDecap, Self::IpipEncap, Self::IpipDecap, Self::NewFlow];

    /// As the command line says it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The port that its packets come in by.
    pub fn input(self) -> PortId {
        match self {
            Self::L3 | Self::VxlanEncap | Self::IpipEncap | Self::NewFlow => POD,
            Self::VxlanDecap | Self::IpipDecap => UPLINK,
        }
    }

    /// Network of the far ends of its flows, which decides the route.
    pub(crate) fn remotes(self) -> Ipv4Addr {
        match self {
            Self::L3 => Ipv4Addr::new(10, 69, 20, 0),
            Self::VxlanEncap | Self::VxlanDecap | Self::NewFlow => Ipv4Addr::new(10, 65, 20, 0),
            Self::IpipEncap | Self::IpipDecap => Ipv4Addr::new(10, 67, 20, 0),
        }
    }

    /// The key of flow `number`: 1,024 far ends, then 8,192 source ports, then as many destination ports as it takes.
    pub fn key(self, number: u32) -> FlowKey {
        let remote = self.remotes().to_bits() | number & ((1 << REMOTE_BITS) - 1);
        let sport = 1024 + (number >> REMOTE_BITS & ((1 << SOURCE_PORT_BITS) - 1)) as u16;
        let dport = 1024 + (number >> (REMOTE_BITS + SOURCE_PORT_BITS)) as u16;
        let (src, dst) = if self.input() == POD {
            (POD_ADDRESS.to_bits(), remote)
        } else {
            (remote, POD_ADDRESS.to_bits())
        };
        FlowKey { src, dst, sport, dport, protocol: protocol::UDP }
    }
}

/// A frame of a path whose inner addresses and ports are zero, with checksums that are right for that.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Offset of the inner IP header.
    l3: usize,
    ip_checksum: u16,
    udp_checksum: u16,
}

impl Template {
    /// `size` is that of the inner Ethernet frame (at least 64, FCS counted).
    pub fn new(path: Path, size: usize) -> Self {
        let payload = vec![0; size.max(64) - 4 - 42];
        let mut inner = Vec::new();
        PacketBuilder::ethernet2(MAC, MAC)
            .ipv4([0; 4], [0; 4], 64)
            .udp(0, 0)
            .write(&mut inner, &payload)
            .expect("a Vec takes all");
        let outer = PacketBuilder::ethernet2(MAC, MAC).ipv4(PEER_NODE.octets(), NODE.octets(), 64);
        let mut bytes = Vec::new();
        match path {
            Path::VxlanDecap => {
                let mut payload = vec![8, 0, 0, 0];
                payload.extend_from_slice(&(VNI << 8).to_be_bytes());
                payload.extend_from_slice(&[VTEP, VTEP].concat());
                payload.extend_from_slice(&inner[12..]);
                outer.udp(50_000, VXLAN_PORT).write(&mut bytes, &payload).expect("a Vec takes all");
            }
            Path::IpipDecap => {
                outer.write(&mut bytes, IpNumber::IPV4, &inner[14..]).expect("a Vec takes all");
            }
            _ => bytes.extend_from_slice(&inner),
        }
        let l3 = bytes.len() - (inner.len() - 14);
        let word = |at| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (ip_checksum, udp_checksum) = (word(l3 + 10), word(l3 + 26));
        Self { bytes, l3, ip_checksum, udp_checksum }
    }

    /// Lays the packet of `key` out in the frame.
    pub fn fill(&self, umem: &Umem, frame: &mut Frame, key: &FlowKey) {
        assert!(umem.fill(frame, &self.bytes), "fits a chunk");
        let packet = &mut umem.bytes_mut(frame)[self.l3..];
        let addresses = |checksum| update_u32(update_u32(checksum, 0, key.src), 0, key.dst);
        let udp = update_u16(update_u16(addresses(self.udp_checksum), 0, key.sport), 0, key.dport);
        // 0 would mean that there is no checksum (RFC 768).
        let udp = if udp == 0 { u16::MAX } else { udp };
        packet[10..12].copy_from_slice(&addresses(self.ip_checksum).to_be_bytes());
        packet[12..16].copy_from_slice(&key.src.to_be_bytes());
        packet[16..20].copy_from_slice(&key.dst.to_be_bytes());
        packet[20..22].copy_from_slice(&key.sport.to_be_bytes());
        packet[22..24].copy_from_slice(&key.dport.to_be_bytes());
        packet[26..28].copy_from_slice(&udp.to_be_bytes());
    }
}

/// Numbers below `count` in an order that no prefetcher guesses, each once in a round: a congruential generator of
/// full period over the next power of two (Hull and Dobell) that skips what is too large.
#[derive(Clone, Debug)]
pub struct Visits {
    at: u32,
    count: u32,
}

impl Visits {
    /// `count` is from 1 to 2^31.
    pub fn new(count: u32) -> Self {
        Self { at: 0, count }
    }
}

impl Iterator for Visits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let mask = self.count.next_power_of_two() - 1;
        loop {
            self.at = self.at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & mask;
            if self.at < self.count {
                return Some(self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use margay_encap::parse::parse;
    use margay_fastpath::Layout;

    use super::*;

    #[test]
    fn visits_come_to_each_number_once_a_round() {
        for count in [1, 2, 3, 64, 1000, 1 << 14] {
            let round: HashSet<u32> = Visits::new(count).take(count as usize).collect();
            assert_eq!(round.len(), count as usize);
            assert!(round.iter().all(|&number| number < count));
        }
    }

    #[test]
    fn numbers_are_flows_of_their_own() {
        let numbers = [0, 1, 1023, 1024, 8_388_607, 8_388_608, 20_000_000, u32::MAX >> 4];
        for path in Path::ALL {
            let keys: HashSet<FlowKey> = numbers.iter().map(|&number| path.key(number)).collect();
            assert_eq!(keys.len(), numbers.len(), "{path:?}");
        }
    }

    #[test]
    fn patched_packets_have_their_key_and_right_checksums() {
        let (umem, mut frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 1 });
        let mut frame = frames.pop().unwrap();
        for (number, size) in [(0, 64), (77_777, 65), (12_345_678, 1450)] {
            for path in [Path::L3, Path::NewFlow] {
                let key = path.key(number);
                Template::new(path, size).fill(&umem, &mut frame, &key);
                let bytes = umem.bytes(&frame);
                assert_eq!(bytes.len(), size - 4);
                let headers = parse(bytes).expect("parses, checksum and all");
                let seen = FlowKey {
                    src: headers.src(),
                    dst: headers.dst(),
                    sport: headers.sport(),
                    dport: headers.dport(),
                    protocol: headers.protocol(),
                };
                assert_eq!(seen, key);
                let udp = etherparse::UdpHeader::from_slice(&bytes[34..]).unwrap().0;
                let (src, dst) = (key.src.to_be_bytes(), key.dst.to_be_bytes());
                assert_eq!(udp.calc_checksum_ipv4_raw(src, dst, &bytes[42..]).unwrap(), udp.checksum);
            }
        }
    }
}
