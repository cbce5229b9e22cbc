//! `[tunnel]`, `[icmp]` and `[tcp]`: what tunnel packets look like and may carry, and what is done for packets that do not fit.

use std::fmt;

use margay_flowtable::{DontFragment, Dscp, InnerSource, Outer, Ttl};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::read;

/// `[tunnel]`: numbers of the overlay, whose defaults are what Calico's `FelixConfiguration` says, of this node or of all,
/// else Calico's own; and what may be in tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tunnel {
    /// VXLAN network identifier, 24 bits. Calico's default: 4096.
    #[serde(deserialize_with = "read::vni")]
    pub vni: Option<u32>,
    /// UDP port that VXLAN is sent to. Calico's default: 4789.
    #[serde(deserialize_with = "read::port")]
    pub vxlan_port: Option<u16>,
    /// From which addresses a node may send what is in its tunnel packets: `"strict"`, its own, those of its pods and, if it is
    /// a gateway, those of the nodes behind it; `"loose"`, those of any node and its pods; `"off"`, any. Default strict.
    #[serde(deserialize_with = "inner_source")]
    pub inner_source: InnerSource,
    /// Whether pods may send tunnel packets of their own to nodes. Default false.
    pub from_pods: bool,
    /// Whether VXLAN over IPv6 goes out with the UDP checksum 0 and may come in so (RFC 6935, RFC 6936 5), which spares reading the
    /// whole packet. A peer that is a Linux node takes it only where its device has `udp6zerocsumrx`, which Calico's has not.
    /// Default false: it is computed, and a packet without one is dropped. Over IPv4 it is always 0 and may be anything.
    pub udp6_zero_checksum: bool,
    /// `[tunnel.vxlan]`. By default DSCP 0, TTL 64 and DF clear, as Linux' device.
    pub vxlan: TunnelKind,
    /// `[tunnel.ipip]`. By default DSCP 0, the inner packet's TTL and its DF, as Linux' `tunl0`.
    pub ipip: TunnelKind,
}

/// The outer header of one kind of tunnel, and the most that is in it. ECN is always as RFC 6040 has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelKind {
    /// 0 to 63, or `"copy"`: the inner packet's.
    #[serde(deserialize_with = "dscp")]
    pub dscp: Option<Dscp>,
    /// 1 to 255, or `"inherit"`: that with which the inner packet leaves.
    #[serde(deserialize_with = "ttl")]
    pub ttl: Option<Ttl>,
    /// true, false, or `"copy"`: the inner packet's.
    #[serde(deserialize_with = "dont_fragment")]
    pub df: Option<DontFragment>,
    /// Largest IP packet to send through such a tunnel, in bytes, where that is less than what the uplink's MTU leaves. Default:
    /// what Calico's `FelixConfiguration` says (`vxlanMTU`, `ipipMTU`), if it says anything.
    #[serde(deserialize_with = "read::mtu")]
    pub mtu: Option<u16>,
}

impl TunnelKind {
    /// What is configured, and of `default` what is not.
    pub fn outer(self, default: Outer) -> Outer {
        Outer {
            dscp: self.dscp.unwrap_or(default.dscp),
            ttl: self.ttl.unwrap_or(default.ttl),
            dont_fragment: self.df.unwrap_or(default.dont_fragment),
        }
    }
}

/// `[icmp]`: errors that the gateway sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Icmp {
    /// Whether a packet without a route is answered (net unreachable), and one to an address of this node's blocks that no
    /// pod holds (host unreachable). Default false.
    pub unreachable: bool,
}

/// `[tcp]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Whether the MSS option of SYN and SYN-ACK is lowered to what fits both ways through the gateway. Default false.
    pub clamp_mss: bool,
}

fn inner_source<'de, D: Deserializer<'de>>(from: D) -> Result<InnerSource, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Named {
        Strict,
        Loose,
        Off,
    }
    Ok(match Named::deserialize(from)? {
        Named::Strict => InnerSource::Strict,
        Named::Loose => InnerSource::Loose,
        Named::Off => InnerSource::Off,
    })
}

fn dscp<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Dscp>, D::Error> {
    let must_be = "a DSCP from 0 to 63, or \"copy\"";
    let number = |number| u8::try_from(number).ok().filter(|dscp| *dscp < 64).map(Dscp::Fixed);
    from.deserialize_any(NumberOr { must_be, word: ("copy", Dscp::Copy), number }).map(Some)
}

fn ttl<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Ttl>, D::Error> {
    let must_be = "a TTL from 1 to 255, or \"inherit\"";
    let number = |number| u8::try_from(number).ok().filter(|ttl| *ttl > 0).map(Ttl::Fixed);
    from.deserialize_any(NumberOr { must_be, word: ("inherit", Ttl::Inherit), number }).map(Some)
}

/// A number that means something, or a word that does.
struct NumberOr<T, F> {
    must_be: &'static str,
    word: (&'static str, T),
    number: F,
}

impl<T, F: Fn(i64) -> Option<T>> Visitor<'_> for NumberOr<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.must_be)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        (self.number)(value).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        if value == self.word.0 {
            return Ok(self.word.1);
        }
        Err(E::invalid_value(Unexpected::Str(value), &self))
    }
}

fn dont_fragment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DontFragment>, D::Error> {
    struct BoolOrCopy;

    impl Visitor<'_> for BoolOrCopy {
        type Value = DontFragment;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, false, or \"copy\"")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<DontFragment, E> {
            Ok(if value { DontFragment::Set } else { DontFragment::Clear })
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<DontFragment, E> {
            if value == "copy" {
                return Ok(DontFragment::Copy);
            }
            Err(E::invalid_value(Unexpected::Str(value), &self))
        }
    }

    from.deserialize_any(BoolOrCopy).map(Some)
}
