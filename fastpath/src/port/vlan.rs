//! A port on one VLAN of a device: frames are received without their tag, which the XDP program has looked at, and leave
//! with it (802.1Q, priority 0). Ports without a VLAN do not come this way.

use std::os::fd::BorrowedFd;

use margay_flowtable::PortId;

use super::{Census, Port};
use crate::frame::{Burst, Frame};
use crate::umem::{FramePool, Umem};

const TAG: usize = 4;
/// Both addresses of an Ethernet header: what stands before the tag.
const ADDRESSES: usize = 12;
const ETHERTYPE: [u8; 2] = [0x81, 0x00];

#[derive(Debug)]
pub struct Tagged<P> {
    port: P,
    vlan: u16,
}

impl<P> Tagged<P> {
    /// The port as one of this VLAN.
    pub fn new(port: P, vlan: u16) -> Self {
        Self { port, vlan }
    }

    fn is_ours(&self, bytes: &[u8]) -> bool {
        bytes.get(ADDRESSES..ADDRESSES + TAG).is_some_and(|tag| {
            tag[..2] == ETHERTYPE && u16::from_be_bytes([tag[2], tag[3]]) & 0xfff == self.vlan
        })
    }
}

impl<P: Port> Port for Tagged<P> {
    fn id(&self) -> PortId {
        self.port.id()
    }

    fn rx(&mut self, umem: &Umem, burst: &mut Burst, pool: &mut FramePool) {
        let before = burst.len();
        self.port.rx(umem, burst, pool);
        for frame in &mut burst.as_mut_slice()[before..] {
            if self.is_ours(umem.bytes(frame)) {
                strip(umem, frame);
                frame.stripped = TAG as u8;
            } else {
                // The program lets none of these come. One that did is dropped as a runt, and never taken for tagged.
                umem.truncate(frame, 0);
            }
        }
    }

    fn tx(&mut self, umem: &Umem, burst: &mut Burst) {
        for frame in burst.as_mut_slice() {
            insert(umem, frame, self.vlan);
            frame.csum_start += TAG as u16;
        }
        self.port.tx(umem, burst);
        // What there was no room for comes again.
        for frame in burst.as_mut_slice() {
            strip(umem, frame);
            frame.csum_start -= TAG as u16;
        }
    }

    fn reclaim(&mut self, umem: &Umem, pool: &mut FramePool) {
        self.port.reclaim(umem, pool);
    }

    fn census(&self) -> Census {
        self.port.census()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.fd()
    }

    fn drain(&mut self, umem: &Umem, pool: &mut FramePool) -> usize {
        self.port.drain(umem, pool)
    }
}

fn insert(umem: &Umem, frame: &mut Frame, vlan: u16) {
    let bytes = umem.push(frame, TAG as u32).expect("the pipeline leaves PORT_HEADROOM before what it sends");
    bytes.copy_within(TAG..TAG + ADDRESSES, 0);
    bytes[ADDRESSES..ADDRESSES + 2].copy_from_slice(&ETHERTYPE);
    bytes[ADDRESSES + 2..ADDRESSES + TAG].copy_from_slice(&vlan.to_be_bytes());
}

fn strip(umem: &Umem, frame: &mut Frame) {
    umem.bytes_mut(frame).copy_within(..ADDRESSES, TAG);
    let len = frame.len();
    umem.narrow(frame, TAG..len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::memory::MemoryPort;
    use crate::umem::Layout;

    const HEADER: [u8; 12] = [2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 9];
    const IP: [u8; 5] = [8, 0, 0x45, 1, 2];

    fn tagged(tag: &[u8]) -> Vec<u8> {
        [&HEADER[..], tag, &IP].concat()
    }

    #[test]
    fn a_tag_goes_on_the_way_in_whatever_its_priority_and_no_other_frame_comes_in() {
        let (umem, mut frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 8 });
        let inner = MemoryPort::new(PortId(3), 8);
        let wire = inner.wire();
        let mut port = Tagged::new(inner, 100);
        for (tag, expected) in [
            (&[0x81, 0, 0, 100][..], tagged(&[])),
            // Priority 7, and the packet may be dropped.
            (&[0x81, 0, 0xf0, 100], tagged(&[])),
            // The inner of two tags stays, for the pipeline to drop.
            (&[0x81, 0, 0, 100, 0x81, 0, 0, 5], tagged(&[0x81, 0, 0, 5])),
            (&[0x81, 0, 0, 101], vec![]),
            (&[0x81, 0, 0x01, 100], vec![]),
            (&[0x88, 0xa8, 0, 100], vec![]),
            (&[], vec![]),
        ] {
            let mut frame = frames.pop().expect("chunks enough");
            assert!(umem.fill(&mut frame, &tagged(tag)));
            wire.inject(frame).expect("room on the wire");
            let mut burst = Burst::default();
            port.rx(&umem, &mut burst, &mut FramePool::default());
            assert_eq!(umem.bytes(&burst.as_slice()[0]), expected, "{tag:?}");
            burst.drain_front(1).for_each(std::mem::forget);
        }
    }

    #[test]
    fn a_tag_comes_on_the_way_out_once() {
        let (umem, mut frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 3 });
        let inner = MemoryPort::new(PortId(3), 2);
        let wire = inner.wire();
        let mut port = Tagged::new(inner, 0x123);
        let mut burst = Burst::default();
        for mut frame in frames.drain(..) {
            assert!(umem.fill(&mut frame, &tagged(&[])));
            burst.push(frame);
        }
        port.tx(&umem, &mut burst);
        assert_eq!(umem.bytes(&burst.as_slice()[0]), tagged(&[]), "what is left is as it was");
        let mut pool = FramePool::default();
        for _ in 0..2 {
            let frame = wire.sent().expect("a frame");
            assert_eq!(umem.bytes(&frame), tagged(&[0x81, 0, 1, 0x23]));
            pool.put(frame);
        }
        port.tx(&umem, &mut burst);
        assert!(burst.is_empty());
        let frame = wire.sent().expect("the last");
        assert_eq!(umem.bytes(&frame), tagged(&[0x81, 0, 1, 0x23]));
        pool.put(frame);
        assert_eq!((pool.len(), port.census().total()), (3, 0));
    }
}
