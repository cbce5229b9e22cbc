//! Every atomic of the crate: from `std`, or from loom under `--cfg loom`, which then runs the models of
//! `tests/loom.rs` through their interleavings.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
