//! The packet function by path, 10,000 established flows, 64-byte frames.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use margay_fastpath::frame::BURST;
use margay_perf::rig::Rig;
use margay_perf::traffic::Path;

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(BURST as u64));
    for path in Path::ALL {
        let mut rig = Rig::new(path, 10_000, 64);
        group.bench_function(format!("{path:?}"), |bencher| {
            bencher.iter_custom(|bursts| (0..bursts).map(|_| rig.run_burst()).sum::<Duration>());
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
