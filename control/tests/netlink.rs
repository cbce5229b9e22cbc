//! The mirror of the kernel against a real kernel, in network namespaces of its own. Needs root.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures::FutureExt as _;
use margay_control::kernel::Mirror;
use margay_control::state::{Kernel, Link, Vlan};
use support::{Netns, veth};

/// Far longer than anything here takes; reached only where a change never comes.
const NEVER: Duration = Duration::from_secs(30);

/// Runs the test on this thread, inside the namespace.
fn inside<T>(netns: &Netns, test: impl Future<Output = T>) -> T {
    netns.enter();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

async fn until(mirror: &mut Mirror, what: &str, holds: impl Fn(&Kernel) -> bool) {
    while !holds(mirror.kernel()) {
        let Ok(changed) = tokio::time::timeout(NEVER, mirror.changed()).await else {
            panic!("never: {what}\n{:#?}", mirror.kernel());
        };
        changed.unwrap();
    }
}

fn link<'a>(kernel: &'a Kernel, name: &str) -> Option<(u32, &'a Link)> {
    kernel.links.iter().find(|(_, link)| link.name == name).map(|(index, link)| (*index, link))
}

fn has_address(kernel: &Kernel, address: &str) -> bool {
    kernel.addresses.iter().any(|(_, net)| net.to_string() == address)
}

fn has_route(kernel: &Kernel, dst: &str, gateway: Option<&str>, device: &str) -> bool {
    let (dst, gateway) = (dst.parse().unwrap(), gateway.map(|g| g.parse().unwrap()));
    kernel.routes.iter().any(|route| {
        route.dst == dst && route.gateway == gateway && kernel.links[&route.ifindex].name == device
    })
}

#[test]
fn what_stands_at_the_start_and_what_changes_later_is_mirrored() {
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    veth(&here, "eth0", &there, "eth0");
    here.ip("link set eth0 mtu 1400 address 02:00:00:00:00:01");
    here.ip("addr add 10.0.0.1/24 dev eth0");
    here.ip("addr add fd00::1/64 dev eth0 nodad");
    here.ip("route add 10.1.0.0/16 via 10.0.0.2");
    here.ip("route add 10.9.0.0/16 via 10.0.0.2 table 99");
    inside(&here, async {
        let mut mirror = Mirror::open().await.unwrap();
        let (index, eth0) = link(mirror.kernel(), "eth0").expect("eth0 stands from the start");
        assert_eq!((eth0.mac, eth0.mtu, eth0.up), ([2, 0, 0, 0, 0, 1], 1400, true));
        assert!(mirror.kernel().addresses.contains(&(index, "10.0.0.1/24".parse().unwrap())));
        assert!(has_address(mirror.kernel(), "fd00::1/64"));
        assert!(has_route(mirror.kernel(), "10.0.0.0/24", None, "eth0"));
        assert!(has_route(mirror.kernel(), "10.1.0.0/16", Some("10.0.0.2"), "eth0"));
        assert!(has_route(mirror.kernel(), "fd00::/64", None, "eth0"));
        assert!(!mirror.kernel().routes.iter().any(|r| r.dst.to_string() == "10.9.0.0/16"), "another table");

        here.ip("addr add 10.0.5.1/24 dev eth0");
        until(&mut mirror, "an address added", |k| has_address(k, "10.0.5.1/24")).await;
        here.ip("addr del 10.0.5.1/24 dev eth0");
        until(&mut mirror, "an address removed", |k| !has_address(k, "10.0.5.1/24")).await;

        here.ip("route replace 10.1.0.0/16 via 10.0.0.3");
        until(&mut mirror, "a route replaced", |k| {
            has_route(k, "10.1.0.0/16", Some("10.0.0.3"), "eth0")
                && !has_route(k, "10.1.0.0/16", Some("10.0.0.2"), "eth0")
        })
        .await;
        here.ip("route add default nexthop via 10.0.0.7 nexthop via 10.0.0.8");
        until(&mut mirror, "the first hop of a multipath route", |k| {
            has_route(k, "0.0.0.0/0", Some("10.0.0.7"), "eth0")
        })
        .await;

        // The kernel announces none of the IPv4 routes that go with the link.
        here.ip("link set eth0 down");
        until(&mut mirror, "link down, its routes gone", |k| {
            !link(k, "eth0").unwrap().1.up && !k.routes.iter().any(|r| r.dst.addr().is_ipv4())
        })
        .await;
        here.ip("link set eth0 up");
        until(&mut mirror, "link up again", |k| {
            link(k, "eth0").unwrap().1.up && has_route(k, "10.0.0.0/24", None, "eth0")
        })
        .await;
        there.ip("link set eth0 down");
        until(&mut mirror, "the other end down: no carrier", |k| !link(k, "eth0").unwrap().1.up).await;

        here.ip("link add eth7 numrxqueues 2 numtxqueues 4 type veth peer name eth8");
        until(&mut mirror, "a link added", |k| {
            link(k, "eth7").is_some_and(|(_, l)| (l.rx_queues, l.tx_queues) == (2, 4))
        })
        .await;
        here.ip("link del eth0");
        until(&mut mirror, "a link removed, its addresses with it", |k| {
            link(k, "eth0").is_none() && !has_address(k, "10.0.0.1/24")
        })
        .await;
    });
}

