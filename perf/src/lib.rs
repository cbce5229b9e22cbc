//! How fast: the packet function on frames in memory, and the tables beside those that others have written.

#![forbid(unsafe_code)]

pub mod clock;
pub mod control;
pub mod count;
pub mod gate;
pub mod gateway;
pub mod lab;
pub mod pipeline;
pub mod policies;
pub mod policy;
pub mod rig;
pub mod tables;
pub mod traffic;
mod world;
