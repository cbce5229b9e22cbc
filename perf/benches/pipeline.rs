//! The packet function by path, and pass by pass; 10,000 connections, 64-byte frames.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use margay_fastpath::frame::BURST;
use margay_fastpath::pipeline::{Probe, Stage};
use margay_perf::rig::{Case, Rig};
use margay_perf::traffic::Path;

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(BURST as u64));
    for path in Path::ALL {
        let mut rig = Rig::new(&Case { path, flows: 10_000, policies: 1, size: 64, accounting: true });
        let mut burst = || {
            rig.run_burst(|process| {
                let start = Instant::now();
                process();
                start.elapsed()
            })
        };
        group.bench_function(path.name(), |bencher| {
            bencher.iter_custom(|bursts| (0..bursts).map(|_| burst()).sum::<Duration>());
        });
    }
    group.finish();
}

/// How long one pass over a burst took.
struct Pass {
    stage: Stage,
    last: Instant,
    took: Duration,
}

impl Probe for Pass {
    fn mark(&mut self, stage: Stage) {
        let now = Instant::now();
        if stage == self.stage {
            self.took = now - self.last;
        }
        self.last = now;
    }
}

fn passes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("passes of vxlan-encap");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut rig =
        Rig::new(&Case { path: Path::VxlanEncap, flows: 10_000, policies: 1, size: 64, accounting: true });
    for stage in Stage::ALL {
        let mut burst =
            || rig.run_probed_burst(|| Pass { stage, last: Instant::now(), took: Duration::ZERO }).took;
        group.bench_function(format!("{stage:?}"), |bencher| {
            bencher.iter_custom(|bursts| (0..bursts).map(|_| burst()).sum::<Duration>());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = pipeline, passes
}
criterion_main!(benches);
