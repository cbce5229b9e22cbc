//! The packet function does not allocate, whichever way a packet goes.

use margay_perf::rig::{Case, Rig};
use margay_perf::traffic::Path;

#[test]
fn no_packet_allocates() {
    for path in Path::ALL {
        for policies in [0, 1, 100] {
            let mut rig =
                Rig::new(&Case { path, flows: 2000, policies, size: 64, accounting: policies < 100 });
            let allocations: u64 = (0..200)
                .map(|_| rig.run_burst(|process| allocation_counter::measure(process).count_total))
                .sum();
            rig.check().unwrap();
            assert_eq!(allocations, 0, "{path:?}, {policies} policies");
        }
    }
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total;
    assert_eq!(counted, 1, "allocations are counted");
}

#[test]
fn no_packet_that_is_tapped_allocates() {
    for path in Path::ALL {
        let mut rig = Rig::new(&Case { path, flows: 2000, policies: 1, size: 64, accounting: true });
        let (mut reader, mut bytes, mut told) = (rig.tap(), Vec::new(), 0);
        let mut run = || {
            let allocations = rig.run_burst(|process| allocation_counter::measure(process).count_total);
            told += std::iter::from_fn(|| reader.next(&mut bytes)).count();
            allocations
        };
        let allocations: u64 = (0..50).map(|_| run()).sum();
        assert_eq!(allocations, 0, "{path:?}");
        assert!(told >= 50, "{path:?}: {told} notes");
        assert_eq!(reader.counts().missed.get(), 0, "{path:?}");
    }
}
