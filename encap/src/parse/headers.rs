//! What parsing leaves of a packet's headers.

use crate::bytes::{ne32, ne64};
use crate::icmp;
use crate::icmp6;
use crate::ipv4;
use crate::ipv6::Ipv6;
use crate::protocol;
use crate::tcp;

/// The transport's checksum is left to the device that sends.
const PARTIAL: u8 = 1;
/// The packet is of IPv6.
const IPV6: u8 = 2;
/// The packet is several in one.
const SEVERAL: u8 = 4;

/// What an IP packet is and where its parts lie in the frame.
///
/// Kept as they were loaded, several fields a word and in network order: most packets are asked for few of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Source and destination address of IPv4. (Those of IPv6 stay in the frame; of its fragments, the identification.)
    pub(super) addresses: u64,
    /// Source and destination port. ICMP queries and replies: the identifier, in both, so that a reply mirrors its
    /// request; 0 where the protocol has no ports.
    pub(super) ports: u32,
    /// Version, IHL, TOS, total length.
    pub(super) first: u32,
    /// TTL, protocol, header checksum.
    pub(super) third: u32,
    /// Identification, flags and fragment offset.
    pub(super) second: u32,
    /// Offset of the IP header in the frame. (Of 32 bits, so that there is no padding to carry along.)
    pub(super) l3: u32,
    pub(super) tcp_flags: u8,
    pub(super) icmp_type: u8,
    pub(super) icmp_code: u8,
    /// `PARTIAL`, `IPV6` and `SEVERAL`. (No `bool`s: an `Option` of headers that hides its tag in one costs a hot loop dear.)
    pub(super) marks: u8,
}

