//! Which connections are asked for: parameters as they are written, read strictly, and what they mean now.

use std::collections::HashSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use margay_flowtable::{Flow, FlowTable, Key, Phase, RuleId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::cursor::Cursor;
use super::walk::Walk;
use super::{DENIED, has_end, word};
use crate::admin::Refusal;
use crate::admin::endpoints::name;
use crate::state::Name;

/// Connections of an answer, where nothing else is asked for, and at most.
const LIMIT: usize = 100;
const MOST: usize = 10_000;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// With an end in this network, or of this address.
    address: Option<String>,
    /// With an end at this pod, NAMESPACE/NAME.
    pod: Option<String>,
    /// With this port at either end; of ICMP, this identifier.
    port: Option<u16>,
    /// Of this protocol: tcp, udp, sctp, icmp, icmpv6, or a number.
    protocol: Option<String>,
    /// In this state, in the words of `state` in the answer.
    state: Option<String>,
    /// That this policy let through, logged or passed on: `NAMESPACE/NAME`, or `NAME` of one that is cluster-wide.
    policy: Option<String>,
    /// The most first; unsorted unless said.
    #[param(inline)]
    sort: Option<Sort>,
    /// Whether to measure rates, which takes a second; sorted by rate they are.
    #[serde(default)]
    rates: bool,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 10000; 100 unless said.
    limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    /// By the bytes that it has carried both ways.
    Bytes,
    Packets,
    /// By the bytes a second that it carries now.
    Rate,
}

impl Sort {
    pub(super) const ALL: [Self; 3] = [Self::Bytes, Self::Packets, Self::Rate];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Packets => "packets",
            Self::Rate => "rate",
        }
    }
}

/// Names that only the control loop knows the meaning of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    pub(crate) pod: Option<Name>,
    /// As people write it.
    pub(crate) policy: Option<String>,
}

/// What they mean now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meant {
    pub(crate) pod: Option<Vec<IpAddr>>,
    pub(crate) policy: Option<HashSet<RuleId>>,
}

/// What is asked, well formed.
#[derive(Clone, Debug)]
pub(super) struct Question {
    net: Option<IpNet>,
    ends: Ends,
    port: Option<u16>,
    protocol: Option<u8>,
    state: Option<&'static str>,
    sort: Option<Sort>,
    rates: bool,
    cursor: Option<Cursor>,
    limit: usize,
}

impl Asked {
    pub(super) fn read(self) -> Result<Question, Refusal> {
        let limit = self.limit.unwrap_or(LIMIT);
        if !(1..=MOST).contains(&limit) {
            return Err(Refusal::bad_request(format!("limit is 1 to {MOST}, not {limit}")));
        }
        let cursor = self.cursor.as_deref().map(|text| cursor(text, self.sort)).transpose()?;
        Ok(Question {
            net: self.address.as_deref().map(net).transpose()?,
            ends: Ends { pod: self.pod.as_deref().map(name).transpose()?, policy: self.policy },
            port: self.port,
            protocol: self.protocol.as_deref().map(protocol).transpose()?,
            state: self.state.as_deref().map(state).transpose()?,
            rates: self.rates || self.sort == Some(Sort::Rate),
            sort: self.sort,
            cursor,
            limit,
        })
    }
}

impl Question {
    pub(super) fn ends(&self) -> Ends {
        self.ends.clone()
    }

    pub(super) fn walk(self, table: Arc<FlowTable>, meant: Meant) -> Walk {
        let Self { net, port, protocol, state, sort, rates, cursor, limit, .. } = self;
        let filter = Filter { net, meant, port, protocol, state };
        Walk { table, filter, sort, rates, cursor, limit }
    }
}

/// Which connections are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) net: Option<IpNet>,
    pub(super) meant: Meant,
    pub(super) port: Option<u16>,
    pub(super) protocol: Option<u8>,
    pub(super) state: Option<&'static str>,
}

impl Filter {
    pub(super) fn wants(&self, flow: &Flow, table: &FlowTable) -> bool {
        let (key, trails) = (&flow.key, table.trails());
        let has_port = |port: u16| key.ports().0 == port || key.ports().1 == port;
        let has_met = |rules: &HashSet<RuleId>| {
            let mut met = flow.trails.ids().into_iter().flat_map(|trail| trails.rules(trail));
            met.any(|rule| rules.contains(&rule))
        };
        self.protocol.is_none_or(|protocol| key.protocol() == protocol)
            && self.port.is_none_or(has_port)
            && self.net.is_none_or(|net| has_end(key, |address| net.contains(&address)))
            && self.meant.pod.as_ref().is_none_or(|pod| has_end(key, |address| pod.contains(&address)))
            && self.state.is_none_or(|state| word(flow) == state)
            && self.meant.policy.as_ref().is_none_or(has_met)
    }
}

fn net(text: &str) -> Result<IpNet, Refusal> {
    let net = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
    net.map_err(|_| {
        Refusal::bad_request(format!("{text:?} is neither an IP address nor a network such as 10.0.0.0/8"))
    })
}

fn protocol(text: &str) -> Result<u8, Refusal> {
    let known = [("icmp", 1), ("tcp", 6), ("udp", 17), ("icmpv6", 58), ("sctp", 132)];
    let named = known.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        Refusal::bad_request(format!(
            "{text:?} is no protocol: tcp, udp, sctp, icmp, icmpv6, or a number up to 255"
        ))
    })
}

fn state(text: &str) -> Result<&'static str, Refusal> {
    let mut words = Phase::ALL.map(Phase::word).into_iter().chain([DENIED]);
    words.find(|word| text.eq_ignore_ascii_case(word)).ok_or_else(|| {
        let words: Vec<_> = Phase::ALL.map(Phase::word).into_iter().chain([DENIED]).collect();
        Refusal::bad_request(format!("{text:?} is no state: there are {}", words.join(", ")))
    })
}

fn cursor(text: &str, sort: Option<Sort>) -> Result<Cursor, Refusal> {
    let is_fitting = |cursor: &Cursor| match cursor {
        Cursor::At(_) => sort.is_none(),
        Cursor::Behind { sort: sorted, .. } => sort == Some(*sorted),
    };
    text.parse().ok().filter(is_fitting).ok_or_else(|| {
        Refusal::bad_request(format!(
            "cursor {text:?} is of no page that is sorted so: it is what `next` said"
        ))
    })
}
