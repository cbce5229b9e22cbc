//! Flow table, FIB and classification, one operation at a time.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use margay_flowtable::{FlowAction, FlowKey, FlowTable, Insert, SweepCursor, Timeouts, Tuple, classify};
use margay_perf::gateway;
use margay_perf::tables::{fib_v4, fib_v6};
use margay_perf::traffic::{Path, Visits};

const FLOWS: u32 = 100_000;
const ROUTES: u32 = 100_000;
const BURST: usize = 64;
const ACTION: FlowAction = FlowAction { next_hop: 1, generation: 1, flags: 0 };

fn insert(table: &FlowTable, key: &FlowKey) -> Insert {
    table.insert(key, table.hash(key), [ACTION; 2].into(), key.src, 0, 1)
}

fn flow_table(criterion: &mut Criterion) {
    let table = FlowTable::new(FLOWS * 2, [1, 2, 3, 4], Timeouts { udp: 1 << 30, ..Timeouts::default() });
    let key = |number| Path::L3.key(number);
    for number in 0..FLOWS {
        assert!(matches!(insert(&table, &key(number)), Insert::New(_)));
    }
    let mut visits = Visits::new(FLOWS).map(key);
    let mut absent = Visits::new(FLOWS).map(|number| key(FLOWS + number));
    let mut group = criterion.benchmark_group("flow-table");
    group.bench_function("lookup-hit", |bencher| {
        bencher.iter(|| {
            let key = visits.next().expect("visits never end");
            table.lookup(&key, table.hash(&key), 1)
        });
    });
    group.bench_function("lookup-miss", |bencher| {
        bencher.iter(|| {
            let key = absent.next().expect("visits never end");
            table.lookup(&key, table.hash(&key), 1)
        });
    });
    group.bench_function("insert-remove", |bencher| {
        bencher.iter(|| {
            let key = absent.next().expect("visits never end");
            let Insert::New(hit) = insert(&table, &key) else { panic!("no other has the key") };
            table.remove(hit.flow)
        });
    });
    let established = key(0);
    let hit = table.lookup(&established, table.hash(&established), 1).expect("it was entered");
    group.bench_function("observe", |bencher| bencher.iter(|| table.observe(black_box(&hit), 0, 1)));
    group.throughput(Throughput::Elements(BURST as u64));
    let mut hits = [None; BURST];
    group.bench_function("lookup-burst", |bencher| {
        bencher.iter(|| {
            let keys = std::array::from_fn::<_, BURST, _>(|_| visits.next().expect("visits never end"));
            table.lookup_burst(&keys, 1, &mut hits);
        });
    });
    // A pass a second: the next begins when this one is done. Nothing expires.
    let (mut cursor, mut now) = (SweepCursor::default(), 0);
    group.bench_function("sweep-64", |bencher| {
        bencher.iter(|| now += 1000 * u64::from(table.sweep(&mut cursor, now, 1, BURST).done));
    });
    group.finish();
}

fn fib(criterion: &mut Criterion) {
    let (mut fib, covered, fresh) = fib_v4(ROUTES);
    let mut group = criterion.benchmark_group("fib");
    let mut addresses = covered.iter().cycle();
    group.bench_function("lookup", |bencher| {
        bencher.iter(|| fib.lookup4(*addresses.next().expect("a cycle never ends")));
    });
    let mut changes = fresh.iter().cycle();
    group.bench_function("insert-remove", |bencher| {
        bencher.iter(|| {
            let &(network, length, next_hop) = changes.next().expect("a cycle never ends");
            fib.insert(network, length, next_hop);
            fib.remove(network, length)
        });
    });
    group.throughput(Throughput::Elements(BURST as u64));
    let mut bursts = covered.chunks_exact(BURST).cycle();
    let mut found = [None; BURST];
    group.bench_function("lookup-burst", |bencher| {
        bencher.iter(|| {
            fib.lookup4_burst(bursts.next().expect("a cycle never ends"), black_box(&mut found));
        });
    });
    // As a writer publishes: on a clone, while readers have the table that it was made from.
    group.bench_function("clone-and-apply", |bencher| {
        bencher.iter(|| {
            let mut next = fib.clone();
            next.apply(
                changes
                    .by_ref()
                    .take(BURST)
                    .map(|&(network, length, next_hop)| (network, length, Some(next_hop))),
            );
            next
        });
    });
    group.finish();
}

fn fib_v6_lookups(criterion: &mut Criterion) {
    let (fib, covered) = fib_v6(ROUTES);
    let mut group = criterion.benchmark_group("fib-v6");
    let mut addresses = covered.iter().cycle();
    group.bench_function("lookup", |bencher| {
        bencher.iter(|| fib.lookup6(*addresses.next().expect("a cycle never ends")));
    });
    group.throughput(Throughput::Elements(BURST as u64));
    let mut bursts = covered.chunks_exact(BURST).cycle();
    let mut found = [None; BURST];
    group.bench_function("lookup-burst", |bencher| {
        bencher.iter(|| {
            fib.lookup6_burst(bursts.next().expect("a cycle never ends"), black_box(&mut found));
        });
    });
    group.finish();
}

fn classification(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("classify");
    for policies in [1, 10, 100, 1000] {
        let snapshot = gateway::snapshot(policies);
        let mut tuples = Visits::new(FLOWS).map(|number| {
            let key = Path::L3.key(number);
            Tuple {
                src: Ipv4Addr::from_bits(key.src).into(),
                dst: Ipv4Addr::from_bits(key.dst).into(),
                protocol: key.protocol,
                sport: key.sport,
                dport: key.dport,
                icmp: None,
            }
        });
        group.bench_function(format!("{policies}-policies"), |bencher| {
            bencher.iter(|| {
                let tuple = tuples.next().expect("visits never end");
                classify(&snapshot.policies, &tuple, &mut |_, _| {}).verdict()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = flow_table, fib, fib_v6_lookups, classification
}
criterion_main!(benches);
