//! Random packets, and what they become on a gateway of either kind.

#![allow(unreachable_pub)]

pub mod decided;
pub mod outcome;
pub mod packet;
pub mod rig;
