//! What happens to a frame: ports, the UMEM, the burst pipeline, the worker loop.
//!
//! `unsafe` stands in `umem.rs` (bytes of a frame) and in `xdp/` (rings, sockets): deny everywhere else.

#![deny(unsafe_code)]

pub mod counters;
pub mod drop;
pub mod egress;
pub mod events;
pub mod frame;
pub mod pipeline;
pub mod port;
pub mod steer;
pub mod tap;
pub mod umem;
pub mod worker;
pub mod xdp;

pub use counters::Counters;
pub use drop::DropReason;
pub use frame::{Burst, Frame, Gso};
pub use port::{Census, Port};
pub use umem::{FramePool, Layout, Umem};
