//! Where a gateway is tried: namespaces for a source, the gateway and a sink, a veth pair on each side of the gateway, and
//! the addresses, routes and neighbours of `world`.
//!
//! What forwards in the gateway is `dataplane`, what sends and receives at its sides `load`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use margay_control::run::device_name;
use margay_control::state::Name;
use margay_testbed::ip::{self, Batch};
use margay_testbed::netns;
use margay_testbed::topology::POD_GATEWAY;

use super::case::Job;
use super::world::{self, Beyond, GATEWAY, GATEWAY_MAC, MAC, NODE, POD, Side};

/// Namespace and name of the pod, of which its device's name is made.
pub const POD_NAME: [&str; 2] = ["lab", "pod"];
/// What VXLAN over IPv4 adds to a packet.
pub const OVERHEAD: u32 = 50;
/// MTU of pods' devices where the underlay has the common 1500.
const COMMON_MTU: u32 = 1450;
/// Ethernet header and FCS.
const ETHERNET: u32 = 18;

/// Before the process id in the lab's name.
const LAB: &str = "perf-";

/// One side of the gateway.
#[derive(Clone, Debug)]
pub struct End {
    /// What stands there.
    pub beyond: Beyond,
    pub netns: String,
    /// The device in `netns`.
    pub device: &'static str,
    /// The other end of the pair, in the gateway's namespace.
    pub gateway_device: String,
    pub mtu: u32,
}

/// The namespaces and links of a job. Dropped, it takes them away, with the processes that live there.
#[derive(Debug)]
pub struct Site {
    pub job: Job,
    /// The gateway's namespace.
    pub gateway: String,
    /// Source and sink.
    pub sides: [End; 2],
    /// Longest IP packet that pods send.
    pub mtu: u32,
    /// Nodes that are reached by VXLAN are reached by IP-in-IP, if somebody says so: the links are the same.
    pub ipip: bool,
}

/// What pods' devices need to send frames of `size` bytes, FCS counted.
#[must_use]
pub fn mtu(size: u16) -> u32 {
    u32::from(size).saturating_sub(ETHERNET).max(COMMON_MTU)
}

impl Site {
    /// Builds the world of a job. What processes that are gone have left is removed first.
    pub fn new(job: Job, mtu: u32) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_left()?;
        let lab = format!("{LAB}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let end = |side, what| End {
            beyond: world::beyond(job, side),
            netns: netns::name(&lab, what),
            device: "eth0",
            gateway_device: gateway_device(job, side),
            mtu: if world::beyond(job, side) == Beyond::Pod { mtu } else { mtu + OVERHEAD },
        };
        let sides = [end(Side::Source, "source"), end(Side::Sink, "sink")];
        // From here on what is there is removed, if the rest fails.
        let site = Self { job, gateway: netns::name(&lab, "gateway"), sides, mtu, ipip: false };
        netns::create(&site.namespaces())?;
        for netns in site.namespaces() {
            netns::within(&netns, quiet)??;
        }
        site.link()?;
        Ok(site)
    }

    #[must_use]
    pub fn end(&self, side: Side) -> &End {
        &self.sides[side as usize]
    }

    /// Has a core do what the source's and the sink's kernel does with what arrives there (RPS,
    /// Documentation/networking/scaling.rst); `None`: the one that it was sent on does.
    pub fn receive_on(&self, core: Option<usize>) -> Result<()> {
        let mask = core.map_or_else(|| "0".to_owned(), cpu_mask);
        for End { netns, device, .. } in &self.sides {
            let switch = format!("echo {mask} > /sys/class/net/{device}/queues/rx-0/rps_cpus");
            let status = ip::in_netns(netns, "sh").args(["-c", &switch]).status().context("cannot run sh")?;
            ensure!(status.success(), "cannot have the cores {mask} receive for {device} in {netns}");
        }
        Ok(())
    }

    fn namespaces(&self) -> [String; 3] {
        [self.gateway.clone(), self.sides[0].netns.clone(), self.sides[1].netns.clone()]
    }

    fn link(&self) -> Result<()> {
        let mut gateway = Batch::new().extend(["link set lo up"]);
        for side in [Side::Source, Side::Sink] {
            let end = self.end(side);
            gateway.lines(gateway_lines(end, side));
        }
        gateway.run(Some(&self.gateway))?;
        for side in [Side::Source, Side::Sink] {
            let end = self.end(side);
            Batch::new().extend(end_lines(end, side)).run(Some(&end.netns))?;
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let there: Vec<_> = self.namespaces().into_iter().filter(|name| netns::exists(name)).collect();
        // What is left all the same is removed by the next process.
        let _ = netns::remove(&there);
    }
}

fn gateway_device(job: Job, side: Side) -> String {
    match world::beyond(job, side) {
        Beyond::Pod => device_name("cali", &Name::new(POD_NAME[0], POD_NAME[1])),
        Beyond::Plain | Beyond::Vxlan => format!("uplink{}", side as usize),
    }
}

