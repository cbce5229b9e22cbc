//! Large buffers beside chunks: what lies in them, and that no frame reaches beyond its own.

use super::*;

fn umem() -> (Arc<Umem>, FramePool) {
    let (umem, frames) = Umem::heap(Layout { chunk_size: 2048, chunks: 128 });
    let mut pool = FramePool::with_capacity(frames.len());
    pool.extend(frames);
    (umem, pool)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn a_pool_tells_large_buffers_from_chunks() {
    let (umem, mut pool) = umem();
    assert_eq!((pool.len(), pool.large()), (128, 2));
    let (mut chunk, mut large) = (pool.get().unwrap(), pool.get_large().unwrap());
    assert!(!umem.fill(&mut chunk, &bytes(1793)) && umem.fill(&mut chunk, &bytes(1792)));
    let longest = LARGE_BUFFER as usize - 256;
    assert!(!umem.fill(&mut large, &bytes(longest + 1)) && umem.fill(&mut large, &bytes(longest)));
    assert_eq!(umem.bytes(&large), bytes(longest));
    assert_eq!((umem.headroom(&chunk), umem.headroom(&large)), (256, 256));
    pool.extend([large, chunk]);
    assert_eq!((pool.len(), pool.large()), (128, 2));
}

#[test]
fn a_packet_in_a_large_buffer_grows_and_shrinks_like_any() {
    let (umem, mut pool) = umem();
    let mut frame = pool.get_large().unwrap();
    let packet = bytes(9000);
    assert!(umem.fill(&mut frame, &packet));
    assert!(umem.push(&mut frame, 257).is_none());
    umem.push(&mut frame, 256).unwrap().copy_within(256..512, 0);
    assert_eq!(umem.bytes(&frame)[..256], packet[..256]);
    // To behind the first chunk of the buffer: the room before it is then what is left of that chunk.
    umem.narrow(&mut frame, 2048 + 10..9256);
    assert_eq!((umem.headroom(&frame), umem.bytes(&frame)), (10, &packet[2048 + 10 - 256..]));
    assert!(umem.push(&mut frame, 11).is_none() && umem.push(&mut frame, 10).is_some());
}

#[test]
fn slices_are_what_lies_in_each_chunk() {
    let (umem, mut pool) = umem();
    for len in [1, 1791, 1792, 1793, 9000, LARGE_BUFFER as usize - 256] {
        let mut frame = pool.get_large().unwrap();
        assert!(umem.fill(&mut frame, &bytes(len)));
        let first = umem.bytes(&frame).as_ptr().addr() - umem.base().as_ptr().addr();
        let mut at = first as u64;
        let slices = umem.slices(&frame);
        assert_eq!(slices.len(), (256 + len).div_ceil(2048));
        for (start, len) in slices {
            assert_eq!(start, at);
            assert!(start % 2048 + u64::from(len) <= 2048 && len > 0);
            at += u64::from(len);
        }
        assert_eq!(at as usize, first + len);
        assert!(umem.chunks_of_large(first as u64).any(|chunk| chunk + 256 == first as u64));
        let again = umem.adopt_large(at - 1).unwrap();
        assert_eq!(again.addr + 256, frame.addr);
        pool.put(frame);
    }
    assert!(umem.adopt_large(128 * 2048 - 1).is_none());
    assert!(umem.adopt_large(umem.layout().bytes() as u64).is_none());
}

#[test]
fn what_is_appended_stays_within_the_buffer() {
    let (umem, mut pool) = umem();
    let (mut frame, mut part) = (pool.get_large().unwrap(), pool.get().unwrap());
    assert!(umem.fill(&mut frame, &[]) && umem.fill(&mut part, &bytes(1792)));
    let fitting = (LARGE_BUFFER as usize - 256) / 1792;
    for count in 1..=fitting {
        assert!(umem.append(&mut frame, &part));
        assert_eq!(frame.len(), count * 1792);
    }
    assert!(!umem.append(&mut frame, &part), "no room");
    assert_eq!(umem.bytes(&frame), bytes(1792).repeat(fitting));
    let mut chunk = pool.get().unwrap();
    assert!(umem.fill(&mut chunk, &[]) && !umem.append(&mut chunk, &part), "no large buffer");
}

#[test]
fn no_frame_reaches_beyond_its_memory() {
    let (umem, mut pool) = umem();
    let end = umem.layout().bytes() as u64;
    let chunks = umem.layout().chunk_bytes() as u64;
    for (addr, len) in [
        // Across the end of a chunk, of the chunks, and of the area, and behind it.
        (2048 - 10, 11),
        (chunks - 10, 11),
        (chunks, 1),
        (end, 0),
        (u64::MAX, 1),
    ] {
        assert!(umem.adopt(addr, len, PortId(0)).is_none(), "{addr:#x} {len}");
    }
    let of_both = [pool.get().unwrap(), pool.get_large().unwrap()];
    for mut frame in of_both {
        assert!(umem.fill(&mut frame, &bytes(100)));
        let beyond = std::panic::AssertUnwindSafe(|| umem.narrow(&mut frame, 50..101));
        assert!(std::panic::catch_unwind(beyond).is_err());
        let nothing = std::panic::AssertUnwindSafe(|| umem.narrow(&mut frame, 100..100));
        assert!(std::panic::catch_unwind(nothing).is_err());
        umem.truncate(&mut frame, 200);
        assert_eq!(umem.bytes(&frame), bytes(100));
        // Of a UMEM that is smaller.
        let (other, _) = Umem::heap(Layout { chunk_size: 2048, chunks: 1 });
        umem.narrow(&mut frame, 99..100);
        frame.addr += 2048;
        let read = std::panic::AssertUnwindSafe(|| other.bytes(&frame).len());
        assert!(std::panic::catch_unwind(read).is_err());
    }
}

#[test]
fn chunks_that_hold_any_packet_have_no_large_buffers_beside_them() {
    let layout = |chunk_size, chunks| Layout { chunk_size, chunks };
    assert_eq!(layout(1 << 17, 1 << 16).large_buffers(), 0);
    assert_eq!((layout(2048, 63).large_buffers(), layout(4096, 64).large_buffers()), (0, 1));
    assert_eq!(layout(2048, 1 << 16).large_buffers(), MOST_LARGE);
}
