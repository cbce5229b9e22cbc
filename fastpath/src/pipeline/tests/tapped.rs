//! What taps are told: packets as they came and left, why they were dropped, and nothing that changes what becomes of them.

use std::time::Duration;

use margay_flowtable::{Interface, Key};
use proptest::prelude::*;

use super::conservation::frame;
use super::split::long;
use super::*;
use crate::tap::tests::compile;
use crate::tap::{End, Fate, Leaving, Spec, TAPS, TapId, TapReader, What, tap};

const NOW: Duration = Duration::from_micros(1_700_000_000_123_456);

/// What is told of one packet.
#[derive(Debug, Default)]
struct Told {
    came: Option<(PortId, Vec<u8>)>,
    left: Vec<(PortId, Leaving, Vec<u8>)>,
    end: Option<End>,
}

impl Told {
    fn end(&self) -> &End {
        self.end.as_ref().expect("it has ended")
    }
}

fn spec(filter: &str) -> Spec {
    let filter = (!filter.is_empty()).then(|| compile(filter).0);
    Spec { filter, snap: 65_549, per_second: u32::MAX, waiting: 1 << 16 }
}

impl Gateway {
    fn tapped(filter: &str) -> (Self, TapReader) {
        let mut gateway = Self::new();
        let reader = gateway.add_tap(1, spec(filter));
        (gateway, reader)
    }

    fn add_tap(&mut self, id: u64, spec: Spec) -> TapReader {
        let (tap, reader) = tap(TapId(id), spec);
        self.pipeline.tap(Box::new(tap)).expect("room for a tap");
        self.pipeline.set_tap_time(NOW);
        reader
    }
}

/// What has been told of packets, in order of their numbers, with those that have not ended.
fn told(reader: &mut TapReader) -> Vec<Told> {
    let (mut packets, mut bytes) = (std::collections::BTreeMap::<u64, Told>::new(), Vec::new());
    while let Some(note) = reader.next(&mut bytes) {
        let packet = packets.entry(note.packet).or_default();
        assert!(packet.end.is_none(), "the end is told last");
        match note.what {
            What::Came(image) => {
                assert_eq!((image.at, image.len as usize), (NOW, bytes.len()));
                assert!(packet.came.replace((image.port, bytes.clone())).is_none());
            }
            What::Leaves { image, leaving, is_sent: true } => {
                packet.left.push((image.port, leaving, bytes.clone()));
            }
            What::Leaves { .. } => {}
            What::Ended(end) => packet.end = Some(end),
        }
    }
    packets.into_values().collect()
}

#[test]
fn an_allowed_packet_is_told_as_it_came_and_left() {
    let (mut gateway, mut reader) = Gateway::tapped("tcp port 80");
    let packet = vxlan_from(REMOTE_NODE_IP, 4096, &tcp(PEER_IP, WEB_IP, (1000, 80), SYN));
    let sent = gateway.run(UPLINK, &packet).only();
    gateway.run(OPEN, &udp(OPEN_IP, PEER_IP, (1000, 53), b"query")).only();
    let told = told(&mut reader);
    assert_eq!(told.len(), 1, "the query does not match");
    assert_eq!(told[0].came, Some((UPLINK, packet)));
    assert_eq!(told[0].left, [(WEB, Leaving::Whole, sent.1)]);
    let End { fate, steps } = told[0].end();
    assert_eq!(*fate, Fate::Forwarded);
    assert_eq!((steps.tunnel, steps.output, steps.denial), (Some(Interface::Vxlan), Some(WEB), None));
    let key = steps.key.expect("it was parsed");
    assert_eq!((key.src(), key.dst(), key.ports()), (ip(PEER_IP).into(), ip(WEB_IP).into(), (1000, 80)));
    assert!(steps.found.is_none());
    assert!(steps.entry.is_some_and(|entry| entry.is_current), "{:?}", steps.entry);
}

