//! Hands values (snapshots) from one publisher to readers (workers) that never block, allocate or free.
//!
//! Values form a chain, each linked to its successor by a cell that is set once. A reader holds one link of the chain;
//! at the head of each burst it asks with one load whether there is a successor, and walks to the end if there is. The
//! publisher holds every link that a reader may still hold, so a reader that lets one go never is the last: values
//! are freed by the publisher, when each reader has said that it stands further on.
//!
//! A reader that stands still keeps what was published since: the chain is as long as the slowest reader is behind.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::sync::{AtomicU64, Ordering};

struct Link<T> {
    value: T,
    number: u64,
    next: OnceLock<Arc<Link<T>>>,
}

impl<T> Link<T> {
    fn new(value: T, number: u64) -> Arc<Self> {
        Arc::new(Self { value, number, next: OnceLock::new() })
    }
}

/// A reader that is gone has taken everything there will ever be.
const GONE: u64 = u64::MAX;

/// The writing side: one.
pub struct Publisher<T> {
    /// Oldest first; the last is in force. Never empty.
    chain: VecDeque<Arc<Link<T>>>,
    /// What each reader has taken.
    taken: Vec<Arc<AtomicU64>>,
}

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("number", &self.number())
            .field("held", &self.chain.len())
            .field("readers", &self.taken.len())
            .finish()
    }
}

impl<T> Publisher<T> {
    /// Publishes a first value, number 0.
    pub fn new(first: T) -> Self {
        Self { chain: VecDeque::from([Link::new(first, 0)]), taken: Vec::new() }
    }

    fn last(&self) -> &Arc<Link<T>> {
        self.chain.back().expect("the chain has at least the value in force")
    }

    /// The value in force.
    pub fn current(&self) -> &T {
        &self.last().value
    }

    /// Number of the value in force: how many were published before it.
    pub fn number(&self) -> u64 {
        self.last().number
    }

    /// Puts a value in force and returns its number. Readers see it when they next ask.
    pub fn publish(&mut self, value: T) -> u64 {
        let number = self.number() + 1;
        let link = Link::new(value, number);
        let set = self.last().next.set(Arc::clone(&link));
        debug_assert!(set.is_ok(), "only the one publisher links");
        self.chain.push_back(link);
        self.reclaim();
        number
    }

    /// Adds a reader, which begins with the value in force.
    pub fn reader(&mut self) -> Reader<T> {
        let taken = Arc::new(AtomicU64::new(self.number()));
        self.taken.push(Arc::clone(&taken));
        Reader { link: Arc::clone(self.last()), taken: Taken(taken) }
    }

    /// Whether no reader can be using a value older than this number: each has taken it or a later one, or is gone.
    pub fn is_taken(&self, number: u64) -> bool {
        self.oldest() >= number
    }

    /// Frees the values that no reader holds any more, and returns how many. `publish` does so too.
    pub fn reclaim(&mut self) -> usize {
        self.taken.retain(|taken| taken.load(Ordering::Acquire) != GONE);
        // Acquire, and the reader's release: it let go of its link before it said so. What is dropped here is the last
        // hold on a link, but for its predecessor's, which goes first.
        let oldest = self.oldest().min(self.number());
        let before = self.chain.len();
        while self.chain.front().is_some_and(|link| link.number < oldest) {
            self.chain.pop_front();
        }
        before - self.chain.len()
    }

    fn oldest(&self) -> u64 {
        self.taken.iter().map(|taken| taken.load(Ordering::Acquire)).min().unwrap_or(GONE)
    }
}

/// The reading side: one for each worker. Dropping it takes it off the publisher's list.
pub struct Reader<T> {
    link: Arc<Link<T>>,
    // After `link`: fields are dropped in this order, so a reader says that it is gone when it holds nothing more.
    taken: Taken,
}

struct Taken(Arc<AtomicU64>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(GONE, Ordering::Release);
    }
}

impl<T> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("number", &self.number()).finish()
    }
}

impl<T> Reader<T> {
    /// The value in force. Whoever asks has done with the values before it.
    #[inline]
    pub fn current(&mut self) -> &T {
        if self.link.next.get().is_some() {
            self.advance();
        }
        &self.link.value
    }

    /// Number of the value that [`Reader::current`] last gave.
    pub fn number(&self) -> u64 {
        self.link.number
    }

    #[cold]
    fn advance(&mut self) {
        while let Some(next) = self.link.next.get() {
            // Lets the old link go. The publisher still holds it, and does until the store below.
            self.link = Arc::clone(next);
        }
        self.taken.0.store(self.link.number, Ordering::Release);
    }
}
