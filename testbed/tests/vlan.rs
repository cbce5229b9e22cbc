//! An uplink on a VLAN, beside untagged frames and another VLAN on the same device: pods by the kernel's VXLAN over it, and
//! what is the kernel's all the while. They need root.

mod common;
mod gateway;
#[path = "vlan/world.rs"]
mod world;

use std::time::Duration;

use common::traffic::{Connection, Place, blob, tcp_transfer};
use gateway::Gateway;
use margay_testbed::ip::in_netns;
use serde_json::Value;
use world::{MTU, World};

/// What VXLAN adds, and IP and ICMP header of a ping.
const VXLAN: usize = 50;
const PING: usize = 28;
const ECHO: Duration = Duration::from_secs(5);

fn uplink(status: &Value) -> &Value {
    let ports = status["ports"].as_array().expect("ports");
    ports.iter().find(|port| port["name"] == "uplink0").expect("the uplink")
}

/// What one ping of so many bytes with DF says.
fn ping(from: &Place, to: &str, bytes: usize) -> String {
    let mut ping = in_netns(&from.netns, "ping");
    ping.args(["-n", "-c", "1", "-W", "1", "-M", "do", "-s", &(bytes - PING).to_string(), to]);
    let output = ping.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_vlan_of_a_device_is_margay_s_and_the_rest_of_it_the_kernel_s() {
    let world = World::new();
    let source = format!("source.directory = {:?}\nxdp.uplink_rx = 1024", world.manifests.path());
    let uplink_keys = "vlan = 100\ninterface = \"uplink0.100\"";
    let margay = Gateway::start_on(&world.gateway, &source, uplink_keys);
    let status = margay.until("without its interface the port waits", |status| {
        status["ports"].as_array().is_some_and(|ports| !ports.is_empty())
            && uplink(status)["state"] == "failed"
    });
    let error = uplink(&status)["error"].as_str().unwrap();
    assert!(error.contains("VLAN 100 of uplink0") && error.contains("no such interface"), "{error}");

    world.add_interfaces();
    margay.wait_ready();
    assert_eq!(uplink(&margay.status().unwrap())["vlan"], 100);
    // Untagged, by the other VLAN, and to the gateway itself by Margay's own.
    let mut of_kernel = ["192.0.2", "172.30.2", "172.30.1"].map(|subnet| {
        let [far, gateway] = world.ends(subnet);
        (subnet, Connection::open(&far, &gateway).unwrap_or_else(|error| panic!("{subnet}: {error}")))
    });
    let mut kernel_goes_on = |when: &str| {
        for (subnet, connection) in &mut of_kernel {
            connection.exchange(ECHO).unwrap_or_else(|error| panic!("{subnet}, {when}: {error}"));
        }
    };
    kernel_goes_on("at first");
    let (web, client) = (world.web(), world.client());
    let stream = blob(1_000_000, 5);
    for (from, to) in [(&web, &client), (&client, &web)] {
        assert!(from.pings(to), "{from:?} to {to:?}");
        assert!(tcp_transfer(from, to, &stream).unwrap() == stream, "{from:?} to {to:?}");
        kernel_goes_on("beside pods");
    }

    // The VLAN's own MTU counts, not the wire's.
    let fits = MTU - VXLAN;
    assert!(ping(&web, "10.65.2.5", fits).contains("1 received"));
    let said = ping(&web, "10.65.2.5", fits + 1);
    assert!(said.contains(&format!("mtu = {fits}")) || said.contains(&format!("mtu={fits}")), "{said}");

    // What is for an address of ours is Margay's by its VLAN alone.
    let received = || uplink(&margay.status().unwrap())["traffic"]["rx"].as_u64().unwrap();
    for (via, takes) in [("192.0.2.7", false), ("172.30.2.7", false), ("172.30.1.7", true)] {
        world.route_by("10.65.1.9", via);
        let before = received();
        ping(&client, "10.65.1.9", 100);
        assert_eq!(received() > before, takes, "by {via}");
    }
    kernel_goes_on("beside what is not Margay's");

    world.in_gateway(["link del uplink0.100".into()]);
    margay.until("without its interface the port closes", |status| uplink(status)["state"] == "failed");
    // The one by the interface that is gone has gone with it.
    for (subnet, connection) in &mut of_kernel[..2] {
        connection.exchange(ECHO).unwrap_or_else(|error| panic!("{subnet}: {error}"));
    }
}
