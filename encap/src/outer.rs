//! What of a packet's IP header its tunnel's outer one takes over, and what it has of its own.
//!
//! ECN is not among it: the outer field is always the inner one (RFC 6040 4.1, normal mode).

/// The policy of one kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outer {
    pub dscp: Dscp,
    pub ttl: Ttl,
    pub dont_fragment: DontFragment,
}

/// DSCP (RFC 2983 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dscp {
    /// Of 6 bits.
    Fixed(u8),
    /// The inner packet's.
    Copy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// The tunnel is one hop to the inner packet (RFC 2003 3.1), and every outer packet lives as long.
    Fixed(u8),
    /// That with which the inner packet leaves.
    Inherit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DontFragment {
    Clear,
    Set,
    /// The inner packet's.
    Copy,
}

impl Outer {
    /// As Linux' VXLAN device without options (`drivers/net/vxlan`).
    pub const VXLAN: Self =
        Self { dscp: Dscp::Fixed(0), ttl: Ttl::Fixed(64), dont_fragment: DontFragment::Clear };
    /// As Linux' `tunl0`, which Calico's nodes use (`net/ipv4/ip_tunnel.c`). That DF inside is DF outside is RFC 2003 3.1.
    pub const IPIP: Self =
        Self { dscp: Dscp::Fixed(0), ttl: Ttl::Inherit, dont_fragment: DontFragment::Copy };

    /// The TOS byte that is every packet's.
    pub(crate) const fn tos(self) -> u8 {
        match self.dscp {
            Dscp::Fixed(dscp) => dscp << 2,
            Dscp::Copy => 0,
        }
    }

    /// The TTL that is every packet's; 0 where the inner one is taken.
    pub(crate) const fn ttl(self) -> u8 {
        match self.ttl {
            Ttl::Fixed(ttl) => ttl,
            Ttl::Inherit => 0,
        }
    }
}
