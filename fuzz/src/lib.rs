//! What the fuzz targets share: packets and what happens to them made from a fuzzer's bytes, and what holds of them
//! whatever these are.
//!
//! What the packet path reads and writes is held against code of this crate that shares none with it, and is as plain as
//! the standards' words.

pub mod checksum;
pub mod frame;
pub mod gateway;
pub mod oracle;
pub mod packet;
pub mod script;
pub mod view;
pub mod world;
