//! What is on the wire, byte for byte: packets by BPF are those of the templates.

use std::time::Duration;

use margay_perf::lab::case::Job;
use margay_perf::lab::dataplane::Cores;
use margay_perf::lab::load::stamp::Stamp;
use margay_perf::lab::load::{Counter, Load, Place, Sink, Stream, Tools};
use margay_perf::lab::trial::{Offered, Rate};
use margay_perf::lab::world::{MOST_FLOWS, Side};

use crate::wire::{self, Tap};

const PACKETS: u64 = 400;
const INTERVAL: u64 = 50_000;

#[test]
fn packets_by_bpf_are_those_of_the_templates() {
    let imix = vec![(64, 7), (594, 4), (1518, 1)];
    let streams = [
        Stream { sizes: imix.clone(), flows: 5, ..Stream::of_size(Job::L3, 64, 1) },
        Stream { sizes: imix, flows: 3000, ..Stream::of_size(Job::VxlanDecap, 64, 1) },
        Stream { ipip: true, ..Stream::of_size(Job::VxlanDecap, 65, 3000) },
        Stream { life: 3, first: MOST_FLOWS - 50, ..Stream::of_size(Job::VxlanBoth, 3378 - 50, 70) },
    ];
    for stream in streams {
        let site = wire::site(stream.job, &[]);
        let sink = site.end(Side::Sink);
        let tap = Tap::open(&sink.netns, sink.device);
        let mut load = Load::open(&site, &stream, Cores::allowed().unwrap(), Tools::default()).unwrap();
        let rate = Rate::Pps(1e9 / INTERVAL as f64);
        load.trial(&Offered { rate, time: Duration::from_secs(20), packets: Some(PACKETS) }).unwrap();
        let (pattern, templates) = (stream.pattern().unwrap(), stream.templates().unwrap());
        let frames: Vec<_> =
            tap.received().into_iter().filter_map(|frame| Some((Stamp::find(&frame)?, frame))).collect();
        assert!(frames.len() as u64 >= PACKETS * 9 / 10, "{} frames for {stream:?}", frames.len());
        let (first, _) = frames[0];
        for (stamp, frame) in frames {
            let number = u64::from(stamp.number);
            let template = &templates[usize::from(pattern[number as usize % pattern.len()])];
            let mut expected = template.bytes().to_vec();
            template.write(&mut expected, stream.flow(number), stamp);
            assert_eq!(frame, expected, "packet {number} of {stream:?}");
            let since = stamp.departure - first.departure;
            let least = u64::from(stamp.number - first.number) * INTERVAL;
            // The first one may have been late by as much as there is patience.
            assert!(since + 500_000 + 10_000 >= least, "packet {number} left {since} ns after the first");
        }
    }
}

#[test]
fn the_sink_tells_packets_apart_by_number_and_trial() {
    const WINDOW: u32 = 1 << 24;
    let site = wire::site(Job::L3, &[]);
    let mut counter = Counter::open(&site, Place::Tc).unwrap();
    let stream = Stream::of_size(Job::L3, 64, 1);
    let template = &stream.templates().unwrap()[0];
    let tap = Tap::open(&site.gateway, &site.end(Side::Sink).gateway_device);
    counter.expect(9).unwrap();
    // Once around the window, a number is another one; and again.
    let rounds =
        [5, 6, 4, WINDOW + 5, WINDOW + 5, WINDOW + 6, 3 * WINDOW + 5, 3 * WINDOW + 4, 3 * WINDOW + 5];
    for (trial, number) in rounds.map(|number| (9, number)).into_iter().chain([(8, 7), (10, 8)]) {
        let mut frame = template.bytes().to_vec();
        template.write(&mut frame, 0, Stamp { trial, number, departure: 1 });
        tap.send(&frame);
    }
    // Not of the lab, and too short for a stamp: the kernel's.
    tap.send(&[0xff; 60]);
    tap.send(&template.bytes()[..50]);
    let arrivals = counter.arrivals().unwrap();
    assert_eq!(
        (arrivals.received, arrivals.duplicates, arrivals.reordered),
        (7, 2, 2),
        "of packets {rounds:?}: 4 and 3 * {WINDOW} + 4 were overtaken"
    );
    // Departures long ago count as the longest latency.
    assert!(arrivals.latency.min() > 60_000_000_000, "{}", arrivals.latency.min());
}
