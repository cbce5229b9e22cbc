//! Random packets through Margay, and through the kernel of Linux in its place: into VXLAN, out of it and as they are. What
//! leaves has the same bytes, but where it is decided otherwise. They need root.

mod against_kernel;
mod common;

use against_kernel::decided::DECISIONS;
use against_kernel::packet::Packet;
use against_kernel::rig::run;
use fastrand::Rng;
use margay_testbed::topology::Dataplane;

const SEED: u64 = 7;
const PACKETS: u16 = 4000;

#[test]
fn margay_forwards_as_the_kernel_does() {
    let mut rng = Rng::with_seed(SEED);
    let packets: Vec<Packet> = (1..=PACKETS).map(|number| Packet::random(&mut rng, number)).collect();
    let proofs = Packet::proofs();
    let kernel = run(Dataplane::Kernel, &packets, &proofs);
    let margay = run(Dataplane::Margay, &packets, &proofs);
    let mut uses = DECISIONS.map(|_| 0);
    let mut wrong = Vec::new();
    for packet in &packets {
        let [kernel, margay] =
            [&kernel, &margay].map(|outcomes| outcomes.get(&packet.number).cloned().unwrap_or_default());
        let mut expected = kernel.clone();
        for (decision, uses) in DECISIONS.iter().zip(&mut uses) {
            if (decision.concerns)(packet) {
                let decided = (decision.expected)(&expected);
                *uses += usize::from(decided != expected);
                expected = decided;
            }
        }
        if margay != expected {
            wrong.push(format!("{packet:?}\nLinux: {kernel:?}Margay: {margay:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {PACKETS} packets:\n{}", wrong.len(), wrong.join("\n"));
    for (decision, uses) in DECISIONS.iter().zip(uses) {
        assert!(uses > 0, "there is no difference by this: {}", decision.why);
    }
}
