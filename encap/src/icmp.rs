//! ICMP header (RFC 792): types, codes, and which messages are errors.

use crate::bytes::be16;

/// Bytes of the header: type, code, checksum and four bytes that the type gives a meaning.
pub const HEADER_LEN: usize = 8;

/// Message types (IANA, ICMP Type Numbers).
pub mod kind {
    pub const ECHO_REPLY: u8 = 0;
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    pub const SOURCE_QUENCH: u8 = 4;
    pub const REDIRECT: u8 = 5;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
    pub const TIMESTAMP_REQUEST: u8 = 13;
    pub const ADDRESS_MASK_REPLY: u8 = 18;
    /// RFC 8335.
    pub const EXTENDED_ECHO_REQUEST: u8 = 42;
    pub const EXTENDED_ECHO_REPLY: u8 = 43;
}

/// Codes of Destination Unreachable (RFC 792, RFC 1812 5.2.7.1).
pub mod unreachable {
    pub const NET: u8 = 0;
    pub const HOST: u8 = 1;
    pub const PROTOCOL: u8 = 2;
    pub const PORT: u8 = 3;
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    pub const ADMINISTRATIVELY_PROHIBITED: u8 = 13;
}

/// The header.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Icmp<'a> {
    /// `None` if the bytes are fewer than the header.
    #[inline]
    pub fn new(message: &'a [u8]) -> Option<Self> {
        message.first_chunk().map(Self)
    }

    #[inline]
    pub fn kind(self) -> u8 {
        self.0[0]
    }

    #[inline]
    pub fn code(self) -> u8 {
        self.0[1]
    }

    #[inline]
    pub fn checksum(self) -> u16 {
        be16(self.0, 2)
    }

    /// What pairs a reply with its request, in messages that [`has_identifier`].
    #[inline]
    pub fn identifier(self) -> u16 {
        be16(self.0, 4)
    }
}

/// Whether messages of this type report an error and quote the packet that met it (RFC 1122 3.2.2).
#[inline]
pub const fn is_error(kind: u8) -> bool {
    use kind::{DESTINATION_UNREACHABLE, PARAMETER_PROBLEM, REDIRECT, SOURCE_QUENCH, TIME_EXCEEDED};
    matches!(kind, DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// Whether messages of this type are a query or its reply, which carry the same identifier in bytes 4 and 5: echo,
/// timestamp, information, address mask (RFC 792, RFC 950) and extended echo (RFC 8335).
#[inline]
pub const fn has_identifier(kind: u8) -> bool {
    use kind::{
        ADDRESS_MASK_REPLY, ECHO_REPLY, ECHO_REQUEST, EXTENDED_ECHO_REPLY, EXTENDED_ECHO_REQUEST,
        TIMESTAMP_REQUEST,
    };
    matches!(
        kind,
        ECHO_REPLY | ECHO_REQUEST | TIMESTAMP_REQUEST
            ..=ADDRESS_MASK_REPLY | EXTENDED_ECHO_REQUEST | EXTENDED_ECHO_REPLY
    )
}

/// The type of query that a message of this type replies to.
#[inline]
pub const fn request_of(kind: u8) -> Option<u8> {
    use kind::{
        ADDRESS_MASK_REPLY, ECHO_REPLY, ECHO_REQUEST, EXTENDED_ECHO_REPLY, EXTENDED_ECHO_REQUEST,
        TIMESTAMP_REQUEST,
    };
    match kind {
        ECHO_REPLY => Some(ECHO_REQUEST),
        EXTENDED_ECHO_REPLY => Some(EXTENDED_ECHO_REQUEST),
        // Timestamp, information and address mask: a reply is the number after its request.
        TIMESTAMP_REQUEST..=ADDRESS_MASK_REPLY if kind.is_multiple_of(2) => Some(kind - 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_of_queries() {
        for (reply, request) in [(0, 8), (14, 13), (16, 15), (18, 17), (43, 42)] {
            assert_eq!(request_of(reply), Some(request));
            assert!(has_identifier(reply) && has_identifier(request));
            assert_eq!(request_of(request), None);
        }
        assert_eq!(request_of(kind::TIME_EXCEEDED), None);
    }
}
