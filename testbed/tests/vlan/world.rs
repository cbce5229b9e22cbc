//! Two nodes with one wire between them that carries untagged frames and those of two VLANs: a gateway with a pod, and a
//! Linux node that is its own pod, with the kernel's VXLAN over one of the VLANs.

use std::fs;
use std::path::Path;
use std::process::Command;

use margay_testbed::ip::{Batch, command};
use margay_testbed::netns;
use tempfile::TempDir;

use crate::common::traffic::Place;
use crate::common::unique_name;
use crate::gateway::Namespace;

/// Bytes of a packet on the VLAN of the pods; the wire carries 1500.
pub(crate) const MTU: usize = 1400;

/// The VLAN of Margay's uplink, and one that is the kernel's alone.
const OURS: u16 = 100;
const OTHER: u16 = 200;

/// The wire's ends.
const UPLINK: &str = "uplink0";
const BEYOND: &str = "beyond0";

const MANIFESTS: &str = r#"
apiVersion: v1
kind: Node
metadata:
  name: gw
  annotations:
    projectcalico.org/IPv4Address: 172.30.1.7/24
    projectcalico.org/IPv4VXLANTunnelAddr: 10.65.1.1
    projectcalico.org/VXLANTunnelMACAddr: 66:00:00:00:00:01