#[test]
fn a_denied_packet_names_what_denies_it_at_once_and_from_its_entry() {
    let (mut gateway, mut reader) = Gateway::tapped(&format!("host {}", ip(OTHER_IP)));
    let denied = ipip_from(REMOTE_NODE_IP, &tcp(OTHER_IP, WEB_IP, (1000, 80), SYN));
    assert_eq!(gateway.run(UPLINK, &denied).dropped, Some(DropReason::PolicyDeny));
    let first = told(&mut reader);
    assert_eq!((first.len(), first[0].left.len()), (1, 0));
    let End { fate, steps } = first[0].end();
    assert_eq!(*fate, Fate::Dropped(DropReason::PolicyDeny));
    let denial = steps.denial.expect("policy was asked");
    assert_eq!((denial.direction, denial.is_of_host), (PolicyType::Ingress, false));
    assert_eq!((steps.tunnel, steps.entry), (Some(Interface::Ipip), None));
    // One that is not judged has no denial of another's.
    let spoofed = udp(OTHER_IP, PEER_IP, (1, 2), b"");
    assert_eq!(gateway.run(WEB, &spoofed).dropped, Some(DropReason::SourceSpoofed));
    let told = told(&mut reader);
    assert_eq!(told[0].end().fate, Fate::Dropped(DropReason::SourceSpoofed));
    assert_eq!((told[0].end().steps.denial, told[0].end().steps.key), (None, None));
}

#[test]
fn a_packet_may_match_by_the_frame_in_which_it_leaves() {
    let (mut gateway, mut reader) = Gateway::tapped("udp port 4789");
    let (port, sent) = gateway.run(OPEN, &udp(OPEN_IP, PEER_IP, (1000, 53), b"query")).only();
    gateway.run(OPEN, &udp(OPEN_IP, IPIP_IP, (1000, 53), b"query")).only();
    let told = told(&mut reader);
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0].came, told[0].end().fate), (&None, Fate::Forwarded));
    assert_eq!(told[0].left, [(port, Leaving::Whole, sent)]);
}

#[test]
fn pieces_and_answers_are_of_their_packet() {
    let (mut gateway, mut reader) = Gateway::tapped(&format!("host {}", ip(OPEN_IP)));
    let sent = gateway.run_burst(OPEN, &[long(PEER_IP, 2000)]);
    assert_eq!(sent.len(), 2);
    let pieces = told(&mut reader);
    let left: Vec<_> = sent.into_iter().map(|(port, bytes)| (port, Leaving::Piece, bytes)).collect();
    assert_eq!((pieces.len(), pieces[0].end().fate), (1, Fate::Split));
    assert_eq!(pieces[0].left, left);
    let mut expiring = udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    set_ip_byte(&mut expiring, 8, 1);
    let sent = gateway.run(OPEN, &expiring).sent;
    assert_eq!(sent.len(), 1, "the error");
    let told = told(&mut reader);
    assert_eq!(told[0].end().fate, Fate::Dropped(DropReason::TtlExceeded));
    assert_eq!(told[0].left, [(OPEN, Leaving::Answer, sent[0].1.clone())]);
}

#[test]
fn a_fragment_ends_when_it_has_waited_and_not_by_another_tap() {
    let (mut gateway, mut reader) = Gateway::tapped("ip");
    let parts = pieces(&udp(OPEN_IP, PEER_IP, (1000, 53), &[7; 2000]), 1, 1000);
    gateway.run_burst(OPEN, &parts[1..2]);
    let waiting = told(&mut reader);
    assert_eq!((waiting.len(), waiting[0].end.is_none()), (1, true));
    assert_eq!(gateway.run_burst(OPEN, &parts[..1]).len(), 2);
    let both = told(&mut reader);
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|told| told.end().fate == Fate::Forwarded && told.left.len() == 1), "{both:?}");
    // Who comes to the place of a tap that has gone hears nothing of its packets.
    let late = pieces(&udp(OPEN_IP, PEER_IP, (1000, 53), &[7; 2000]), 2, 1000);
    gateway.run_burst(OPEN, &late[1..2]);
    let mut other = gateway.add_tap(2, spec("tcp"));
    assert!(gateway.pipeline.untap(TapId(1)).is_some());
    let mut third = gateway.add_tap(3, spec("tcp"));
    assert_eq!(gateway.run_burst(OPEN, &late[..1]).len(), 2);
    assert_eq!((told(&mut other).len(), told(&mut third).len()), (0, 0));
    assert_eq!(told(&mut reader).len(), 1);
    assert!(reader.has_ended() || gateway.pipeline.untap(TapId(1)).is_none());
}

