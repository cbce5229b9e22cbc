//! Trials: what is sent arrives and is counted, and loss, duplicates and reordering are seen.

use std::time::Duration;

use margay_perf::lab::case::Job;
use margay_perf::lab::dataplane::Cores;
use margay_perf::lab::load::{Counter, Live, Load, Place, Stream, Tools};
use margay_perf::lab::site::Site;
use margay_perf::lab::trial::{Measured, Offered, Rate};
use margay_perf::lab::world::Side;
use margay_testbed::ip::{self, Batch};

use crate::wire;

const PACKETS: u64 = 20_000;
/// One in so many packets is what a rule is about.
const EACH: u64 = 100;
/// A machine that others use may lose packets of its own.
const ATTEMPTS: usize = 5;

fn offered(rate: Rate) -> Offered {
    Offered { rate, time: Duration::from_secs(20), packets: Some(PACKETS) }
}

fn load(site: &Site, stream: &Stream) -> Load {
    Load::open(site, stream, Cores::allowed().unwrap(), Tools::default()).unwrap()
}

/// The first trial that is as it should be.
fn until(load: &mut Load, rate: Rate, is_right: impl Fn(&Measured) -> bool) -> Measured {
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        let measured = load.trial(&offered(rate)).unwrap();
        let Measured { sent, received, duplicates, reordered, .. } = measured;
        assert_eq!(sent, PACKETS, "packets sent");
        assert_eq!(measured.latency.len(), received + duplicates, "each arrival has a latency");
        if is_right(&measured) {
            return measured;
        }
        tried.push((received, duplicates, reordered));
    }
    panic!("received, duplicates, reordered in each attempt: {tried:?}");
}

fn is_clean(measured: &Measured) -> bool {
    (measured.received, measured.duplicates, measured.reordered) == (PACKETS, 0, 0)
}

#[test]
fn all_that_is_sent_arrives_once_and_in_order() {
    for (job, ipip) in [(Job::L3, false), (Job::VxlanDecap, false), (Job::VxlanDecap, true)] {
        let site = wire::site(job, &[]);
        let sizes = vec![(64, 7), (594, 4), (1518, 1)];
        let mut load = load(&site, &Stream { sizes, ipip, ..Stream::of_size(job, 64, 1000) });
        assert_eq!(load.prime().unwrap(), 1000, "{job:?}: flows that were answered");
        until(&mut load, Rate::Full, is_clean);
        let measured = until(&mut load, Rate::Pps(100_000.0), is_clean);
        // So many packets have one interval less between them, and the clock is read within one.
        let least = Duration::from_micros(10) * (PACKETS as u32 - 2);
        assert!(measured.time >= least, "no faster than asked: {:?}", measured.time);
    }
}

#[test]
fn a_sink_in_the_driver_counts_the_same() {
    let site = wire::site(Job::VxlanDecap, &[]);
    let (stream, cores) = (Stream::of_size(Job::VxlanDecap, 64, 1000), Cores::allowed().unwrap());
    let source = Live::open(site.end(Side::Source), &stream, cores.generator).unwrap();
    let sink = Counter::open(&site, Place::Xdp).unwrap();
    let mut load = Load::new(&site, &stream, cores, Box::new(source), Box::new(sink)).unwrap();
    until(&mut load, Rate::Pps(50_000.0), is_clean);
}

#[test]
fn lost_packets_are_missed() {
    let site = wire::site(Job::L3, &[&format!("numgen inc mod {EACH} 0 drop")]);
    let mut load = load(&site, &Stream::of_size(Job::L3, 64, 7));
    let lost = PACKETS / EACH;
    let measured = until(&mut load, Rate::Pps(100_000.0), |measured| measured.received == PACKETS - lost);
    assert_eq!((measured.duplicates, measured.reordered), (0, 0));
    assert!((measured.loss() - 1.0 / EACH as f64).abs() < 1e-9);
}

#[test]
fn duplicates_are_told_from_packets() {
    let site = wire::site(Job::L3, &[&format!("numgen inc mod {EACH} 0 dup to \"SINK\"")]);
    let mut load = load(&site, &Stream::of_size(Job::L3, 64, 7));
    let twice = PACKETS / EACH;
    until(&mut load, Rate::Pps(100_000.0), |measured| {
        (measured.received, measured.duplicates, measured.reordered) == (PACKETS, twice, 0)
    });
}

#[test]
fn packets_that_are_overtaken_count_as_reordered() {
    let site = wire::site(Job::L3, &[]);
    Batch::new()
        .extend(["link add detour type veth peer name rejoin", "link set detour up", "link set rejoin up"])
        .run(Some(&site.gateway))
        .unwrap();
    let sink = &site.end(Side::Sink).gateway_device;
    wire::nft(
        &site,
        &format!(
            "table netdev detour {{
                chain there {{
                    type filter hook ingress device \"{}\" priority -1
                    numgen inc mod {EACH} 0 fwd to \"detour\"
                }}
                chain back {{
                    type filter hook ingress device \"rejoin\" priority 0
                    fwd to \"{sink}\"
                }}
            }}",
            site.end(Side::Source).gateway_device
        ),
    );
    let mut load = load(&site, &Stream::of_size(Job::L3, 64, 7));
    // Those of a batch that come after a detoured one overtake it, unless it is the last.
    let measured = until(&mut load, Rate::Full, |measured| {
        (measured.received, measured.duplicates) == (PACKETS, 0) && measured.reordered >= PACKETS / EACH / 2
    });
    assert!(measured.reordered <= PACKETS / EACH, "{} overtaken", measured.reordered);
}

#[test]
fn a_gateway_that_returns_nothing_cannot_be_primed() {
    let site = wire::site(Job::L3, &["drop"]);
    let mut load = load(&site, &Stream::of_size(Job::L3, 64, 7));
    let error = load.prime().unwrap_err().to_string();
    assert!(error.contains("not one came back"), "{error}");
}

#[test]
fn what_a_load_has_attached_goes_with_it() {
    let site = wire::site(Job::L3, &[]);
    for _ in 0..2 {
        drop(load(&site, &Stream::of_size(Job::L3, 64, 7)));
    }
    for end in &site.sides {
        let mut show = ip::command("tc");
        show.args(["-n", &end.netns, "filter", "show", "dev", end.device, "ingress"]);
        let shown = show.output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&shown), "", "programs at {} in {}", end.device, end.netns);
    }
}
