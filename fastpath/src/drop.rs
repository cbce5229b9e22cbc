//! Why a frame ends here: every drop has exactly one reason.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+) => {
        /// Reason of a drop. The words are what `margay replay` and `margay status` print.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The reason in one kebab-case word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// What the word means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its Ethernet header.
    Runt = "runt",
    /// No IP packet behind the Ethernet header.
    NotIp = "not-ip",
    /// 802.1Q tag on a port that carries none.
    Vlan = "vlan",
    /// IP version other than the EtherType says.
    BadVersion = "bad-version",
    /// IHL below 5, or a header longer than the packet; of IPv6 an extension header too.
    BadHeaderLength = "bad-header-length",
    /// IP total length shorter than the header or longer than the frame.
    BadTotalLength = "bad-total-length",
    /// IP header checksum wrong (RFC 1812 5.2.2).
    BadHeaderChecksum = "bad-header-checksum",
    /// An option of IPv4 with a length that cannot be: 0, 1, or beyond the header.
    BadOptions = "bad-options",
    /// A source route: an option of IPv4 (RFC 7126 4.3, 4.4), or of IPv6 a routing header of type 0 or 1 (RFC 5095).
    SourceRoute = "source-route",
    /// Extension headers of IPv6 that are too many, out of place, or behind a fragment header.
    ExtensionHeaders = "extension-headers",
    /// A fragment that is empty, cut where none can be, or reaches beyond the longest packet.
    BadFragment = "bad-fragment",
    /// A first fragment without its whole transport header, or one that begins inside TCP's (RFC 1858).
    TinyFragment = "tiny-fragment",
    /// A fragment that overlaps another, contradicts it or repeats it, or of a datagram in which some did (RFC 5722).
    FragmentOverlap = "fragment-overlap",
    /// A fragment whose datagram's first one, which has the ports, did not come in time.
    FragmentUnmatched = "fragment-unmatched",
    /// A fragment of a datagram for which there is no room (`fragments.datagrams`), or not in its sender's share.
    FragmentTableFull = "fragment-table-full",
    /// A fragment that came before the first one of its datagram, where too many others wait for theirs.
    FragmentQueueFull = "fragment-queue-full",
    /// A fragment of a tunnel packet, which is not put together: the tunnel's MTU is too large for the way.
    TunnelFragment = "tunnel-fragment",
    /// The transport header is cut off or contradicts the packet's length.
    TruncatedTransport = "truncated-transport",
    /// Source address that no packet may come with: multicast, broadcast, loopback, 0/8 (RFC 1812 5.3.7), 169.254/16, IPv4-mapped, our own.
    MartianSource = "martian-source",
    /// Destination address that is not forwarded: loopback, 0/8, reserved (RFC 1812 5.3.7), IPv4-mapped.
    MartianDestination = "martian-destination",
    /// Multicast or broadcast, which the gateway does not forward.
    Multicast = "multicast",
    /// A pod sent from an address that is not its own, or a pod's or its node's address came in where it is not.
    SourceSpoofed = "source-spoofed",
    /// A pod sent a tunnel packet of its own to a node, which the configuration may allow (`tunnel.from_pods`).
    TunnelFromPod = "tunnel-from-pod",
    /// Tunnel packet from an address that is no known node's.
    UnknownTunnelSource = "unknown-tunnel-source",
    /// VXLAN network identifier that is not ours.
    WrongVni = "wrong-vni",
    /// VXLAN header without the I flag, or cut off (RFC 7348 5).
    BadVxlanHeader = "bad-vxlan-header",
    /// The UDP checksum of a tunnel packet over IPv6 is wrong.
    TunnelChecksum = "tunnel-checksum",
    /// A tunnel packet over IPv6 without a UDP checksum (RFC 6936), which the configuration may accept (`tunnel.udp6_zero_checksum`).
    TunnelNoChecksum = "tunnel-no-checksum",
    /// What the tunnel carries is no IP packet.
    InnerNotIp = "inner-not-ip",
    /// The inner Ethernet frame is neither for our VTEP's MAC nor for everyone.
    InnerWrongMac = "inner-wrong-mac",
    /// The tunnel carries ARP, which the kernel of a node answers from its own tables and never sends.
    InnerArp = "inner-arp",
    /// The inner Ethernet frame has a VLAN tag (RFC 7348 6.1).
    InnerVlan = "inner-vlan",
    /// The sender of the tunnel packet is no node that sends from the inner source (`tunnel.inner_source`).
    InnerSource = "inner-source",
    /// A tunnel packet inside a tunnel packet.
    NestedTunnel = "nested-tunnel",
    /// Congestion was marked on the outer header of a packet that cannot carry the mark (RFC 6040 4.2).
    EcnNotCapable = "ecn-not-capable",
    /// No route to the destination.
    NoRoute = "no-route",
    /// An address of a local block that no pod holds.
    Blackhole = "blackhole",
    /// The next hop's neighbour is not resolved by the kernel yet.
    NeighbourUnresolved = "neighbour-unresolved",
    /// For this node itself, and it has no way there: it came in a tunnel, or the port into the kernel is not open.
    HostBound = "host-bound",
    /// A pod's packet to its own node, which the configuration forbids (`policy.endpoint_to_host`).
    EndpointToHost = "endpoint-to-host",
    /// A policy denied it.
    PolicyDeny = "policy-deny",
    /// TTL ran out (answered by ICMP time exceeded).
    TtlExceeded = "ttl-exceeded",
    /// Larger than the MTU with DF set (answered by ICMP fragmentation needed).
    FragmentationNeeded = "fragmentation-needed",
    /// Larger than the MTU without DF, and not to be split into fragments or segments either.
    TooBig = "too-big",
    /// Several packets in one (GSO) that are not cut: of SCTP or tunnels, or of UDP where the kernel does not tell where. A port in skb mode alone takes such in.
    UdpGso = "udp-gso",
    /// No room before the packet for the outer headers.
    NoHeadroom = "no-headroom",
    /// No free frame for what was to be made of it: fragments or segments.
    NoFrame = "no-frame",
    /// Its end is missing: a frame longer than a chunk, while no large buffer was free, or longer than those are.
    NoLargeBuffer = "no-large-buffer",
    /// TCP in the middle of a connection that is not known, where such are not picked up (`conntrack.mid_flow`).
    NoConnection = "no-connection",
    /// The flow table has no entry for a new connection, free or held by one that can make room.
    FlowTableFull = "flow-table-full",
    /// The endpoint holds its share of the flow table, and no connection of its own can make room.
    EndpointShare = "endpoint-share",
    /// The output port's ring is full, and a burst waits for it already.
    TxFull = "tx-full",
    /// The output port is gone.
    PortGone = "port-gone",
}

impl DropReason {
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_kebab_case_and_distinct() {
        let words: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), DropReason::COUNT);
        for word in words {
            assert!(
                word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{word}"
            );
        }
    }

    #[test]
    fn architecture_lists_every_reason_with_its_meaning() {
        let document = include_str!("../../ARCHITECTURE.md");
        for reason in DropReason::ALL {
            let row = format!("| `{}` | {} |", reason.word(), reason.meaning().trim());
            assert!(document.lines().any(|line| line == row), "ARCHITECTURE.md lacks the row {row}");
        }
    }

    #[test]
    fn numbered_in_order() {
        assert!(DropReason::ALL.iter().enumerate().all(|(i, reason)| i == *reason as usize));
    }
}