#[test]
fn an_interface_of_a_vlan_is_known_for_one() {
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    veth(&here, "eth0", &there, "eth0");
    let mut add = here.command("ip");
    add.args("link add link eth0 name storage type vlan id 100".split(' '));
    if !add.status().unwrap().success() {
        eprintln!("skipped: this kernel has no interfaces of VLANs (CONFIG_VLAN_8021Q)");
        return;
    }
    inside(&here, async {
        let mirror = Mirror::open().await.unwrap();
        let (device, _) = link(mirror.kernel(), "eth0").unwrap();
        let (_, storage) = link(mirror.kernel(), "storage").unwrap();
        assert_eq!(storage.vlan, Some(Vlan { device, id: 100 }));
    });
}

#[test]
fn a_bridge_port_that_leaves_its_bridge_is_no_link_that_goes() {
    let here = Netns::new("here");
    inside(&here, async {
        let mut mirror = Mirror::open().await.unwrap();
        here.ip("link add br0 type bridge");
        here.ip("link add d0 type veth peer name d1");
        here.ip("link set d0 master br0");
        here.ip("link set d0 nomaster");
        here.ip("link add last type veth peer name last1");
        until(&mut mirror, "the last link", |k| link(k, "last").is_some()).await;
        assert!(link(mirror.kernel(), "d0").is_some());
    });
}

#[test]
fn a_wanted_neighbour_is_resolved_kept_and_let_go() {
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    veth(&here, "eth0", &there, "eth0");
    there.ip("link set eth0 address 02:00:00:00:00:02");
    there.ip("addr add 10.0.0.2/24 dev eth0");
    here.ip("addr add 10.0.0.1/24 dev eth0");
    here.ip("neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev eth0");
    inside(&here, async {
        let mut mirror = Mirror::open().await.unwrap();
        let index = link(mirror.kernel(), "eth0").unwrap().0;
        let key = |address: &str| (index, address.parse::<IpAddr>().unwrap());
        let wanted = BTreeSet::from([key("10.0.0.2"), key("10.0.0.9")]);
        let resolved = |k: &Kernel| {
            k.neighbours.get(&key("10.0.0.2")).is_some_and(|n| n.usable && n.mac == [2, 0, 0, 0, 0, 2])
        };

        mirror.want_neighbours(&wanted).await;
        until(&mut mirror, "a neighbour across the pair", resolved).await;
        assert!(here.ip("neigh show 10.0.0.2 dev eth0").contains("managed"));
        let permanent = here.ip("neigh show 10.0.0.9 dev eth0");
        assert!(permanent.contains("PERMANENT") && !permanent.contains("managed"), "{permanent}");

        // Flushed behind our back: asked for again.
        here.ip("neigh flush dev eth0");
        until(&mut mirror, "the flush", |k| !resolved(k)).await;
        mirror.want_neighbours(&wanted).await;
        until(&mut mirror, "the neighbour after the flush", resolved).await;

        // The neighbour answers with another MAC: a new card.
        there.ip("link set eth0 address 02:00:00:00:00:22");
        there.ip("neigh flush dev eth0");
        there.command("ping").args(["-c1", "-W5", "10.0.0.1"]).output().unwrap();
        until(&mut mirror, "the new MAC", |k| {
            k.neighbours.get(&key("10.0.0.2")).is_some_and(|n| n.usable && n.mac[5] == 0x22)
        })
        .await;

        mirror.want_neighbours(&BTreeSet::new()).await;
        until(&mut mirror, "the entry let go", |k| !k.neighbours.contains_key(&key("10.0.0.2"))).await;
        assert!(here.ip("neigh show 10.0.0.9 dev eth0").contains("PERMANENT"));
    });
}

#[test]
fn a_reading_that_is_dropped_does_not_stand_in_the_way_of_the_next() {
    let here = Netns::new("dropped");
    here.ip("link set lo up");
    inside(&here, async {
        let mut mirror = Mirror::open().await.unwrap();
        here.ip("route add 10.1.0.0/16 dev lo");
        // The notification comes meanwhile, and then the routes are asked for three times at once.
        tokio::time::sleep(Duration::from_millis(50)).await;
        for _ in 0..2 {
            assert!(mirror.changed().now_or_never().is_none());
        }
        until(&mut mirror, "the route", |k| has_route(k, "10.1.0.0/16", None, "lo")).await;
    });
}

#[test]
fn notifications_lost_to_a_full_socket_are_made_up_for() {
    let here = Netns::new("here");
    here.ip("link add d0 type veth peer name d1");
    here.ip("link set d0 up");
    here.ip("addr add 10.3.0.1/32 dev d0");
    inside(&here, async {
        let mut mirror = Mirror::open().await.unwrap();
        let mut lines = String::from("addr del 10.3.0.1/32 dev d0\n");
        for i in 0..4000 {
            writeln!(lines, "addr add 10.4.{}.{}/32 dev d0", i / 250, i % 250 + 1).unwrap();
        }
        // The runtime does not get to read its socket meanwhile.
        here.ip_batch(&lines);
        let made =
            |k: &Kernel| k.addresses.iter().filter(|(_, a)| a.to_string().starts_with("10.4.")).count();
        until(&mut mirror, "every address", |k| made(k) == 4000 && !has_address(k, "10.3.0.1/32")).await;
    });
}
