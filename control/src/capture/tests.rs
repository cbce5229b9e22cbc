//! What a capture says, read back as others read it.

use std::time::Duration;

use margay_fastpath::DropReason;
use margay_fastpath::tap::{End, Fate, Image, Leaving, Steps};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{PolicyType, RuleId};
use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;
use crate::tap::{Known, PortName};

const AT: Duration = Duration::from_nanos(1_700_000_000_123_456_789);
const UPLINK: PortId = PortId(0);
const POD: PortId = PortId(7);

fn names() -> Names {
    let mut names = Names::new(Arc::new(FlowTable::new(16, [0; 4], Timeouts::default())));
    let port = |id, name: &str| (id, PortName { name: name.into(), mode: None });
    let known = Known {
        ports: [port(UPLINK, "uplink0"), port(POD, "shop/web")].into(),
        rules: vec![(RuleId(3), Some("NetworkPolicy shop/web ingress rule 2".into()))],
        ..Known::default()
    };
    names.learn(known, &mut []);
    names
}

fn seen(port: PortId, bytes: &[u8], len: u32) -> Seen {
    let image = Image { port, at: AT, len, copied: bytes.len() as u32 };
    Seen { image, bytes: bytes.to_vec() }
}

fn packet(number: u64, fate: Fate, steps: Steps, left: Vec<(Leaving, Seen)>) -> Packet {
    let came = Some(seen(UPLINK, &[number as u8; 60], 60));
    Packet { worker: 1, number, came, left, end: Some(End { fate, steps }), explained: None }
}

fn captured(packets: &[Packet], counted: &Counted) -> Vec<u8> {
    let (mut show, names) = (PcapNg::default(), names());
    let request =
        CaptureRequest { expression: "tcp port 80".to_owned(), snap: 99, ..CaptureRequest::default() };
    let mut bytes = show.begin(&request);
    for packet in packets {
        show.show(packet, &names, &mut bytes);
    }
    bytes.extend(show.end(packets.len() as u64, counted));
    bytes
}

fn both() -> [Packet; 2] {
    let passed = Steps { output: Some(POD), ..Steps::default() };
    let denial = margay_fastpath::pipeline::Denial {
        direction: PolicyType::Ingress,
        rule: RuleId(3),
        is_of_host: false,
    };
    let denied = Steps { denial: Some(denial), ..Steps::default() };
    [
        packet(5, Fate::Forwarded, passed, vec![(Leaving::Whole, seen(POD, &[9; 33], 1500))]),
        packet(6, Fate::Dropped(DropReason::PolicyDeny), denied, Vec::new()),
    ]
}

/// Direction, interface, length and comment of each frame.
fn frames(bytes: &[u8]) -> Vec<(u32, u32, u32, String)> {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(block) = block.unwrap() else { continue };
        assert_eq!(block.timestamp, AT);
        let (mut direction, mut comment) = (0, String::new());
        for option in &block.options {
            match option {
                EnhancedPacketOption::Flags(flags) => direction = *flags,
                EnhancedPacketOption::Comment(said) => comment = said.clone().into_owned(),
                _ => {}
            }
        }
        frames.push((direction, block.interface_id, block.original_len, comment));
    }
    frames
}

#[test]
fn a_frame_says_what_became_of_its_packet_and_by_whom() {
    let frames = frames(&captured(&both(), &Counted::default()));
    let denied = "packet 1/6: dropped: policy-deny by NetworkPolicy shop/web ingress rule 2, of the receiver (A policy denied it.)";
    let expected = [
        (1, 0, 60, "packet 1/5: forwarded by shop/web"),
        (2, 1, 1500, "packet 1/5: forwarded from uplink0"),
        (1, 0, 60, denied),
    ];
    assert_eq!(frames, expected.map(|(way, port, len, said)| (way, port, len, said.to_owned())));
}

#[test]
fn ports_are_interfaces_with_their_names_and_statistics() {
    let counted = Counted { matched: 12, missed: 3, missed_leaving: 1 };
    let bytes = captured(&both(), &counted);
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let (mut described, mut statistics) = (Vec::new(), 0);
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(block) => {
                assert_eq!((block.linktype, block.snaplen), (DataLink::ETHERNET, 99));
                let name = block.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.clone().into_owned()),
                    _ => None,
                });
                described.extend(name);
                assert!(block.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
            }
            Block::InterfaceStatistics(block) => {
                statistics += 1;
                assert!(block.options.contains(&InterfaceStatisticsOption::IsbOsDrop(4)));
            }
            _ => {}
        }
    }
    assert_eq!((described, statistics), (vec!["uplink0".to_owned(), "shop/web".to_owned()], 2));
}

#[test]
fn the_summary_is_the_same_in_whatever_pieces_a_capture_comes() {
    let bytes = captured(&both(), &Counted { matched: 12, missed: 3, missed_leaving: 1 });
    let expected = Summary { frames: 3, packets: Some(2), matched: Some(12), missed: Some(4) };
    for size in [1, 2, 3, 7, 64, 1000, bytes.len()] {
        let mut watch = Watch::default();
        bytes.chunks(size).for_each(|piece| watch.take(piece));
        assert_eq!(watch.summary(), expected, "pieces of {size}");
    }
    // Whatever the bytes.
    let mut watch = Watch::default();
    (0..=255u8).cycle().take(5000).for_each(|byte| watch.take(&[byte, 0, byte.wrapping_mul(7)]));
}
