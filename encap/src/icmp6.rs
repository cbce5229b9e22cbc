//! ICMPv6 (RFC 4443): types, and which messages are errors. The header is laid out as ICMP's ([`Icmp`](crate::icmp::Icmp)).

/// Message types (IANA, ICMPv6 Parameters).
pub mod kind {
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    pub const PACKET_TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;
    /// RFC 4861: router solicitation, and from it on advertisement, neighbour solicitation, advertisement and redirect.
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const REDIRECT: u8 = 137;
}

/// Codes of Destination Unreachable.
pub mod unreachable {
    pub const NO_ROUTE: u8 = 0;
    pub const ADDRESS: u8 = 3;
}

/// Whether messages of this type report an error and quote the packet that met it (RFC 4443 2.1). (Redirect, which is none by
/// its number, is neighbour discovery; 0 is no message.)
#[inline]
pub const fn is_error(kind: u8) -> bool {
    kind != 0 && kind < 128
}

/// Whether messages of this type are a query or its reply, which carry the same identifier in bytes 4 and 5.
#[inline]
pub const fn has_identifier(kind: u8) -> bool {
    matches!(kind, kind::ECHO_REQUEST | kind::ECHO_REPLY)
}

/// The type of query that a message of this type replies to.
#[inline]
pub const fn request_of(kind: u8) -> Option<u8> {
    match kind {
        kind::ECHO_REPLY => Some(kind::ECHO_REQUEST),
        _ => None,
    }
}

/// Whether messages of this type are neighbour discovery, which does not leave its link (RFC 4861 6.1, 7.1).
#[inline]
pub const fn is_neighbour_discovery(kind: u8) -> bool {
    matches!(kind, kind::ROUTER_SOLICITATION..=kind::REDIRECT)
}
