//! Source and sink on real devices, with the bare forwarder between them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::*;
use crate::lab::case::Job;
use crate::lab::dataplane::{Cores, Gateway, bare};
use crate::lab::load::{Load, Sink as _, Source as _, Stream, complete_trial};
use crate::lab::site::{self, Site};
use crate::lab::trial::{Offered, Rate};
use crate::lab::world::Side;

/// Few enough that none is lost on a machine that is busy otherwise: of jumbo frames a pod's ring holds a hundred.
const RATE: f64 = 2000.0;
const PACKETS: u64 = 500;

fn offered(rate: f64, packets: u64) -> Offered {
    Offered { rate: Rate::Pps(rate), time: Duration::from_secs(20), packets: Some(packets) }
}

/// One at a time: each has a thread that spins on the gateway's core.
static TURN: Mutex<()> = Mutex::new(());

struct World {
    gateway: Box<dyn Gateway>,
    source: Source,
    sink: Sink,
    cores: Cores,
    /// Last: it goes when nobody is in it.
    site: Site,
}

/// A site with the bare forwarder, a source of the stream and a sink; `None` where the test may not have them.
fn world(stream: &Stream) -> Option<World> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces take root");
        return None;
    }
    let cores = Cores::allowed().expect("two cores");
    let longest = stream.sizes.iter().map(|&(size, _)| size).max().expect("a size");
    let site = Site::new(stream.job, site::mtu(longest)).expect("a site");
    let gateway = bare::start(&site, cores).expect("a gateway");
    let sink = Sink::open(site.end(Side::Sink)).expect("a sink");
    let source = Source::open(site.end(Side::Source), stream, cores.generator).expect("a source");
    Some(World { gateway, source, sink, cores, site })
}

#[test]
fn every_packet_of_every_size_arrives_once_and_in_order() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let imix = vec![(64, 7), (594, 4), (1518, 1)];
    let plain = [vec![(64, 1)], vec![(1518, 1)], vec![(9000, 1)], vec![(64, 1), (9000, 1)], imix.clone()];
    let tunnels = [false, true].map(|ipip| Stream {
        sizes: imix.clone(),
        ipip,
        ..Stream::of_size(Job::VxlanBoth, 64, 5000)
    });
    let plain = plain.map(|sizes| Stream { sizes, ..Stream::of_size(Job::L3, 64, 100) });
    for stream in plain.into_iter().chain(tunnels) {
        let Some(World { gateway, source, sink, cores, site }) = world(&stream) else { return };
        let source = source.beside(&sink);
        let mut load = Load::new(&site, &stream, cores, Box::new(source), Box::new(sink)).expect("load");
        let measured = complete_trial(&mut load, &offered(RATE, PACKETS));
        assert_eq!(measured.sent, PACKETS, "{stream:?}");
        assert_eq!([measured.duplicates, measured.reordered], [0, 0], "{stream:?}");
        assert_eq!(measured.latency.len(), PACKETS);
        assert!(gateway.forwarded().expect("a count") >= PACKETS);
    }
}

#[test]
fn each_flow_is_answered() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (job, ipip) in [(Job::L3, false), (Job::VxlanDecap, false), (Job::VxlanDecap, true)] {
        let stream = Stream { ipip, ..Stream::of_size(job, 64, 500) };
        let Some(World { gateway: _gateway, source, sink, cores, site }) = world(&stream) else { return };
        let source = source.beside(&sink);
        let mut load = Load::new(&site, &stream, cores, Box::new(source), Box::new(sink)).expect("load");
        // A machine that is busy with others may lose some.
        let answered: Vec<_> = (0..5).map(|_| load.prime()).take_while(|it| !matches!(it, Ok(500))).collect();
        assert!(answered.len() < 5, "{job:?}: answered of 500 flows: {answered:?}");
    }
}

#[test]
fn what_is_lost_and_what_comes_twice_is_seen() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let stream = Stream::of_size(Job::L3, 64, 10);
    let Some(mut world) = world(&stream) else { return };
    let World { source, sink, .. } = &mut world;
    // Nobody looks after the sink meanwhile: what its ring has no place for is lost.
    let ring = 4096;
    sink.expect(1).expect("it expects");
    let sent = source.send(&offered(20_000.0, 3 * ring), 1).expect("sent");
    assert_eq!(sent.packets, 3 * ring);
    assert_eq!(sink.arrivals().expect("arrivals").received, ring);

    sink.expect(2).expect("it expects");
    for _ in 0..2 {
        source.send(&offered(RATE, 100), 2).expect("sent");
        while sink.arrived().expect("a count") % 100 != 0 {}
    }
    let arrivals = sink.arrivals().expect("arrivals");
    assert_eq!([arrivals.received, arrivals.duplicates, arrivals.reordered], [100, 100, 0]);

    // What is left of another trial does not count.
    sink.expect(3).expect("it expects");
    source.send(&offered(RATE, 100), 2).expect("sent");
    assert_eq!(sink.arrivals().expect("arrivals").received, 0);
}
