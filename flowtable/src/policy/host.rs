//! What host endpoints ask of packets that this node forwards: programs by interface.

use std::sync::Arc;

use super::ProgramId;
use crate::PortId;

/// By what a packet comes into the node, or leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// The port of any pod.
    Pod,
    /// What lies inside IP-in-IP comes and goes by the tunnel, not by the uplink under it.
    Ipip,
    /// The same of VXLAN.
    Vxlan,
    Uplink(PortId),
}

impl Interface {
    /// A number of its own for each, the ports' in their order behind the others.
    pub fn code(self) -> u32 {
        match self {
            Self::Pod => 0,
            Self::Ipip => 1,
            Self::Vxlan => 2,
            Self::Uplink(PortId(port)) => 3 + u32::from(port),
        }
    }

    pub fn from_code(code: u16) -> Self {
        match code {
            0 => Self::Pod,
            1 => Self::Ipip,
            2 => Self::Vxlan,
            _ => Self::Uplink(PortId(code - 3)),
        }
    }
}

/// The programs of the host endpoint that an interface belongs to. Where no tier decides, the packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostObeys {
    /// Asked of every packet that comes in, before connection tracking: what it allows is not tracked.
    pub untracked: ProgramId,
    /// Asked of first packets that come in, wherever they go: what it allows is not asked for `ingress`.
    pub pre_dnat: ProgramId,
    /// Asked of first packets that come in and are forwarded.
    pub ingress: ProgramId,
    /// Asked of first packets that are forwarded out.
    pub egress: ProgramId,
}

impl HostObeys {
    /// What is asked of packets that come in.
    pub fn on_entry(&self) -> [ProgramId; 3] {
        [self.untracked, self.pre_dnat, self.ingress]
    }
}

impl Default for HostObeys {
    fn default() -> Self {
        let none = ProgramId::NONE;
        Self { untracked: none, pre_dnat: none, ingress: none, egress: none }
    }
}

/// [`HostObeys`] of the interfaces where there are programs. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPolicies {
    enforced: Arc<[(Interface, HostObeys)]>,
    /// As if staged policies were enforced, of the interfaces where there are such.
    staged: Arc<[(Interface, HostObeys)]>,
}

impl HostPolicies {
    /// Of what is enforced and, as if staged policies were, of what would be: without interfaces that have no program, and
    /// those where what is staged is nothing new.
    pub fn new(
        enforced: impl IntoIterator<Item = (Interface, HostObeys)>,
        staged: impl IntoIterator<Item = (Interface, HostObeys)>,
    ) -> Self {
        let is_asked = |(_, obeys): &(Interface, HostObeys)| *obeys != HostObeys::default();
        let enforced: Arc<[_]> = enforced.into_iter().filter(is_asked).collect();
        let is_new = |(interface, obeys): &(Interface, HostObeys)| {
            find(&enforced, *interface).unwrap_or_default() != *obeys
        };
        let staged = staged.into_iter().filter(is_new).collect();
        Self { enforced, staged }
    }

    /// Whether nothing is enforced.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.enforced.is_empty()
    }

    /// What is asked at the interface. There are few: each is looked at.
    #[inline]
    pub fn at(&self, interface: Interface) -> HostObeys {
        find(&self.enforced, interface).unwrap_or_default()
    }

    /// Whether anything is staged.
    #[inline]
    pub fn is_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// What would be asked at the interface if staged policies were enforced, where that is something else.
    pub fn staged_at(&self, interface: Interface) -> Option<HostObeys> {
        find(&self.staged, interface)
    }

    /// Where anything is asked or staged. Some come twice.
    pub fn interfaces(&self) -> impl Iterator<Item = Interface> {
        self.enforced.iter().chain(&*self.staged).map(|(interface, _)| *interface)
    }

    /// What is enforced.
    pub fn iter(&self) -> impl Iterator<Item = (Interface, HostObeys)> {
        self.enforced.iter().copied()
    }
}

#[inline]
fn find(all: &[(Interface, HostObeys)], interface: Interface) -> Option<HostObeys> {
    all.iter().find(|(other, _)| *other == interface).map(|(_, obeys)| *obeys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_its_code() {
        let ports = [0, 1, 252].map(|port| Interface::Uplink(PortId(port)));
        for (code, interface) in [(0, Interface::Pod), (1, Interface::Ipip), (2, Interface::Vxlan)]
            .into_iter()
            .chain([(3, ports[0]), (4, ports[1]), (255, ports[2])])
        {
            assert_eq!(interface.code(), u32::from(code));
            assert_eq!(Interface::from_code(code), interface);
        }
    }
}