#[test]
fn so_many_taps_and_no_more_each_with_its_own() {
    let (mut gateway, mut first) = Gateway::tapped("");
    let mut readers: Vec<_> = (2..=TAPS as u64)
        .map(|id| gateway.add_tap(id, spec(if id % 2 == 0 { "tcp" } else { "udp" })))
        .collect();
    let (one_more, _) = tap(TapId(99), spec(""));
    assert!(gateway.pipeline.tap(Box::new(one_more)).is_err());
    gateway.run(OPEN, &udp(OPEN_IP, PEER_IP, (1000, 53), b"query")).only();
    assert_eq!(told(&mut first).len(), 1);
    let heard: Vec<_> = readers.iter_mut().map(|reader| told(reader).len()).collect();
    assert_eq!(heard, (2..=TAPS).map(|id| id % 2).collect::<Vec<_>>());
    // Its bit is another's afterwards.
    assert!(gateway.pipeline.untap(TapId(1)).is_some());
    gateway.run(OPEN, &udp(OPEN_IP, PEER_IP, (1000, 53), b"query")).only();
    let heard: Vec<_> = readers.iter_mut().map(|reader| told(reader).len()).collect();
    assert_eq!((told(&mut first).len(), heard), (0, (2..=TAPS).map(|id| id % 2).collect()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With taps, the same becomes of every frame as without; what is told agrees with what was counted.
    #[test]
    fn taps_change_nothing(
        bursts in prop::collection::vec(prop::collection::vec(frame(), 0..40), 0..4),
        waiting in prop_oneof![Just(1usize << 19), 0..20_000usize],
    ) {
        let mut plain = Gateway::new();
        let mut tapped = Gateway::new();
        let mut all = tapped.add_tap(1, Spec { waiting: 1 << 19, ..spec("") });
        let mut some = tapped.add_tap(2, Spec { waiting, snap: 60, ..spec("udp or ip[9] = 4") });
        for burst in bursts {
            (plain.now, tapped.now) = (plain.now + 100, tapped.now + 100);
            for input in [UPLINK, WEB, OPEN] {
                let burst: Vec<_> =
                    burst.iter().filter(|(port, _)| *port == input).map(|(_, packet)| packet.clone()).collect();
                prop_assert_eq!(plain.run_burst(input, &burst), tapped.run_burst(input, &burst));
            }
        }
        let (packets, mut ended) = (told(&mut all), tapped.pipeline.waiting() as u64);
        prop_assert_eq!(all.counts().missed.get() + all.counts().missed_leaving.get(), 0);
        for port in [UPLINK, WEB, OPEN] {
            prop_assert_eq!(plain.drops(port), tapped.drops(port));
            let [one, other] = [&plain, &tapped].map(|gateway| gateway.counters.port(port));
            prop_assert_eq!(one.forwarded.get(), other.forwarded.get());
            prop_assert_eq!(one.tx_bytes.get(), other.tx_bytes.get());
            let of_port = |told: &&Told| told.came.as_ref().is_some_and(|(came, _)| *came == port);
            let of_port = || packets.iter().filter(of_port).filter(|told| told.end.is_some());
            ended += of_port().count() as u64;
            for (reason, counted) in DropReason::ALL.iter().zip(tapped.drops(port)) {
                let is_it = |told: &&Told| told.end().fate == Fate::Dropped(*reason);
                prop_assert_eq!(of_port().filter(is_it).count() as u64, counted, "{:?}", reason);
            }
        }
        prop_assert_eq!(ended, packets.len() as u64);
        let mut bytes = Vec::new();
        let (mut begun, mut ended) = (0, 0);
        while let Some(note) = some.next(&mut bytes) {
            prop_assert!(bytes.len() <= 60);
            match note.what {
                What::Came(_) => begun += 1,
                What::Leaves { .. } => {}
                What::Ended(_) => ended += 1,
            }
        }
        let (taken, waiting) = (some.counts().matched.get() - some.counts().missed.get(), tapped.pipeline.waiting());
        prop_assert!(begun <= taken && ended <= taken && ended + waiting as u64 >= taken, "{begun}, {ended}, {taken}");
    }
}
