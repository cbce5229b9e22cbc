//! The crate against independent builders (etherparse, captured bytes) and against the definitions in the RFCs.

mod checksum;
mod fragment;
mod icmp_error;
mod ipv6;
mod mss;
mod packets;
mod parse;
mod rewrite;
mod segment;
mod split;
mod tunnel;
mod tunnel6;
mod views;
