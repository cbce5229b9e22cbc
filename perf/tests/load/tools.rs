//! Every sender with every receiver, and IP-in-IP through Margay itself.

use std::time::Duration;

use margay_perf::lab::case::{Case, Dataplane, Job};
use margay_perf::lab::dataplane::{self, Cores};
use margay_perf::lab::load::{Load, Receiver, Sender, Stream, Tools};
use margay_perf::lab::site::{self, Site};
use margay_perf::lab::trial::{Offered, Rate};

const PACKETS: u64 = 1000;
const FLOWS: u32 = 100;
/// A machine that others use may lose packets of its own.
const ATTEMPTS: usize = 5;

/// Sends through the case's gateway until a trial loses nothing.
fn all_arrive(dataplane: Dataplane, job: Job, tools: Tools, ipip: bool) {
    let case = Case { job, dataplane, size: 64, flows: FLOWS, policies: 1 };
    let cores = Cores::allowed().unwrap();
    let mut site = Site::new(job, site::mtu(case.size)).unwrap();
    site.ipip = ipip;
    let gateway = dataplane::start(&site, &case, cores).unwrap();
    let stream = Stream { ipip, ..Stream::of_size(job, case.size, FLOWS) };
    let mut load = Load::open(&site, &stream, cores, tools).unwrap();
    let offered = Offered { rate: Rate::Pps(5_000.0), time: Duration::from_secs(20), packets: Some(PACKETS) };
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        let answered = load.prime().unwrap();
        let measured = load.trial(&offered).unwrap();
        if (answered, measured.received) == (FLOWS, PACKETS) {
            return;
        }
        tried.push((answered, measured.received));
    }
    let drops = gateway.drops().unwrap();
    panic!("{case:?}, {tools:?}: answered and received in each attempt: {tried:?}; drops: {drops:?}");
}

#[test]
fn any_sender_goes_with_any_receiver_that_it_can_look_after() {
    let sockets = [Receiver::Tc, Receiver::Xdp, Receiver::AfXdp].map(|sink| (Sender::AfXdp, sink));
    for (sender, receiver) in sockets.into_iter().chain([(Sender::Live, Receiver::Xdp)]) {
        all_arrive(Dataplane::Bare, Job::VxlanDecap, Tools::new(Some(sender), receiver).unwrap(), false);
    }
}

#[test]
fn margay_takes_packets_into_and_out_of_ip_in_ip() {
    for job in [Job::VxlanEncap, Job::VxlanDecap, Job::VxlanBoth] {
        all_arrive(Dataplane::Margay, job, Tools::default(), true);
    }
}

#[test]
fn a_gateway_without_ip_in_ip_says_so() {
    let mut site = Site::new(Job::VxlanEncap, site::mtu(64)).unwrap();
    site.ipip = true;
    let case =
        Case { job: Job::VxlanEncap, dataplane: Dataplane::Kernel, size: 64, flows: FLOWS, policies: 1 };
    let refused = dataplane::start(&site, &case, Cores::allowed().unwrap()).err().unwrap();
    assert!(refused.to_string().contains("IP-in-IP"), "{refused}");
}
