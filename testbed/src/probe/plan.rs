//! From probes to attempts: which namespaces and addresses, and which probes a lab cannot try.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::Result;
use margay_control::check::{self, Answer};
use margay_control::compile::gateways;
use margay_control::probe::{self, Expect, Packet, Probe};
use margay_control::state::{Cluster, Name, Protocol};

use super::attempt::{Attempt, Place, Transport};
use super::denial_expected;
use super::token::Token;
use crate::lab::Lab;
use crate::netns;
use crate::way::{End, Ways};

/// When a connection that should be refused counts as refused: two more SYNs have gone by then.
const REFUSED_AFTER: Duration = Duration::from_millis(3500);
/// When one that should succeed counts as refused; only failures take so long.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// What is to become of a probe.
pub(super) struct Plan {
    /// Why it cannot be tried; otherwise there is an attempt for it.
    pub(super) skip: Option<String>,
    /// What policy says.
    pub(super) answer: Option<Answer>,
}

pub(super) struct Planner<'a> {
    lab: &'a Lab,
    ways: Ways<'a>,
    /// What policy says of each probe that stands for packets, by its position.
    answers: HashMap<usize, Answer>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(lab: &'a Lab, probes: &[Probe]) -> Result<Self> {
        let (positions, known): (Vec<usize>, Vec<Probe>) = probes
            .iter()
            .enumerate()
            .filter(|(_, probe)| probe.packets(&lab.cluster).is_ok())
            .map(|(position, probe)| (position, probe.clone()))
            .unzip();
        let answers = positions.into_iter().zip(check::check(&lab.cluster, &known)?).collect();
        Ok(Self { lab, ways: Ways::new(&lab.topology, &lab.cluster)?, answers })
    }

    /// Adds the attempt for the probe at `position` to `attempts`, or says why there is none.
    pub(super) fn plan(&self, position: usize, probe: &Probe, attempts: &mut Vec<Attempt>) -> Plan {
        let answer = self.answers.get(&position).cloned();
        let skip = match self.attempt(probe, answer.as_ref(), attempts.len()) {
            Ok(attempt) => {
                attempts.push(attempt);
                None
            }
            Err(reason) => Some(reason),
        };
        Plan { skip, answer }
    }

    fn attempt(&self, probe: &Probe, answer: Option<&Answer>, number: usize) -> Result<Attempt, String> {
        if let probe::End::Service(name) = &probe.to {
            return Err(format!("the lab has no Services: nobody translates the address of {name}"));
        }
        let packets = probe.packets(&self.lab.cluster).map_err(|why| why.to_string())?;
        if packets.is_empty() {
            return Err("an end is a finished pod, which has no address".into());
        }
        let &[Packet { src: IpAddr::V4(src), dst: IpAddr::V4(dst), .. }] = packets.as_slice() else {
            return Err("probes are tried over IPv4 alone".into());
        };
        let from = self.end(&probe.from, src)?;
        let to = self.end(&probe.to, dst)?;
        let way = self.ways.between(&from, &to, dst.into())?;
        let back = self.ways.between(&to, &from, src.into());
        let back = back.map_err(|why| format!("the answer has no way back: {why}"))?;
        // What a pod behind a gateway sends to a node goes around the gateway, for no block leads there; the answer to
        // the pod does not, and is judged as if the pod were called.
        if served(&self.lab.cluster, &from, &back.difference(&way).cloned().collect()) {
            return Err(format!("the gateway of {from} would see the answer alone"));
        }
        if denial_expected(probe) {
            self.enforced(&from, &to, answer, &way)?;
        }
        Ok(Attempt {
            source: self.place(&from, src)?,
            target: self.place(&to, dst)?,
            transport: transport(probe),
            source_port: probe.sport,
            patience: if denial_expected(probe) { REFUSED_AFTER } else { LOST_AFTER },
            token: Token::new(u32::try_from(number).map_err(|_| "too many probes")?),
        })
    }

    /// Who has the address in the lab.
    fn end(&self, end: &probe::End, address: Ipv4Addr) -> Result<End, String> {
        let Lab { cluster, topology, .. } = self.lab;
        let pod = |name: &Name| match cluster.pods.get(name) {
            Some(pod) if pod.finished => Err(format!("pod {name} is finished")),
            Some(pod) if pod.host_network => Ok(End::Node(pod.node.clone())),
            _ => Ok(End::Pod(name.clone())),
        };
        match end {
            probe::End::Pod(name) => pod(name),
            probe::End::Node(name) => Ok(End::Node(name.clone())),
            probe::End::Address(_) => {
                match (topology.pod_at(address.into()), topology.node_at(address.into())) {
                    (Some((name, _)), _) => pod(name),
                    (None, Some(node)) => Ok(End::Node(node.name.clone())),
                    (None, None) => Err(format!("{address} is outside the lab")),
                }
            }
            probe::End::Service(name) => Err(format!("svc:{name} is no place in the lab")),
        }
    }

    fn place(&self, end: &End, address: Ipv4Addr) -> Result<Place, String> {
        let topology = &self.lab.topology;
        let netns = match end {
            End::Pod(name) => topology.pods.get(name).map(|pod| &pod.netns),
            End::Node(name) => topology.nodes.get(name).map(|node| &node.netns),
        };
        match netns.filter(|netns| netns::exists(netns)) {
            Some(netns) => Ok(Place { netns: netns.clone(), address }),
            None => Err(format!("{end} has no namespace: it came after `margay-lab up`")),
        }
    }

    /// Whether a Margay on the way serves the end whose policy denies.
    fn enforced(
        &self,
        from: &End,
        to: &End,
        answer: Option<&Answer>,
        way: &BTreeSet<String>,
    ) -> Result<(), String> {
        let cluster = &self.lab.cluster;
        let denies = |verdict: Option<Expect>| verdict == Some(Expect::Deny);
        // Where policy allows what the probe expects denied, whoever serves an end may prove it wrong.
        let agreed = answer.is_some_and(|answer| denies(Some(answer.verdict)));
        let egress = !agreed || denies(answer.map(|answer| answer.egress.verdict));
        let ingress = !agreed || denies(answer.map(|answer| answer.ingress.verdict));
        if (egress && served(cluster, from, way)) || (ingress && served(cluster, to, way)) {
            return Ok(());
        }
        Err(match (egress, ingress) {
            (true, false) => format!("no Margay on the way enforces the egress policy of {from}"),
            (false, true) => format!("no Margay on the way enforces the ingress policy of {to}"),
            _ => format!("no Margay on the way enforces the policy of {from} or {to}"),
        })
    }
}

fn served(cluster: &Cluster, end: &End, way: &BTreeSet<String>) -> bool {
    let End::Pod(name) = end else { return false };
    cluster
        .pods
        .get(name)
        .is_some_and(|pod| way.iter().any(|gateway| gateways::serves(cluster, gateway, pod)))
}

fn transport(probe: &Probe) -> Transport {
    let port = probe.port.unwrap_or(0);
    match probe.protocol {
        Protocol::TCP => Transport::Tcp(port),
        Protocol::UDP => Transport::Udp(port),
        Protocol::SCTP => Transport::Sctp(port),
        Protocol::ICMP => Transport::Icmp { kind: probe.icmp.0, code: probe.icmp.1 },
        Protocol(other) => Transport::Other(other),
    }
}
