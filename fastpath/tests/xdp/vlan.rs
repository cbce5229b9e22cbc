//! Ports on a VLAN, on veth pairs whose far end leaves tags in the frames, as a packet socket's are.

use margay_fastpath::port::vlan::Tagged;
use margay_fastpath::xdp::{ModeChoice, PortSpec, Tags, Vlan};

use crate::bench::{Bench, Wire, feature, in_namespace, mac, marker, spec, udp, veth};

const CHUNKS: u32 = 16384;

fn tagged(mut frame: Vec<u8>, tag: [u8; 4]) -> Vec<u8> {
    frame.splice(12..12, tag);
    frame
}

#[test]
fn frames_of_the_vlan_come_in_bare_and_leave_tagged_and_the_others_are_the_kernel_s() {
    for mode in [ModeChoice::Native, ModeChoice::Skb] {
        in_namespace(move || {
            veth("near", "far", 1);
            let (far, kernel, mut bench) = (Wire::on("far"), Wire::on("near"), Bench::new(CHUNKS));
            let vlan = Vlan { id: 100, mac: [2, 0, 0, 0, 1, 0] };
            let mut opened = bench.open_as(&PortSpec { vlan: Some(vlan), ..spec("near", mode) });
            let mut ports = [Tagged::new(opened.ports.remove(0), vlan.id)];
            let ours = |number| udp(vlan.mac, number, 60);
            for (number, others) in [
                ours(0),
                tagged(ours(1), [0x81, 0, 0, 101]),
                tagged(udp(mac("near"), 2, 60), [0x81, 0, 0, 100]),
                tagged(tagged(ours(3), [0x81, 0, 0, 5]), [0x81, 0, 0, 100]),
                tagged(marker(vlan.mac), [0x81, 0, 0, 100]),
            ]
            .into_iter()
            .enumerate()
            {
                far.send(&others);
                assert!(ends_with(&kernel.receive(), &others), "{number}");
            }
            far.send(&tagged(ours(5), [0x81, 0, 0xa0, 100]));
            let frames = bench.receive(&mut ports, 1);
            assert_eq!(bench.umem.bytes(&frames[0]), ours(5), "none came before it");
            bench.send(&mut ports[0], frames);
            // The far end's kernel takes the tag off and hands it to a packet socket beside the frame.
            assert!(ends_with(&far.receive(), &ours(5)));
            bench.drain(&mut ports);
            bench.assert_whole();
        });
    }
}

/// Whether the frames are the same but for the first tag: a packet socket is given that beside the frame.
fn ends_with(received: &[u8], sent: &[u8]) -> bool {
    received == sent || (received[..12] == sent[..12] && received[12..] == sent[16..])
}

#[test]
fn an_uplink_s_device_leaves_tags_in_the_frames() {
    in_namespace(|| {
        veth("near", "far", 1);
        assert_eq!(feature("near", "rx-vlan-offload"), "on");
        let mut bench = Bench::new(CHUNKS);
        let mut opened = bench.open("near", ModeChoice::Native);
        assert_eq!(opened.tags, Some(Tags::AsPeerLeaves));
        assert_eq!(feature("near", "rx-vlan-offload"), "off");
        assert_eq!(feature("near", "rx-checksumming"), "on", "nothing else is changed");
        bench.drain(&mut opened.ports);
    });
}
