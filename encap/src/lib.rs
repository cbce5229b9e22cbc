//! What bytes mean: headers, checksums, the one-pass parser, and IP-in-IP and VXLAN push and pull.
//!
//! Pure functions over slices: no I/O, no clock, no allocation (`no_std` without `alloc`). One protocol a file: a
//! checked view of its header's bytes, and the constants of its standard. Addresses, ports and lengths are in host
//! byte order everywhere; only the bytes of a frame are in network order.

#![no_std]
#![forbid(unsafe_code)]

mod bytes;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod icmp6;
pub mod icmp6_error;
pub mod icmp_error;
pub mod ipv4;
pub mod ipv6;
mod options;
pub mod outer;
pub mod parse;
pub mod protocol;
pub mod pull;
pub mod push;
pub mod rewrite;
pub mod sctp;
pub mod segment;
pub mod split;
pub mod tcp;
pub mod udp;
pub mod vxlan;

pub use outer::Outer;
pub use parse::{
    Headers, ParseError, Part, Quoted, Quoted6, Transport, addresses6, parse, parse_ip, parse_ip6,
    parse_outer, parse_plain, parse_quoted, parse_quoted6,
};
