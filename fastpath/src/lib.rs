//! What happens to a frame: ports, the UMEM, the burst pipeline, the worker loop.
//!
//! `unsafe` stands in `umem.rs` (bytes of a frame) and in `xdp/` (rings, sockets): deny everywhere else.

#![deny(unsafe_code)]

pub mod frame;
pub mod port;
pub mod umem;

pub use frame::{Burst, Frame};
pub use port::{Census, Port};
pub use umem::{FramePool, Layout, Umem};
