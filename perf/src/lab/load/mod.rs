//! Load: packets that say which they are and when they left, and what counts them where they arrive.

pub mod frames;
pub mod stamp;

pub use frames::Stream;
