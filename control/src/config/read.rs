//! Reading the configuration: values checked where they are read, so that an error knows its place in the file.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, Unexpected, Visitor};

use super::{Access, Config, FlowEvent, MidFlow, Share, Uplink};

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot read the configuration: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    /// `line` and `column` count from 1.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Invalid { path: PathBuf, line: usize, column: usize, reason: String },
    #[error("{}: {reason}", path.display())]
    Contradiction { path: PathBuf, reason: String },
}

impl Config {
    /// Reads and checks `text` of the file at `path`, in whose directory relative paths of `source` begin.
    pub(super) fn parse_at(path: &Path, text: &str) -> Result<Self, Error> {
        let mut config = Self::parse(path, text)?;
        let kubeconfig = match &mut config.source.kubernetes {
            Some(Access::Kubeconfig(file)) => Some(file),
            Some(Access::InCluster) | None => None,
        };
        if let Some(base) = path.parent() {
            config.source.directory.iter_mut().chain(kubeconfig).for_each(|path| *path = base.join(&*path));
        }
        Ok(config)
    }

    /// Reads and checks `text`; `path` is what errors call it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let invalid = |at: usize, reason: String| {
            let before = &text[..at];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Error::Invalid { path: path.to_owned(), line, column, reason }
        };
        toml::from_str(text).map_err(|e| invalid(e.span().map_or(0, |span| span.start), reason(e.message())))
    }
}

/// serde's message, with the nearest valid word first where a word is unknown.
///
/// serde writes "unknown field `a`, expected `b` or `c`" (`variant` for a value of an enum), each name in backticks.
fn reason(message: &str) -> String {
    let what = match message.split_once(" `") {
        Some(("unknown field", _)) => "key",
        Some(("unknown variant", _)) => "value",
        _ => return message.to_owned(),
    };
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    let valid: Vec<&str> = quoted.collect();
    let nearest = valid
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
    match nearest {
        Some(nearest) => {
            format!("unknown {what} `{unknown}`: did you mean `{nearest}`? (valid: {})", valid.join(", "))
        }
        None => format!("unknown {what} `{unknown}`: there is none here"),
    }
}

/// A number that `holds`, else an error that says what it has to be.
fn number<'de, D, T>(from: D, must_be: &str, holds: impl Fn(u32) -> bool) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u32>,
{
    let value = i64::deserialize(from)?;
    u32::try_from(value)
        .ok()
        .filter(|v| holds(*v))
        .and_then(|v| T::try_from(v).ok())
        .ok_or_else(|| refused::<D>(value, must_be))
}

fn refused<'de, D: Deserializer<'de>>(value: impl Display, must_be: &str) -> D::Error {
    D::Error::custom(format!("{value} cannot be: it must be {must_be}"))
}

pub(super) fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, "from 1 to 4294967295", |v| v > 0)
}

pub(super) fn access<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Access>, D::Error> {
    Ok(Some(match String::deserialize(from)?.as_str() {
        "in-cluster" => Access::InCluster,
        "" => return Err(refused::<D>("\"\"".to_owned(), "\"in-cluster\", or the path of a kubeconfig")),
        path => Access::Kubeconfig(path.into()),
    }))
}

pub(super) fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
    let must_be = "an IP address and a port, as \"127.0.0.1:9817\" or \"[::1]:9817\"";
    address.map(Some).ok_or_else(|| refused::<D>(format!("{text:?}"), must_be))
}

pub(super) fn connections<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let most = margay_flowtable::FlowTable::MAX_CONNECTIONS;
    number(from, &format!("from 1 to {most}"), |v| v > 0 && v <= most)
}

pub(super) fn datagrams<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let most = margay_flowtable::Fragments::MAX_DATAGRAMS;
    number(from, &format!("from 1 to {most}"), |v| v > 0 && v <= most)
}

pub(super) fn rules<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let most = margay_fastpath::counters::MAX_RULES;
    number(from, &format!("from 1 to {most}"), |v| v > 0 && v <= most)
}

pub(super) fn file_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let least = 4096;
    let value = i64::deserialize(from)?;
    let bytes = u64::try_from(value).ok().filter(|bytes| *bytes >= least);
    bytes.ok_or_else(|| refused::<D>(value, &format!("{least} bytes or more")))
}

pub(super) fn files<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, "from 0 to 1000", |v| v <= 1000)
}

pub(super) fn flow_events<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<FlowEvent>, D::Error> {
    let events = Vec::<FlowEvent>::deserialize(from)?;
    if events.is_empty() {
        return Err(refused::<D>("[]", "some of \"start\", \"end\" and \"denial\""));
    }
    Ok(events)
}

pub(super) fn frame_size<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, "2048 or 4096", |v| v == 2048 || v == 4096)
}

pub(super) fn ring<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    number(from, "a power of two from 64 to 65536", |v| v.is_power_of_two() && (64..=65536).contains(&v))
}

pub(super) fn vni<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    number(from, "from 0 to 16777215 (24 bits)", |v| v < 1 << 24).map(Some)
}

