//! Publication: readers see the newest value, and the publisher alone frees.

#![cfg(not(loom))]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, ThreadId};

use margay_flowtable::Publisher;

/// A value that is whole if both numbers agree, and that notes which thread drops it.
struct Value {
    number: u64,
    again: u64,
    drops: Arc<Mutex<Vec<ThreadId>>>,
}

impl Drop for Value {
    fn drop(&mut self) {
        self.drops.lock().expect("no test panics with it").push(thread::current().id());
    }
}

#[test]
fn readers_see_what_is_in_force() {
    let mut publisher = Publisher::new("first");
    let mut reader = publisher.reader();
    assert_eq!(*reader.current(), "first");
    assert_eq!(publisher.publish("second"), 1);
    assert_eq!(publisher.publish("third"), 2);
    assert_eq!((*publisher.current(), publisher.number()), ("third", 2));
    assert_eq!(reader.number(), 0, "not asked yet");
    assert_eq!(*reader.current(), "third");
    assert_eq!(*publisher.reader().current(), "third", "a late reader begins with the value in force");
}

#[test]
fn taken_when_every_reader_has_asked_or_is_gone() {
    let mut publisher = Publisher::new(0);
    assert!(publisher.is_taken(0));
    let (mut one, mut two) = (publisher.reader(), publisher.reader());
    let number = publisher.publish(1);
    assert!(!publisher.is_taken(number));
    one.current();
    assert!(!publisher.is_taken(number), "two has not");
    two.current();
    assert!(publisher.is_taken(number));
    let number = publisher.publish(2);
    one.current();
    assert!(!publisher.is_taken(number));
    drop(two);
    assert!(publisher.is_taken(number), "two never will use the old one");
    drop(one);
    assert!(publisher.is_taken(publisher.number()));
}

#[test]
fn values_live_as_long_as_a_reader_may_use_them() {
    let alive = Arc::new(());
    let mut publisher = Publisher::new(Arc::clone(&alive));
    let mut slow = publisher.reader();
    slow.current();
    for _ in 0..5 {
        publisher.publish(Arc::clone(&alive));
    }
    assert_eq!(Arc::strong_count(&alive), 7, "the slow reader keeps its value and what came since");
    slow.current();
    assert_eq!(publisher.reclaim(), 5);
    assert_eq!(Arc::strong_count(&alive), 2);
    let idle = publisher.reader();
    publisher.publish(Arc::clone(&alive));
    drop((slow, idle));
    publisher.reclaim();
    assert_eq!(Arc::strong_count(&alive), 2, "nobody holds the old one");
}

#[test]
fn publisher_frees_while_readers_come_and_go() {
    const VALUES: u64 = 2000;
    let drops = Arc::new(Mutex::new(Vec::new()));
    let value = |number| Value { number, again: number, drops: Arc::clone(&drops) };
    let mut publisher = Publisher::new(value(0));
    let done = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = publisher.reader();
            let (done, reads, start) = (&done, &reads, &start);
            scope.spawn(move || {
                start.wait();
                let mut last = 0;
                while !done.load(Ordering::Acquire) {
                    let value = reader.current();
                    assert!(value.number == value.again && value.number >= last);
                    last = value.number;
                    reads.fetch_add(1, Ordering::Relaxed);
                }
                assert_eq!(reader.current().number, VALUES);
            });
        }
        start.wait();
        for number in 1..=VALUES {
            publisher.publish(value(number));
            if number % 50 == 0 {
                drop(publisher.reader());
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
    assert!(publisher.is_taken(VALUES));
    publisher.reclaim();
    let drops = drops.lock().expect("no reader panicked");
    assert_eq!(drops.len() as u64, VALUES, "all but the value in force");
    assert!(drops.iter().all(|thread| *thread == thread::current().id()), "readers free nothing");
}
