//! Host endpoints of projectcalico.org/v3: whom the interfaces of a node belong to, and what is asked there of packets that
//! the node forwards.

use serde_json::Value;

use super::tiers::{Action, Policy};
use super::world::Item;
use super::{Direction, Packet, World, calico, items, text};

/// Protocol and port of what a host is always to be reached at.
const FAILSAFE_IN: [(u8, u16); 9] =
    [(6, 22), (17, 68), (6, 179), (6, 2379), (6, 2380), (6, 5473), (6, 6443), (6, 6666), (6, 6667)];
/// Of what a host always is to reach.
const FAILSAFE_OUT: [(u8, u16); 9] =
    [(17, 53), (17, 67), (6, 179), (6, 2379), (6, 2380), (6, 5473), (6, 6443), (6, 6666), (6, 6667)];

/// An interface of the node: its name, and whether it has the node's addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface {
    pub(crate) name: Option<&'static str>,
    pub(crate) is_uplink: bool,
}

/// What is said of a packet before connection tracking, if anything is; where it comes in; where it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) untracked: Option<bool>,
    pub(crate) ingress: bool,
    pub(crate) egress: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    DoNotTrack,
    PreDnat,
    Forward,
}

pub(crate) fn verdict(
    world: &World,
    node: &str,
    packet: &Packet,
    entry: Interface,
    exit: Option<Interface>,
) -> Verdict {
    let at = |interface| world.host_endpoint_at(node, interface);
    let is_failsafe_in = FAILSAFE_IN.contains(&(packet.protocol, packet.dport));
    let answers_failsafe = FAILSAFE_OUT.contains(&(packet.protocol, packet.sport));
    let ask = |endpoint: &Value, stage, direction| world.ask(endpoint, packet, stage, direction);
    let first = at(entry);
    let untracked = first
        .filter(|endpoint| endpoint["spec"]["interfaceName"] != "*")
        .filter(|_| !is_failsafe_in && !answers_failsafe)
        .and_then(|endpoint| ask(endpoint, Stage::DoNotTrack, Direction::Ingress));
    let early = first
        .map(|own| if world.has_pre_dnat(own) { own } else { world.everywhere(node).unwrap_or(own) })
        .filter(|_| !is_failsafe_in)
        .and_then(|endpoint| ask(endpoint, Stage::PreDnat, Direction::Ingress));
    let forward = |endpoint, direction| ask(endpoint, Stage::Forward, direction);
    // What is not forwarded is asked no more, and nor is what was allowed before destination NAT.
    let late = exit.and(first).and_then(|endpoint| forward(endpoint, Direction::Ingress));
    let last = exit.and_then(at).and_then(|endpoint| forward(endpoint, Direction::Egress));
    Verdict { untracked, ingress: early.or(late).unwrap_or(true), egress: last.unwrap_or(true) }
}

impl World {
    /// One that names the interface, or has an address of it and names none; else one for all interfaces. Of several the
    /// first by name.
    fn host_endpoint_at(&self, node: &str, interface: Interface) -> Option<&Value> {
        let has_address = |endpoint: &Value| {
            let mut expected = items(&endpoint["spec"], "expectedIPs").filter_map(Value::as_str);
            let own = &self.nodes[node].addresses;
            interface.is_uplink && expected.any(|text| own.contains(&text.parse().expect("an address")))
        };
        let is_its = |endpoint: &&Value| match text(&endpoint["spec"], "interfaceName") {
            "" => has_address(endpoint),
            name => interface.name == Some(name),
        };
        first(self.of_node(node).filter(is_its)).or_else(|| self.everywhere(node))
    }

    fn of_node(&self, node: &str) -> impl Iterator<Item = &Value> {
        self.host_endpoints.iter().filter(move |endpoint| endpoint["spec"]["node"] == node)
    }

    fn everywhere(&self, node: &str) -> Option<&Value> {
        first(self.of_node(node).filter(|endpoint| endpoint["spec"]["interfaceName"] == "*"))
    }

    /// Whether a policy that is asked before destination NAT selects the endpoint. Where none does, Felix has the one for all
    /// interfaces asked.
    fn has_pre_dnat(&self, endpoint: &Value) -> bool {
        let item = Item::of_host_endpoint(endpoint);
        let is_asked = |policy: &&Policy| policy.spec["preDNAT"] == true && calico::selects(policy, &item);
        self.in_tiers(is_asked).into_iter().any(|(_, policies)| !policies.is_empty())
    }

    /// What the policies of a stage do; none where no tier decides.
    fn ask(&self, endpoint: &Value, packet: &Packet, stage: Stage, direction: Direction) -> Option<bool> {
        let item = Item::of_host_endpoint(endpoint);
        let is_asked = |policy: &&Policy| {
            let spec = &policy.spec;
            let own_stage = match (spec["doNotTrack"] == true, spec["preDNAT"] == true) {
                (true, _) => Some(Stage::DoNotTrack),
                (_, true) => Some(Stage::PreDnat),
                _ => (spec["applyOnForward"] == true).then_some(Stage::Forward),
            };
            own_stage == Some(stage) && calico::has_type(spec, direction) && calico::selects(policy, &item)
        };
        for (tier, policies) in self.in_tiers(is_asked) {
            let decided = policies.iter().find_map(|policy| policy.decide(self, packet, direction));
            match decided {
                Some(Action::Allow) => return Some(true),
                Some(Action::Deny) => return Some(false),
                // Nothing is denied at the end of what comes before other policies.
                None if stage == Stage::Forward && tier.denies && !policies.is_empty() => return Some(false),
                Some(Action::Pass) | None => {}
            }
        }
        None
    }
}

/// The first by name.
fn first<'a>(endpoints: impl Iterator<Item = &'a Value>) -> Option<&'a Value> {
    endpoints.min_by_key(|endpoint| text(&endpoint["metadata"], "name"))
}