pub(super) fn port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    number(from, "a UDP port from 1 to 65535", |v| v > 0).map(Some)
}

pub(super) fn vlan<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    number(from, "from 1 to 4094 (802.1Q)", |v| (1..=4094).contains(&v)).map(Some)
}

pub(super) fn socket_mode<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    number(from, "a mode that gives others nothing, as 0o600 or 0o660", |v| v & 0o770 == v).map(Some)
}

/// 1280 is what IPv6 asks of every link (RFC 8200 5).
pub(super) fn mtu<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    whole_mtu(from).map(Some)
}

pub(super) fn whole_mtu<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    number(from, "from 1280 to 65535 bytes", |v| v >= 1280)
}

pub(super) fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let duration = jiff::fmt::serde::unsigned_duration::required::deserialize(from)?;
    if duration < Duration::from_secs(1) {
        return Err(refused::<D>(format!("{duration:?}"), "a second or more"));
    }
    Ok(duration)
}

impl<'de> Deserialize<'de> for MidFlow {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "pickup" => Ok(Self::Pickup),
            "drop" => Ok(Self::Drop),
            time => match time.parse::<jiff::SignedDuration>().ok().and_then(|time| time.try_into().ok()) {
                Some(time) => Ok(Self::PickupFor(time)),
                None => Err(refused::<D>(
                    format!("{text:?}"),
                    "\"pickup\", \"drop\", or how long after the start to pick up, as \"10m\"",
                )),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ShareVisitor)
    }
}

/// A number with a point is a fraction, one without counts connections.
struct ShareVisitor;

impl Visitor<'_> for ShareVisitor {
    type Value = Share;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fraction above 0.0 up to 1.0, or a number of connections from 1 on")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Share, E> {
        let holds = value > 0.0 && value <= 1.0;
        holds
            .then_some(Share::Fraction(value))
            .ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Share, E> {
        let number = u32::try_from(value).ok().filter(|number| *number > 0);
        number.map(Share::Connections).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }
}

/// A host of some network; the rest is nobody's.
pub(super) fn tunnel_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Ipv4Addr>, D::Error> {
    let text = String::deserialize(from)?;
    let is_host = |address: &Ipv4Addr| {
        let is_none = address.is_unspecified() || address.is_loopback() || address.is_broadcast();
        !is_none && !address.is_multicast() && !address.is_link_local()
    };
    let address = text.parse().ok().filter(is_host);
    address.map(Some).ok_or_else(|| refused::<D>(format!("{text:?}"), "the IPv4 address of a host"))
}

/// The same of IPv6.
pub(super) fn tunnel_address6<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Ipv6Addr>, D::Error> {
    let text = String::deserialize(from)?;
    let is_host = |address: &Ipv6Addr| {
        let is_none = address.is_unspecified() || address.is_loopback() || address.to_ipv4_mapped().is_some();
        !is_none && !address.is_multicast() && !address.is_unicast_link_local()
    };
    let address = text.parse().ok().filter(is_host);
    address.map(Some).ok_or_else(|| refused::<D>(format!("{text:?}"), "the IPv6 address of a host"))
}

/// Linux names a device in 15 bytes, and 11 of them are the hash.
pub(super) fn interface_prefix<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    device_prefix(from, 4)
}

/// One byte is the digit.
pub(super) fn host_interface_prefix<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    device_prefix(from, 14)
}

fn device_prefix<'de, D: Deserializer<'de>>(from: D, longest: usize) -> Result<String, D::Error> {
    let prefix = String::deserialize(from)?;
    let named = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if prefix.is_empty() || prefix.len() > longest || !prefix.chars().all(named) {
        return Err(refused::<D>(format!("{prefix:?}"), &format!("1 to {longest} letters or digits")));
    }
    Ok(prefix)
}

pub(super) fn cores<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<usize>, D::Error> {
    let cores = Vec::<usize>::deserialize(from)?;
    if cores.iter().collect::<BTreeSet<_>>().len() != cores.len() {
        return Err(refused::<D>(format!("{cores:?}"), "a list of different cores: a core has one worker"));
    }
    Ok(cores)
}

pub(super) fn uplinks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Uplink>, D::Error> {
    let uplinks = Vec::<Uplink>::deserialize(from)?;
    if let Some(uplink) = uplinks.iter().find(|uplink| uplink.interface.is_some() && uplink.vlan.is_none()) {
        return Err(D::Error::custom(format!(
            "uplink {} has an interface and no vlan: untagged, its addresses stand on the device itself",
            uplink.name()
        )));
    }
    let (mut devices, mut names) = (BTreeSet::new(), BTreeSet::new());
    match uplinks.iter().find(|u| !devices.insert(&u.device) || !names.insert(u.name())) {
        Some(twice) => Err(D::Error::custom(format!(
            "uplink {} stands twice: each has a device and a name of its own",
            twice.name()
        ))),
        None => Ok(uplinks),
    }
}