---
apiVersion: v1
kind: Node
metadata:
  name: far
  annotations:
    projectcalico.org/IPv4Address: 172.30.1.8/24
    projectcalico.org/IPv4VXLANTunnelAddr: 10.65.2.1
    projectcalico.org/VXLANTunnelMACAddr: 66:00:00:00:00:02
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: vxlan}
spec: {cidr: 10.65.0.0/16, vxlanMode: Always, ipipMode: Never, allowedUses: [Workload, Tunnel]}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: gw-10-65-1-0-26}
spec: {cidr: 10.65.1.0/26, deleted: "false", node: gw, state: confirmed}
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: {name: far-10-65-2-0-26}
spec: {cidr: 10.65.2.0/26, deleted: "false", node: far, state: confirmed}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {nodeName: gw}
status: {phase: Running, podIPs: [{ip: 10.65.1.5}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec: {nodeName: far}
status: {phase: Running, podIPs: [{ip: 10.65.2.5}]}
"#;

pub(crate) struct World {
    pub(crate) gateway: Namespace,
    others: [String; 2],
    pub(crate) manifests: TempDir,
}

impl World {
    /// All but the interfaces of the VLANs.
    pub(crate) fn new() -> Self {
        let gateway = Namespace::new();
        let lab = unique_name();
        let others = ["far", "pod"].map(|what| netns::name(&lab, what));
        netns::create(&others).unwrap();
        let manifests = tempfile::tempdir().unwrap();
        fs::write(manifests.path().join("world.yaml"), MANIFESTS).unwrap();
        let world = Self { gateway, others, manifests };
        let [far, pod] = &world.others;
        // What the kernel forwarded would not tell what Margay does.
        netns::within(&world.gateway.0, || fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap()).unwrap();
        world.in_gateway([
            format!("link set {BEYOND} netns {far}"),
            format!("link add pod0 mtu 1450 type veth peer name eth0 mtu 1450 netns {pod}"),
            "address add 169.254.1.1/32 dev pod0 scope link".into(),
            "link set pod0 up".into(),
            "route add 10.65.1.5/32 dev pod0 src 192.0.2.7".into(),
        ]);
        let inside = ["link set lo up", "address add 10.65.1.5/32 dev eth0", "link set eth0 up"];
        let way = ["route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1 dev eth0"];
        Batch::new().extend(inside).extend(way).run(Some(pod)).unwrap();
        let far_end = ["link set lo up", "address add 10.65.2.5/32 dev lo"];
        let wire = [format!("address add 192.0.2.8/24 dev {BEYOND}"), format!("link set {BEYOND} up")];
        Batch::new().extend(far_end).extend(wire).run(Some(far)).unwrap();
        // What a veth's other end needs, so that tags are in the frames.
        run(command("ip").args(["netns", "exec", far, "ethtool", "-K", BEYOND, "tx-vlan-offload", "off"]));
        world
    }

    /// The interfaces of both VLANs at both ends, and the kernel's VXLAN over one.
    pub(crate) fn add_interfaces(&self) {
        let far = &self.others[0];
        for (id, subnet) in [(OURS, 1), (OTHER, 2)] {
            add_interface(&self.gateway.0, UPLINK, id, &format!("172.30.{subnet}.7"));
            add_interface(far, BEYOND, id, &format!("172.30.{subnet}.8"));
        }
        let vxlan = "id 4096 dstport 4789 local 172.30.1.8 nolearning";
        let link = format!("link add vx0 address 66:00:00:00:00:02 mtu {} type vxlan {vxlan}", MTU - 50);
        let lines = [
            link.as_str(),
            "address add 10.65.2.1/32 dev vx0",
            "link set vx0 up",
            "neigh add 10.65.1.1 lladdr 66:00:00:00:00:01 dev vx0 nud permanent",
            "route add 10.65.1.0/26 via 10.65.1.1 dev vx0 onlink src 10.65.2.5",
        ];
        Batch::new().extend(lines).run(Some(far)).unwrap();
        let peer = "fdb add 66:00:00:00:00:01 dev vx0 dst 172.30.1.7 self permanent";
        Batch::new().extend([peer]).run_bridge(Some(far)).unwrap();
    }

    pub(crate) fn in_gateway(&self, lines: impl IntoIterator<Item = String>) {
        Batch::new().extend(lines).run(Some(&self.gateway.0)).unwrap();
    }

    /// In the far node: a way to an address of the gateway's block by this device.
    pub(crate) fn route_by(&self, address: &str, via: &str) {
        Batch::new()
            .extend([format!("route replace {address} via {via}")])
            .run(Some(&self.others[0]))
            .unwrap();
    }

    pub(crate) fn web(&self) -> Place {
        place(&self.others[1], "10.65.1.5")
    }

    pub(crate) fn client(&self) -> Place {
        place(&self.others[0], "10.65.2.5")
    }

    /// Both ends of a subnet of the wire.
    pub(crate) fn ends(&self, subnet: &str) -> [Place; 2] {
        [place(&self.others[0], &format!("{subnet}.8")), place(&self.gateway.0, &format!("{subnet}.7"))]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = netns::remove(&self.others) {
            eprintln!("{error:#}");
        }
    }
}

fn place(netns: &str, address: &str) -> Place {
    Place { netns: netns.to_owned(), address: address.parse().unwrap(), port: 0 }
}

/// `DEVICE.ID`, up with an address. It is the kernel's own where that has interfaces of VLANs (`CONFIG_VLAN_8021Q`), else
/// made of a veth pair.
fn add_interface(netns: &str, device: &str, id: u16, address: &str) {
    let name = format!("{device}.{id}");
    let ip = |lines: &[String]| Batch::new().extend(lines).run(Some(netns));
    if ip(&[format!("link add link {device} name {name} type vlan id {id}")]).is_err() {
        let pair = format!("link add {name} type veth peer name v{id}");
        ip(&[pair, format!("link set v{id} up")]).unwrap();
        join(netns, device, &format!("v{id}"), id);
    }
    ip(&[
        format!("link set {name} mtu {}", if id == OURS { MTU } else { 1500 }),
        format!("address add {address}/24 dev {name}"),
        format!("link set {name} up"),
    ])
    .unwrap();
}

/// Has what comes by the device with this tag go to the inner end of an interface, and back.
fn join(netns: &str, device: &str, inner: &str, id: u16) {
    let directory = tempfile::tempdir().unwrap();
    let object = directory.path().join("interface.o");
    let index =
        |device: &str| netns::within(netns, || nix::net::if_::if_nametoindex(device).unwrap()).unwrap();
    let numbers =
        [format!("VLAN={id}"), format!("INNER={}", index(inner)), format!("DEVICE={}", index(device))];
    let mut clang = Command::new("clang");
    clang.args(["-O2", "-g", "-target", "bpf", "-c", "-o"]).arg(&object);
    clang.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vlan/interface.bpf.c"));
    clang.arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH));
    run(clang.args(numbers.map(|number| format!("-D{number}"))));
    let tc = |arguments: &str| {
        let mut tc = command("tc");
        tc.args(["-n", netns]).args(arguments.split(' '));
        tc
    };
    for (device, section) in [(device, "received"), (inner, "sent")] {
        // It fails where another VLAN has brought it.
        let _ = tc(&format!("qdisc add dev {device} clsact")).output();
        let filter = format!("filter add dev {device} ingress pref {id} bpf da obj");
        run(tc(&filter).arg(&object).args(["sec", section]));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
