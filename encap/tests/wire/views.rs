//! Each header's view reads the fields where etherparse does.

use etherparse::{Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice};
use margay_encap::ethernet::Ethernet;
use margay_encap::icmp::{self, Icmp};
use margay_encap::ipv4::Ipv4;
use margay_encap::ipv6::Ipv6;
use margay_encap::sctp::Sctp;
use margay_encap::tcp::Tcp;
use margay_encap::udp::Udp;
use margay_encap::{protocol, vxlan::Vxlan};
use proptest::prelude::*;

proptest! {
    #[test]
    fn ethernet(bytes in any::<[u8; 14]>()) {
        let (ours, theirs) = (Ethernet::new(&bytes).unwrap(), Ethernet2HeaderSlice::from_slice(&bytes).unwrap());
        prop_assert_eq!((ours.dst(), ours.src()), (theirs.destination(), theirs.source()));
        prop_assert_eq!(ours.ethertype(), theirs.ether_type().0);
        prop_assert_eq!(ours.is_group(), bytes[0] % 2 == 1);
    }

    #[test]
    fn ipv4(mut bytes in any::<[u8; 20]>()) {
        bytes[0] = 0x45;
        let (ours, theirs) = (Ipv4::new(&bytes).unwrap(), Ipv4HeaderSlice::from_slice(&bytes).unwrap());
        prop_assert_eq!((ours.version(), ours.header_len()), (theirs.version(), 20));
        prop_assert_eq!(ours.tos(), theirs.dcp().value() << 2 | theirs.ecn().value());
        prop_assert_eq!(ours.total_len(), theirs.total_len());
        prop_assert_eq!(ours.ident(), theirs.identification());
        prop_assert_eq!(ours.dont_fragment(), theirs.dont_fragment());
        prop_assert_eq!(ours.is_fragment(), theirs.is_fragmenting_payload());
        prop_assert_eq!(ours.fragment_offset(), theirs.fragments_offset().value());
        prop_assert_eq!((ours.ttl(), ours.protocol()), (theirs.ttl(), theirs.protocol().0));
        prop_assert_eq!(ours.checksum(), theirs.header_checksum());
        prop_assert_eq!(ours.src().to_be_bytes(), theirs.source());
        prop_assert_eq!(ours.dst().to_be_bytes(), theirs.destination());
    }

    #[test]
    fn ipv6(mut bytes in any::<[u8; 40]>()) {
        bytes[0] = 0x60;
        let (ours, theirs) = (Ipv6::new(&bytes).unwrap(), Ipv6HeaderSlice::from_slice(&bytes).unwrap());
        prop_assert_eq!((ours.version(), ours.payload_len()), (theirs.version(), theirs.payload_length()));
        prop_assert_eq!((ours.next_header(), ours.hop_limit()), (theirs.next_header().0, theirs.hop_limit()));
        prop_assert_eq!((ours.src(), ours.dst()), (theirs.source_addr().into(), theirs.destination_addr().into()));
    }

    #[test]
    fn tcp(mut bytes in any::<[u8; 20]>()) {
        bytes[12] = 0x50;
        let (ours, theirs) = (Tcp::new(&bytes).unwrap(), TcpHeaderSlice::from_slice(&bytes).unwrap());
        prop_assert_eq!((ours.src_port(), ours.dst_port()), (theirs.source_port(), theirs.destination_port()));
        prop_assert_eq!((ours.sequence(), ours.acknowledgment()), (theirs.sequence_number(), theirs.acknowledgment_number()));
        prop_assert_eq!((ours.header_len(), ours.window()), (20, theirs.window_size()));
        prop_assert_eq!(ours.checksum(), theirs.checksum());
    }

    #[test]
    fn udp(bytes in any::<[u8; 8]>()) {
        let (ours, theirs) = (Udp::new(&bytes).unwrap(), UdpHeaderSlice::from_slice(&bytes).unwrap());
        prop_assert_eq!((ours.src_port(), ours.dst_port()), (theirs.source_port(), theirs.destination_port()));
        prop_assert_eq!((ours.datagram_len(), ours.checksum()), (theirs.length(), theirs.checksum()));
    }
}

/// Protocols that etherparse does not know: bytes as their RFCs draw them.
#[test]
fn drawn_by_hand() {
    let icmp = Icmp::new(&[13, 1, 0xab, 0xcd, 0x12, 0x34, 0, 7]).unwrap();
    assert_eq!((icmp.kind(), icmp.code(), icmp.checksum(), icmp.identifier()), (13, 1, 0xabcd, 0x1234));
    let sctp = Sctp::new(&[0x0b, 0x59, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!((sctp.src_port(), sctp.dst_port()), (2905, 80));
    assert_eq!((sctp.verification_tag(), sctp.checksum()), (0x0102_0304, [5, 6, 7, 8]));
    let vxlan = Vxlan::new(&[8, 0, 0, 0, 0, 0x10, 0x01, 0]).unwrap();
    assert_eq!((vxlan.has_vni(), vxlan.vni()), (true, 4097));
}

#[test]
fn a_view_needs_its_whole_header() {
    assert!(Ethernet::new(&[0; 13]).is_none());
    assert!(Ipv4::new(&[0; 19]).is_none());
    assert!(Ipv6::new(&[0; 39]).is_none());
    assert!(Tcp::new(&[0; 19]).is_none());
    assert!(Udp::new(&[0; 7]).is_none());
    assert!(Icmp::new(&[0; 7]).is_none());
    assert!(Sctp::new(&[0; 11]).is_none());
    assert!(Vxlan::new(&[0; 7]).is_none());
}

/// No ICMP type is both an error and a query; protocols with ports are those of the IANA registry that have them.
#[test]
fn kinds_do_not_overlap() {
    assert!((0..=255).all(|kind| !(icmp::is_error(kind) && icmp::has_identifier(kind))));
    let with_ports: Vec<u8> = (0..=255).filter(|number| protocol::has_ports(*number)).collect();
    assert_eq!(with_ports, [6, 17, 33, 132, 136]);
}
