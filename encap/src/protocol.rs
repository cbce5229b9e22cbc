//! IP protocol numbers (IANA, Assigned Internet Protocol Numbers).

pub const ICMP: u8 = 1;
/// IPv4 in IP (RFC 2003).
pub const IPIP: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const DCCP: u8 = 33;
/// IPv6 in IP (RFC 4213).
pub const IPV6: u8 = 41;
pub const ICMPV6: u8 = 58;
pub const SCTP: u8 = 132;
pub const UDP_LITE: u8 = 136;

/// Whether the protocol's header opens with a source and a destination port of 16 bits each.
#[inline]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE)
}
