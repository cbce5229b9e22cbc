//! A plain evaluator of policy: the rules of the API documents, read off the objects as users write them.
//!
//! It shares no code with the program and keeps nothing: each packet is held against each rule of each policy. Slow,
//! and meant to be compared with a document line by line.

pub(crate) mod admin;
pub(crate) mod calico;
pub(crate) mod file;
pub(crate) mod host;
pub(crate) mod kubernetes;
pub(crate) mod probe;
pub(crate) mod selector;
pub(crate) mod tiers;
pub(crate) mod world;

use std::net::IpAddr;

use serde_json::Value;

pub(crate) use world::World;

/// The first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Packet {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    pub(crate) icmp: (u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// What the two ends say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) egress: bool,
    pub(crate) ingress: bool,
}

impl Verdict {
    pub(crate) const UNDELIVERED: Self = Self { egress: false, ingress: false };

    pub(crate) fn allows(self) -> bool {
        self.egress && self.ingress
    }
}

/// The items of a list; of one that is missing or null, none.
pub(crate) fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + Clone {
    value[key].as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// A string; of one that is missing or null, the empty one.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// The number of a protocol given by name or number.
pub(crate) fn protocol(value: &Value) -> u8 {
    if let Some(number) = value.as_u64() {
        return u8::try_from(number).expect("a protocol's number");
    }
    match value.as_str().expect("a protocol").to_ascii_uppercase().as_str() {
        "ICMP" => 1,
        "TCP" => 6,
        "UDP" => 17,
        "ICMPV6" => 58,
        "SCTP" => 132,
        "UDPLITE" => 136,
        number => number.parse().expect("a protocol"),
    }
}

/// The protocol of a port, which is TCP where none is written.
pub(crate) fn transport(port: &Value) -> u8 {
    match &port["protocol"] {
        Value::Null => 6,
        written => protocol(written),
    }
}
