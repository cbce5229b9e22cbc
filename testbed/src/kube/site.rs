//! Where servers listen: on loopback, or in a network namespace of a lab's.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::ip::{self, Batch};
use crate::lab::Lab;
use crate::netns;

/// The router's address toward the namespace, and the namespace's: of the range for benchmarks (RFC 2544), which no
/// lab's manifests name.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Where servers listen.
#[derive(Clone, Debug)]
pub enum Site {
    Loopback,
    /// In a network namespace that has this address.
    Netns {
        name: String,
        address: Ipv4Addr,
    },
}

impl Site {
    pub(super) fn address(&self) -> Ipv4Addr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Netns { address, .. } => *address,
        }
    }

    pub(super) fn netns(&self) -> Option<&str> {
        match self {
            Self::Loopback => None,
            Self::Netns { name, .. } => Some(name),
        }
    }

    /// The program, to run at the site and to be killed with the thread that starts it.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = match self {
            Self::Loopback => ip::command("setpriv"),
            Self::Netns { name, .. } => ip::in_netns(name, "setpriv"),
        };
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    }

    /// Runs `work` where sockets are made at the site.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match self {
            Self::Loopback => Ok(work()),
            Self::Netns { name, .. } => netns::within(name, work),
        }
    }

    /// Makes a namespace beyond the lab's router, which every node reaches by its uplink. It goes with the lab.
    pub fn in_lab(lab: &Lab) -> Result<Self> {
        let name = netns::name(&lab.state.name, "api");
        netns::create(std::slice::from_ref(&name))?;
        Batch::new()
            .extend([
                format!("link add api type veth peer name eth0 netns {name}"),
                format!("address add {ROUTER}/30 dev api"),
                "link set api up".to_owned(),
            ])
            .run(Some(&lab.topology.router()))?;
        Batch::new()
            .extend([
                "link set lo up".to_owned(),
                format!("address add {OWN}/30 dev eth0"),
                "link set eth0 up".to_owned(),
                format!("route add default via {ROUTER}"),
            ])
            .run(Some(&name))?;
        Ok(Self::Netns { name, address: OWN })
    }
}
