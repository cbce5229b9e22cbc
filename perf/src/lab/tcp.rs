//! The job tcp: one stream of iperf3 from the pod to a far end behind a tunnel, by the kernels' own TCP and with the offloads
//! that pods' devices have.

use std::time::Duration;

use anyhow::{Result, ensure};
use margay_testbed::ip::Batch;
use margay_testbed::measure::{self, Direction};

use super::case::Job;
use super::dataplane::cluster::{self, OWN_VTEP};
use super::site::{Site, lladdr};
use super::world::{GATEWAY_NAME, PORT, REMOTE, Side, VNI, VXLAN_PORT, vtep_mac};

const VXLAN: &str = "vxlan.lab";

/// Bits a second of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    pub from_pod: f64,
    pub to_pod: f64,
}

/// Makes of the sink the node beyond the tunnel, with Linux' vxlan device and the first of the far ends on it. To be done
/// once, before streams go.
pub fn prepare(site: &Site) -> Result<()> {
    ensure!(site.job.way() == Job::VxlanEncap, "iperf3 goes from a pod into a tunnel: not in {:?}", site.job);
    let sink = site.end(Side::Sink);
    for node in cluster::nodes(site.job) {
        let (mac, own, gateway) = (lladdr(vtep_mac(node.name)), node.address, cluster::own_address(site.job));
        let gateway_mac = lladdr(vtep_mac(GATEWAY_NAME));
        let device = format!(
            "mtu {} type vxlan id {VNI} dstport {VXLAN_PORT} local {own} nolearning noudpcsum",
            site.mtu
        );
        Batch::new()
            .extend([
                format!("link add {VXLAN} address {mac} {device}"),
                format!("address add {}/32 dev {VXLAN}", node.vtep),
                format!("address add {REMOTE}/32 dev {VXLAN}"),
                format!("link set {VXLAN} up"),
                format!("route add {} via {OWN_VTEP} dev {VXLAN} onlink", cluster::pod_block()),
                format!("neigh replace {OWN_VTEP} lladdr {gateway_mac} dev {VXLAN} nud permanent"),
            ])
            .run(Some(&sink.netns))?;
        Batch::new()
            .extend([format!("fdb replace {gateway_mac} dev {VXLAN} dst {gateway} self permanent")])
            .run_bridge(Some(&sink.netns))?;
    }
    Ok(())
}

/// One stream each way, so long each. Only a gateway that makes and ends tunnels lets them pass.
pub fn run(site: &Site, time: Duration) -> Result<Throughput> {
    let (source, sink, address) = (site.end(Side::Source), site.end(Side::Sink), REMOTE.to_string());
    let stream = |way| measure::tcp_throughput_at(&source.netns, &sink.netns, (&address, PORT), time, way);
    Ok(Throughput { from_pod: stream(Direction::Forth)?, to_pod: stream(Direction::Back)? })
}
