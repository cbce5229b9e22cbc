//! The verdict of first packets, each of another flow.

use std::hint::black_box;
use std::net::IpAddr;

use hdrhistogram::Histogram;
use margay_flowtable::{Policies, Tuple, classify};

use super::Sink;
use crate::clock::Clock;
use crate::world::Size;

/// Packets that are timed together.
const BATCH: usize = 64;
const BATCHES: usize = 4096;

/// From anybody to anybody.
pub(super) fn spread(
    policies: &Policies,
    size: Size,
    case: &'static str,
    report: &mut Sink<'_>,
) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let ports = [80, 443, 8080, 53];
    measure(policies, case, report, || {
        let [src, dst] = [0; 2].map(|_: u8| IpAddr::V4(size.pod_address(random.u32(..size.pods))));
        tcp(src, dst, ports[random.usize(..ports.len())])
    })
}

/// From anybody to the pods that all policies select.
pub(super) fn to_one(
    policies: &Policies,
    size: Size,
    case: &'static str,
    report: &mut Sink<'_>,
) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let dst = IpAddr::V4(size.pod_address(0));
    measure(policies, case, report, || {
        let src = IpAddr::V4(size.pod_address(random.u32(1..size.pods)));
        tcp(src, dst, 1024 + random.u16(..20_000))
    })
}

fn tcp(src: IpAddr, dst: IpAddr, dport: u16) -> Tuple {
    Tuple { src, dst, protocol: 6, sport: 40_000, dport, icmp: None }
}

fn measure(
    policies: &Policies,
    case: &'static str,
    report: &mut Sink<'_>,
    mut tuple: impl FnMut() -> Tuple,
) -> anyhow::Result<()> {
    let clock = Clock::new()?;
    let mut samples = Histogram::<u64>::new(3)?;
    for _ in 0..BATCHES {
        let tuples: [Tuple; BATCH] = std::array::from_fn(|_| tuple());
        let start = clock.cycles();
        for tuple in &tuples {
            black_box(classify(policies, tuple, &mut |_, _| {}));
        }
        samples.record(clock.cycles() - start)?;
    }
    // Cycles of a batch in one nanosecond of a packet.
    report(case, &samples, BATCH as f64 / clock.nanoseconds(1.0));
    Ok(())
}
