//! Both ends of a ring over heap memory, against a queue as oracle and against each other across threads.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// Cursors and slots as the kernel lays them out: each cursor on a cache line of its own, the slots behind.
#[derive(Debug)]
struct Heap {
    cursors: [AtomicU32; 3],
    slots: Vec<u64>,
}

#[derive(Debug)]
struct Shared {
    _heap: Arc<Heap>,
}

impl Memory for Shared {}

/// The two ends of one ring whose cursors begin at `start`.
fn ends(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
    let heap = Arc::new(Heap {
        cursors: [AtomicU32::new(start), AtomicU32::new(start), AtomicU32::new(0)],
        slots: vec![u64::MAX; size as usize],
    });
    let raw = || {
        let cursors = heap.cursors.each_ref().map(NonNull::from);
        let slots = NonNull::new(heap.slots.as_ptr().cast_mut()).expect("a Vec's pointer is not null");
        // SAFETY: all lies in `heap`, which both ends keep; nothing but the ends touches it from here on, one of which
        // is made a producer and the other a consumer.
        unsafe { Raw::new(Box::new(Shared { _heap: Arc::clone(&heap) }), cursors, slots, size) }
    };
    (Producer::new(raw()), Consumer::new(raw()))
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    Submit,
    Pop(u8),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..20).prop_map(Step::Push),
        Just(Step::Submit),
        (0u8..20).prop_map(Step::Pop),
        Just(Step::Release)
    ]
}

/// What a ring means: entries move on when submitted, and leave room when released.
#[derive(Default)]
struct Oracle {
    pushed: VecDeque<u64>,
    submitted: VecDeque<u64>,
    popped: usize,
}

impl Oracle {
    fn taken(&self) -> usize {
        self.pushed.len() + self.submitted.len() + self.popped
    }
}

proptest! {
    #[test]
    fn a_ring_is_a_bounded_queue(
        order in 0u32..6,
        start in prop_oneof![Just(0u32), u32::MAX - 40..=u32::MAX, any::<u32>()],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let size = 1 << order;
        let (mut producer, mut consumer) = ends(size, start);
        let mut oracle = Oracle::default();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Push(count) => for _ in 0..count {
                    let fits = oracle.taken() < size as usize;
                    prop_assert_eq!(producer.push(next), fits);
                    if fits {
                        oracle.pushed.push_back(next);
                    }
                    next += 1;
                },
                Step::Submit => {
                    producer.submit();
                    oracle.submitted.append(&mut oracle.pushed);
                }
                Step::Pop(count) => for _ in 0..count {
                    let expected = oracle.submitted.pop_front();
                    oracle.popped += usize::from(expected.is_some());
                    prop_assert_eq!(consumer.pop(), expected);
                },
                Step::Release => {
                    consumer.release();
                    oracle.popped = 0;
                }
            }
            let between = oracle.submitted.len() + oracle.popped;
            prop_assert_eq!(consumer.len() as usize, between);
        }
    }
}

#[test]
fn entries_cross_threads_whole_and_in_order() {
    const ENTRIES: u64 = 200_000;
    let (mut producer, mut consumer) = ends(64, u32::MAX - 1000);
    let sender = std::thread::spawn(move || {
        let mut next = 0;
        while next < ENTRIES {
            while next < ENTRIES && producer.push(next) {
                next += 1;
            }
            producer.submit();
            std::thread::yield_now();
        }
    });
    let mut expected = 0;
    while expected < ENTRIES {
        while let Some(entry) = consumer.pop() {
            assert_eq!(entry, expected);
            expected += 1;
        }
        consumer.release();
        std::thread::yield_now();
    }
    sender.join().expect("the sender ends");
    assert_eq!(consumer.len(), 0);
}

#[test]
fn room_is_what_the_consumer_has_released_and_an_entry_put_back_comes_again() {
    let (mut producer, mut consumer) = ends(8, u32::MAX - 3);
    assert!(producer.has_room(8) && !producer.has_room(9));
    assert!((0..6).all(|entry| producer.push(entry)));
    assert!(producer.has_room(2) && !producer.has_room(3));
    producer.submit();
    assert_eq!((consumer.pop(), consumer.pop()), (Some(0), Some(1)));
    consumer.put_back();
    assert!(!producer.has_room(3), "popped, and not released");
    consumer.release();
    assert!(producer.has_room(3) && !producer.has_room(4));
    assert_eq!(consumer.pop(), Some(1));
}

#[test]
fn a_peer_that_writes_nonsense_leads_nowhere_else() {
    let (mut producer, mut consumer) = ends(8, 0);
    assert!((0..8).all(|entry| producer.push(entry)));
    consumer.ring.consumer().store(100, Ordering::Release);
    assert!(
        !producer.has_room(1) && !producer.push(8),
        "a consumer ahead of the producer has released nothing"
    );
    producer.ring.producer().store(u32::MAX, Ordering::Release);
    assert_eq!(consumer.len(), 8);
    assert!((0..100).all(|_| consumer.pop().is_some_and(|entry| entry < 8)));
}
