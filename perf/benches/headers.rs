//! What is done to the bytes of one packet: parse, checksum, tunnels on and off.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use margay_encap::checksum::Sum;
use margay_encap::push::{self, Vteps};
use margay_encap::{Outer, parse, pull};
use margay_fastpath::{Layout, Umem};
use margay_perf::traffic::{Path, Template};

/// A frame of the path's first flow, 64 bytes long inside.
fn frame(path: Path) -> Vec<u8> {
    let (umem, mut frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 1 });
    let mut frame = frames.pop().expect("one chunk");
    Template::new(path, 64).fill(&umem, &mut frame, &path.key(1));
    umem.bytes(&frame).to_vec()
}

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for path in [Path::L3, Path::VxlanDecap] {
        let frame = frame(path);
        group.bench_function(path.name(), |bencher| bencher.iter(|| parse(black_box(&frame))));
    }
    group.finish();
    let mut group = criterion.benchmark_group("checksum");
    for size in [20, 64, 1460] {
        let bytes = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size}-bytes"), |bencher| {
            bencher.iter(|| Sum::of(black_box(&bytes)).finish());
        });
    }
    group.finish();
}

fn tunnels(criterion: &mut Criterion) {
    let inner = parse(&frame(Path::L3)).expect("a whole packet");
    let mut outer = vec![0; 256];
    let mut group = criterion.benchmark_group("push");
    let plain = push::Template::plain([2; 6], [4; 6]);
    let vteps = Vteps { vni: 4096, udp_port: 4789, src_mac: [2; 6], dst_mac: [4; 6] };
    for (name, template) in [
        ("plain", plain),
        ("ipip", plain.ipip(1, 2, Outer::IPIP)),
        ("vxlan", plain.vxlan(1, 2, &vteps, Outer::VXLAN)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                template.write(black_box(&mut outer[..110]), &inner, 63, 50_000, 7);
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("pull");
    let carried = frame(Path::VxlanDecap);
    let headers = parse(&carried).expect("a whole packet");
    group.bench_function("vxlan", |bencher| {
        bencher.iter(|| pull::vxlan(black_box(&carried), &headers).expect("a VXLAN packet"));
    });
    let headers = parse(&frame(Path::IpipDecap)).expect("a whole packet");
    group.bench_function("ipip", |bencher| bencher.iter(|| pull::ipip(black_box(&headers))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = headers, tunnels
}
criterion_main!(benches);