impl Headers {
    #[inline]
    pub const fn src(&self) -> u32 {
        let [a, b, c, d, ..] = self.addresses.to_ne_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    #[inline]
    pub const fn dst(&self) -> u32 {
        let [_, _, _, _, a, b, c, d] = self.addresses.to_ne_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Source and destination address as they stand in the header, in native words.
    #[inline]
    pub const fn addresses_ne(&self) -> u64 {
        self.addresses
    }

    /// Source and destination port as they stand in the header, in native words.
    #[inline]
    pub const fn ports_ne(&self) -> u32 {
        self.ports
    }

    /// Source port; ICMP queries and replies: the identifier, in both ports, so that a reply mirrors its request; 0
    /// where the protocol has no ports.
    #[inline]
    pub const fn sport(&self) -> u16 {
        let [a, b, ..] = self.ports.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// Destination port, as [`sport`](Self::sport).
    #[inline]
    pub const fn dport(&self) -> u16 {
        let [_, _, a, b] = self.ports.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// Bytes of the IP packet, header included.
    #[inline]
    pub const fn total_len(&self) -> u16 {
        let [_, _, a, b] = self.first.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// Offset of the IP header.
    #[inline]
    pub const fn l3(&self) -> u16 {
        self.l3 as u16
    }

    /// Offset of what follows an IPv4 header without options, as outer headers are.
    #[inline]
    pub const fn l4(&self) -> u16 {
        self.l3 as u16 + ipv4::HEADER_LEN as u16
    }

    /// Offset of the transport header, of either family, behind options or extension headers.
    #[inline]
    pub const fn transport(&self) -> u16 {
        if self.is_ipv6() {
            let [high, low, ..] = self.second.to_ne_bytes();
            self.l3 as u16 + u16::from_be_bytes([high, low])
        } else {
            let [version_and_ihl, ..] = self.first.to_ne_bytes();
            self.l3 as u16 + (version_and_ihl & 0x0f) as u16 * 4
        }
    }

    /// Of an IPv4 packet as if it began so much later and had no options: what a tunnel's outer header is to what follows it.
    #[must_use]
    pub const fn without_options(mut self) -> Self {
        let options = self.transport() - self.l4();
        let ([_, tos, ..], [a, b]) = (self.first.to_ne_bytes(), (self.total_len() - options).to_be_bytes());
        self.first = u32::from_ne_bytes([0x45, tos, a, b]);
        self.l3 += options as u32;
        self
    }

    /// Whether this is a packet of IPv6, whose addresses stand in the frame alone.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        self.marks & IPV6 != 0
    }

    /// Offset one past the IP packet. What lies behind it in the frame is Ethernet padding or trailer.
    #[inline]
    pub const fn end(&self) -> u32 {
        self.l3 + self.total_len() as u32
    }

    #[inline]
    pub const fn tos(&self) -> u8 {
        self.first.to_ne_bytes()[1]
    }

    /// After the TOS, and with it the header's checksum, was changed in the packet.
    pub(crate) const fn set_tos(&mut self, tos: u8, checksum: u16) {
        let ([version, _, a, b], [ttl, protocol, _, _]) =
            (self.first.to_ne_bytes(), self.third.to_ne_bytes());
        let [high, low] = checksum.to_be_bytes();
        self.first = u32::from_ne_bytes([version, tos, a, b]);
        self.third = u32::from_ne_bytes([ttl, protocol, high, low]);
    }

    #[inline]
    pub const fn ttl(&self) -> u8 {
        self.third.to_ne_bytes()[0]
    }

    #[inline]
    pub const fn protocol(&self) -> u8 {
        self.third.to_ne_bytes()[1]
    }

    /// The header's checksum.
    #[inline]
    pub const fn checksum(&self) -> u16 {
        let [_, _, a, b] = self.third.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    #[inline]
    pub const fn dont_fragment(&self) -> bool {
        u32::from_be(self.second) & ipv4::DONT_FRAGMENT as u32 != 0
    }

    /// Control bits of TCP, else 0.
    #[inline]
    pub const fn tcp_flags(&self) -> u8 {
        self.tcp_flags
    }

    /// Type of ICMP, else 0.
    #[inline]
    pub const fn icmp_type(&self) -> u8 {
        self.icmp_type
    }

    /// Code of ICMP, else 0.
    #[inline]
    pub const fn icmp_code(&self) -> u8 {
        self.icmp_code
    }

    /// Whether the transport's checksum is left to the device that sends: [`rewrite::complete_checksum`] has work to do.
    ///
    /// [`rewrite::complete_checksum`]: crate::rewrite::complete_checksum
    #[inline]
    pub const fn checksum_partial(&self) -> bool {
        self.marks & PARTIAL != 0
    }

    /// Whether the packet is several in one, and to be cut: no header says so, but who [notes](Self::set_several) it.
    #[inline]
    pub const fn is_several(&self) -> bool {
        self.marks & SEVERAL != 0
    }

    pub const fn set_several(&mut self) {
        self.marks |= SEVERAL;
    }

    /// Whether the packet may need more done before it leaves than nearly every one: it opens a connection of TCP, its checksum
    /// is [left to the device](Self::checksum_partial), it is of IPv6, or several in one. Asked as one word.
    #[inline]
    pub const fn is_special(&self) -> bool {
        let word = u32::from_ne_bytes([self.tcp_flags, self.icmp_type, self.icmp_code, self.marks]);
        word & u32::from_ne_bytes([tcp::flags::SYN, 0, 0, PARTIAL | IPV6 | SEVERAL]) != 0
    }

    /// Notes whether the transport's checksum is left to the device.
    #[inline]
    pub(super) fn set_partial(&mut self, is_partial: bool) {
        self.marks = self.marks & !PARTIAL | if is_partial { PARTIAL } else { 0 };
    }

    /// Whether this is an ICMP error, which belongs to the flow of the packet that it quotes: see [`parse_quoted`] and
    /// [`parse_quoted6`].
    #[inline]
    pub const fn is_icmp_error(&self) -> bool {
        if self.is_ipv6() {
            self.protocol() == protocol::ICMPV6 && icmp6::is_error(self.icmp_type)
        } else {
            self.protocol() == protocol::ICMP && icmp::is_error(self.icmp_type)
        }
    }
}

impl Headers {
    /// What the fixed part of the IP header at `l3` says.
    #[inline]
    pub(super) fn load<const N: usize>(bytes: &[u8; N], l3: usize) -> Self {
        Self {
            addresses: ne64(bytes, l3 + 12),
            first: ne32(bytes, l3),
            third: ne32(bytes, l3 + 8),
            second: ne32(bytes, l3 + 4),
            l3: l3 as u32,
            ..Self::default()
        }
    }

    /// Of a packet with this IPv6 header, as if it were one of IPv4 with DF whose header is so long: the length stands in the
    /// identification's place.
    pub(super) fn of_ipv6(ip: Ipv6<'_>, l3: u16, total_len: u16, header_len: u16, protocol: u8) -> Self {
        let ([a, b], [c, d]) = (total_len.to_be_bytes(), header_len.to_be_bytes());
        let [flags, _] = ipv4::DONT_FRAGMENT.to_be_bytes();
        Self {
            first: u32::from_ne_bytes([6 << 4, ip.traffic_class(), a, b]),
            second: u32::from_ne_bytes([c, d, flags, 0]),
            third: u32::from_ne_bytes([ip.hop_limit(), protocol, 0, 0]),
            l3: l3.into(),
            marks: IPV6,
            ..Self::default()
        }
    }

    /// Whether the protocol is the ICMP of its family.
    pub const fn has_own_icmp(&self) -> bool {
        self.protocol() == if self.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP }
    }

    /// With these ports, in host order.
    pub(super) fn with_ports(mut self, sport: u16, dport: u16) -> Self {
        let ([a, b], [c, d]) = (sport.to_be_bytes(), dport.to_be_bytes());
        self.ports = u32::from_ne_bytes([a, b, c, d]);
        self
    }
}
