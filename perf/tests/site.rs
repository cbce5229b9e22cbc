//! The lab's namespaces: every job's are reached end to end at one hop, and go with the site. Needs root.

use margay_perf::lab::case::Job;
use margay_perf::lab::site::{self, Site};
use margay_perf::lab::world::{Beyond, GATEWAY, Side};
use margay_testbed::{ip, netns};

fn pings(netns: &str, address: &str, bytes: u32) -> bool {
    let status = ip::in_netns(netns, "ping")
        .args(["-c", "1", "-W", "2", "-M", "do", "-s", &bytes.to_string(), address])
        .output()
        .unwrap()
        .status;
    status.success()
}

#[test]
fn each_side_reaches_the_gateway_by_packets_of_the_size_asked() {
    for (job, size) in [(Job::L3, 64), (Job::VxlanDecap, 9018), (Job::VxlanBoth, 1518), (Job::Cps, 64)] {
        let site = Site::new(job, site::mtu(size)).unwrap();
        for side in [Side::Source, Side::Sink] {
            let end = site.end(side);
            let gateway = match end.beyond {
                Beyond::Pod => "169.254.1.1".to_owned(),
                Beyond::Plain | Beyond::Vxlan => GATEWAY[side as usize].to_string(),
            };
            // 28 bytes are of the headers of IP and ICMP.
            assert!(pings(&end.netns, &gateway, end.mtu - 28), "{job:?}: {side:?} to {gateway}");
        }
        let namespaces = [&site.gateway, &site.sides[0].netns, &site.sides[1].netns].map(Clone::clone);
        drop(site);
        assert!(namespaces.iter().all(|name| !netns::exists(name)), "{job:?}");
    }
}
