use margay_flowtable::PortId;

use super::*;
use crate::umem::Layout;

const PORT: PortId = PortId(7);

fn bench() -> (std::sync::Arc<Umem>, FramePool) {
    let (umem, frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 128 });
    let mut pool = FramePool::with_capacity(frames.len());
    pool.extend(frames);
    (umem, pool)
}

fn chunk(umem: &Umem, pool: &mut FramePool, packet: &[u8]) -> Frame {
    let mut chunk = pool.get().expect("a chunk");
    assert!(umem.fill(&mut chunk, packet));
    chunk.port = PORT;
    chunk
}

#[test]
fn parts_come_together_in_order_and_their_chunks_go_back() {
    let (umem, mut pool) = bench();
    let mut gathering = Gathering::default();
    for round in 0..3 {
        let parts: Vec<Vec<u8>> = (0..37).map(|i| vec![i + round; 1792 - usize::from(i)]).collect();
        for (at, part) in parts.iter().enumerate() {
            let goes_on = at + 1 < parts.len();
            let part = chunk(&umem, &mut pool, part);
            let packet = gathering.add(&umem, Some(part), goes_on, &mut pool);
            assert_eq!((packet.is_some(), gathering.is_open()), (!goes_on, goes_on));
            let Some(packet) = packet else { continue };
            assert!(packet.is_large() && !packet.is_cut);
            assert_eq!((packet.port, umem.bytes(&packet)), (PORT, &parts.concat()[..]));
            pool.put(packet);
        }
        assert_eq!((pool.len(), pool.large()), (128, 2));
    }
}

#[test]
fn what_is_longer_than_a_large_buffer_is_cut() {
    let (umem, mut pool) = bench();
    let mut gathering = Gathering::default();
    let mut add = |goes_on| {
        let part = chunk(&umem, &mut pool, &[0x5a; 1792]);
        gathering.add(&umem, Some(part), goes_on, &mut pool)
    };
    (0..60).for_each(|_| assert!(add(true).is_none()));
    let packet = add(false).expect("the end");
    assert!(packet.is_cut && packet.len() > 65_535 + 18);
    pool.put(packet);
    assert_eq!((pool.len(), pool.large()), (128, 2));
}

#[test]
fn without_a_large_buffer_the_first_chunk_is_what_is_left() {
    let (umem, mut pool) = bench();
    let kept: Vec<_> = std::iter::from_fn(|| pool.get_large()).collect();
    let mut gathering = Gathering::default();
    let first = chunk(&umem, &mut pool, b"first");
    assert!(gathering.add(&umem, Some(first), true, &mut pool).is_none());
    // One that comes back meanwhile is for the next packet.
    pool.extend(kept);
    let last = chunk(&umem, &mut pool, b"last");
    let packet = gathering.add(&umem, Some(last), false, &mut pool).expect("the end");
    assert_eq!((packet.is_cut, umem.bytes(&packet)), (true, &b"first"[..]));
    assert_eq!((pool.len(), pool.large()), (127, 2));
    pool.put(packet);
}

#[test]
fn a_part_that_there_is_not_spoils_its_packet_alone() {
    let (umem, mut pool) = bench();
    let mut gathering = Gathering::default();
    let first = chunk(&umem, &mut pool, b"first");
    assert!(gathering.add(&umem, Some(first), true, &mut pool).is_none());
    assert!(gathering.add(&umem, None, true, &mut pool).is_none());
    let last = chunk(&umem, &mut pool, b"last");
    let packet = gathering.add(&umem, Some(last), false, &mut pool).expect("the end");
    assert!(packet.is_cut);
    pool.put(packet);
    // Without its beginning there is no packet.
    assert!(gathering.add(&umem, None, true, &mut pool).is_none());
    let last = chunk(&umem, &mut pool, b"last");
    assert!(gathering.add(&umem, Some(last), false, &mut pool).is_none());
    let (first, last) = (chunk(&umem, &mut pool, b"a"), chunk(&umem, &mut pool, b"b"));
    assert!(gathering.add(&umem, Some(first), true, &mut pool).is_none());
    let packet = gathering.add(&umem, Some(last), false, &mut pool).expect("the end");
    assert_eq!((packet.is_cut, umem.bytes(&packet)), (false, &b"ab"[..]));
    pool.put(packet);
    let first = chunk(&umem, &mut pool, b"a");
    assert!(gathering.add(&umem, Some(first), true, &mut pool).is_none());
    pool.extend(gathering.give_up());
    assert_eq!((pool.len(), pool.large()), (128, 2));
}
