//! How fast: the packet function on frames in memory, driven from traffic that is made once.

#![forbid(unsafe_code)]

pub mod rig;
pub mod traffic;
