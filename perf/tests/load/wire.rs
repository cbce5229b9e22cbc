//! The least gateway there is: nftables takes what one device receives to the other one. And what is on its links.

use std::io::{Read, Write as _};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use margay_perf::lab::case::Job;
use margay_perf::lab::site::{self, Site};
use margay_perf::lab::world::Side;
use margay_testbed::{ip, netns};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{bind, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_ALL` in the byte order of the wire.
const EVERY_PROTOCOL: i32 = 0x0300;
/// A wire takes tunnelled frames to a pod's device, so all devices take more than what the source of BPF sends.
const LONGEST: u16 = 3450;
/// What a socket may hold that nobody reads yet.
const BUFFER: usize = 16 << 20;

/// A site whose gateway is a wire. On their way to the sink, packets pass `rules` first.
pub(crate) fn site(job: Job, rules: &[&str]) -> Site {
    let site = Site::new(job, site::mtu(LONGEST)).unwrap();
    let [source, sink] = [Side::Source, Side::Sink].map(|side| site.end(side).gateway_device.clone());
    let rules = rules.iter().map(|rule| rule.replace("SINK", &sink)).collect::<Vec<_>>().join("; ");
    nft(
        &site,
        &format!(
            "table netdev wire {{
                chain there {{
                    type filter hook ingress device \"{source}\" priority 0
                    {rules}
                    fwd to \"{sink}\"
                }}
                chain back {{
                    type filter hook ingress device \"{sink}\" priority 0
                    fwd to \"{source}\"
                }}
            }}"
        ),
    );
    site
}

/// Gives these rules to nftables in the gateway.
pub(crate) fn nft(site: &Site, rules: &str) {
    let mut nft = ip::in_netns(&site.gateway, "nft");
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("the package nftables");
    child.stdin.take().expect("piped").write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft takes {rules}");
}

/// A device of some namespace, open on the side of its driver.
pub(crate) struct Tap(Socket);

impl Tap {
    pub(crate) fn open(netns: &str, device: &str) -> Self {
        let open = || {
            let socket =
                Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL))).unwrap();
            let link = getifaddrs()
                .unwrap()
                .filter(|interface| interface.interface_name == device)
                .find_map(|interface| interface.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("{netns} has no device {device}"));
            bind(socket.as_raw_fd(), &link).unwrap();
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            Self(socket)
        };
        netns::within(netns, open).unwrap()
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(self.0.send(frame).unwrap(), frame.len());
    }

    /// What has come since it was opened or last asked.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 1 << 14];
        let frame = || (&self.0).read(&mut buffer).ok().map(|length| buffer[..length].to_vec());
        std::iter::from_fn(frame).collect()
    }
}