/// In the gateway's namespace: the veth pair, and how to reach who is at its other end.
fn gateway_lines(End { beyond, netns, device, gateway_device, mtu }: &End, side: Side) -> Vec<String> {
    let (own, other) = (lladdr(GATEWAY_MAC[side as usize]), lladdr(MAC[side as usize]));
    let like = format!("mtu {mtu} numtxqueues 1 numrxqueues 1");
    let (address, neighbour, route) = match beyond {
        Beyond::Pod => {
            let route = format!("route add {POD}/32 dev {gateway_device} scope link");
            (format!("{POD_GATEWAY}/32"), POD, Some(route))
        }
        Beyond::Plain | Beyond::Vxlan => {
            (format!("{}/24", GATEWAY[side as usize]), NODE[side as usize], None)
        }
    };
    let lines = [
        format!(
            "link add {gateway_device} address {own} {like} type veth peer name {device} address {other} {like} netns {netns}"
        ),
        format!("address add {address} dev {gateway_device}"),
        format!("link set {gateway_device} up"),
        format!("neigh replace {neighbour} lladdr {other} dev {gateway_device} nud permanent"),
    ];
    lines.into_iter().chain(route).collect()
}

/// In the namespace of the source or the sink: its address, and all else by the gateway.
fn end_lines(End { beyond, device, .. }: &End, side: Side) -> Vec<String> {
    let (address, gateway) = match beyond {
        Beyond::Pod => (format!("{POD}/32"), POD_GATEWAY),
        Beyond::Plain | Beyond::Vxlan => (format!("{}/24", NODE[side as usize]), GATEWAY[side as usize]),
    };
    let to_gateway = |gateway: Ipv4Addr| {
        let is_pod = *beyond == Beyond::Pod;
        is_pod.then(|| format!("route add {gateway} dev {device} scope link"))
    };
    [
        "link set lo up".to_owned(),
        format!("address add {address} dev {device}"),
        format!("link set {device} up"),
    ]
    .into_iter()
    .chain(to_gateway(gateway))
    .chain([
        format!("route add default via {gateway} dev {device}"),
        format!(
            "neigh replace {gateway} lladdr {} dev {device} nud permanent",
            lladdr(GATEWAY_MAC[side as usize])
        ),
    ])
    .collect()
}

/// Nobody speaks of himself, and only what a test sends is on the links: no IPv6, no redirects, no reverse-path check, and
/// no forwarding unless the kernel is what is tried.
fn quiet() -> Result<()> {
    write("ipv4/ip_forward", "0")?;
    for which in ["all", "default"] {
        for key in ["rp_filter", "send_redirects", "accept_redirects"] {
            write(&format!("ipv4/conf/{which}/{key}"), "0")?;
        }
        // A kernel without IPv6 needs no telling.
        if Path::new("/proc/sys/net/ipv6").exists() {
            write(&format!("ipv6/conf/{which}/disable_ipv6"), "1")?;
        }
    }
    Ok(())
}

/// One core, as the kernel reads masks: hexadecimal, in words of 32 bits.
fn cpu_mask(core: usize) -> String {
    format!("{:x}{}", 1_u32 << (core % 32), ",00000000".repeat(core / 32))
}

/// Sets a key of /proc/sys/net of the thread's namespace.
pub(crate) fn write(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(key);
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

/// Removes the namespaces of labs whose processes are gone.
fn remove_left() -> Result<()> {
    let left: Vec<_> = netns::list(&format!("mgl-{LAB}"))?.into_iter().filter(|name| is_left(name)).collect();
    if left.is_empty() { Ok(()) } else { netns::remove(&left) }
}

fn is_left(netns: &str) -> bool {
    let owner = owner(netns);
    owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// The process that made the namespace, if a perf lab did.
fn owner(netns: &str) -> Option<u32> {
    let lab = netns.strip_prefix("mgl-")?.strip_prefix(LAB)?.split_once('.')?.0;
    let (pid, number) = lab.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

/// As iproute2 writes it.
#[must_use]
pub fn lladdr(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_perf_labs_have_an_owner() {
        let cases = [
            ("mgl-perf-17-3.gateway", Some(17)),
            ("mgl-perf-17.gateway", None),
            ("mgl-perf-x-3.gateway", None),
            ("mgl-lab.router", None),
        ];
        for (netns, expected) in cases {
            assert_eq!(owner(netns), expected, "{netns}");
        }
    }

    #[test]
    fn a_mask_has_one_core_in_it() {
        assert_eq!(
            [0, 1, 31, 32, 65].map(cpu_mask),
            ["1", "2", "80000000", "1,00000000", "2,00000000,00000000"]
        );
    }

    #[test]
    fn what_this_process_has_made_is_not_left() {
        assert!(!is_left(&netns::name(&format!("{LAB}{}-0", process::id()), "gateway")));
        assert!(is_left(&netns::name(&format!("{LAB}{}-0", u32::MAX), "gateway")));
    }
}
