//! First packets against 10,000 policies and 100,000 endpoints, and what changes cost control.

use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use margay_flowtable::{AddressSet, Epochs, Holder, IdentityId, Tuple, classify};
use margay_perf::policies::{ENDPOINTS, Peers, Ports, Subjects, World};

fn first_packets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("first-packet");
    for subjects in [Subjects::Namespaces, Subjects::One] {
        for peers in [
            Peers::Identities(1),
            Peers::Identities(10),
            Peers::Identities(100),
            Peers::Half,
            Peers::All,
            Peers::Anybody,
            Peers::Block(1),
            Peers::Block(1000),
        ] {
            for ports in [Ports::One(10_000), Ports::One(1000), Ports::One(10), Ports::All] {
                let world = World { subjects, peers, ports };
                let policies = world.policies();
                let packets: Vec<Tuple> = world.packets().take(ENDPOINTS as usize).collect();
                let mut packets = packets.iter().cycle();
                group.bench_function(format!("{subjects:?} {peers:?} {ports:?}"), |bencher| {
                    bencher.iter(|| {
                        let tuple = packets.next().expect("a cycle never ends");
                        classify(&policies, tuple, &mut |_, _| {}).verdict()
                    });
                });
            }
        }
    }
    group.finish();
}

fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy-change");
    for peers in [
        Peers::Identities(4),
        Peers::Identities(100),
        Peers::Half,
        Peers::All,
        Peers::Block(1),
        Peers::Block(1000),
    ] {
        let world = World { subjects: Subjects::One, peers, ports: Ports::One(10_000) };
        let policies = world.policies();
        let list = policies.segments[3].policies();
        let bytes = policies.segments[3].bytes();
        group.bench_function(format!("segment {peers:?} ({bytes} bytes)"), |bencher| {
            bencher.iter(|| world.segment(&policies, list.to_vec()));
        });
    }
    let world = World { subjects: Subjects::One, peers: Peers::Identities(4), ports: Ports::All };
    let policies = world.policies();
    group.bench_function("clone", |bencher| bencher.iter(|| policies.clone()));
    let epochs = Epochs::default();
    group.bench_function("clone-epochs", |bencher| bencher.iter(|| epochs.clone()));
    let mut number = 0u32;
    group.bench_function("clone and one address", |bencher| {
        bencher.iter_batched_ref(
            || policies.clone(),
            |policies| {
                number = (number + 7919) % ENDPOINTS;
                let address = Ipv4Addr::from_bits(0x0b00_0000 + number).into();
                policies.addresses.insert(address, Holder { identity: IdentityId(1), endpoint: None });
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("clone and one set", |bencher| {
        bencher.iter_batched_ref(
            || policies.clone(),
            |policies| {
                number = (number + 7919) % 10_000;
                let set: AddressSet = policies.sets[number].with_identity(IdentityId(10_000));
                policies.sets.set(number, set.into());
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots().sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(300));
    targets = first_packets, changes
}
criterion_main!(benches);
