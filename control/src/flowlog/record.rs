//! A record as a line of JSON: an interface that others read (docs/flow-logs.md).

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::flow::{End, Flow, Party, What};
use crate::admin::policies::Rule;

#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    /// When it was written.
    time: Timestamp,
    /// Node of the gateway that tells it.
    gateway: &'a str,
    event: &'static str,
    /// `allow` or `deny`.
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    first: Timestamp,
    last: Timestamp,
    src: Who<'a>,
    dst: Who<'a>,
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    dport: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<[u8; 2]>,
    rules: Rules,
    flows: u64,
    packets: u64,
    bytes: u64,
    reply_packets: u64,
    reply_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Who<'a> {
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Rules {
    egress: Option<Rule>,
    ingress: Option<Rule>,
}

impl<'a> From<&'a End> for Who<'a> {
    fn from(end: &'a End) -> Self {
        let (namespace, pod, node) = match &end.party {
            Party::Pod { name, pod } => {
                (Some(name.namespace.as_str()), Some(name.name.as_str()), Some(pod.node.as_str()))
            }
            Party::Node(name) => (None, None, Some(&**name)),
            Party::Other => (None, None, None),
        };
        Self { address: end.address, namespace, pod, node: node.filter(|node| !node.is_empty()) }
    }
}

impl<'a> Record<'a> {
    pub(super) fn new(flow: &'a Flow, gateway: &'a str, time: Timestamp) -> Self {
        let Flow { key, sum } = flow;
        let (event, action, reason) = match key.what {
            What::Start => ("start", "allow", None),
            What::End(reason) => ("end", "allow", Some(reason.word())),
            What::Denial => ("denial", "deny", None),
        };
        let [egress, ingress] = key.rules.each_ref().map(|rule| rule.as_ref().map(Rule::from));
        Self {
            time,
            gateway,
            event,
            action,
            reason,
            first: sum.first,
            last: sum.last,
            src: (&key.src).into(),
            dst: (&key.dst).into(),
            protocol: key.protocol,
            sport: key.sport,
            dport: key.dport,
            icmp: key.icmp.map(|(kind, code)| [kind, code]),
            rules: Rules { egress, ingress },
            flows: sum.flows,
            packets: sum.original.packets,
            bytes: sum.original.bytes,
            reply_packets: sum.reply.packets,
            reply_bytes: sum.reply.bytes,
        }
    }

    /// Appends the line.
    pub(super) fn write(&self, lines: &mut Vec<u8>) {
        // Into memory, and of keys that are strings: it cannot fail.
        if serde_json::to_writer(&mut *lines, self).is_ok() {
            lines.push(b'\n');
        }
    }
}
