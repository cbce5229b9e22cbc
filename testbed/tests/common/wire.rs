//! Frames as they are on one device: sent without a stack, and all that come.

use std::io::Read;
use std::os::fd::AsRawFd;

use margay_testbed::netns;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::bind;
use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_ALL` in the byte order of the wire.
const EVERY_PROTOCOL: i32 = 0x0300;

/// Longer than any frame.
const LONGEST: usize = 1 << 17;

/// A device of some namespace, open on the side of its driver.
pub struct Wire(Socket);

impl Wire {
    pub fn open(netns: &str, device: &str) -> Self {
        let open = || {
            let socket =
                Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL))).unwrap();
            let link = getifaddrs()
                .unwrap()
                .filter(|interface| interface.interface_name == device)
                .find_map(|interface| interface.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("{netns} has no device {device}"));
            bind(socket.as_raw_fd(), &link).unwrap();
            socket.set_nonblocking(true).unwrap();
            // What came by other devices before it was bound.
            let wire = Self(socket);
            wire.received();
            wire
        };
        netns::within(netns, open).unwrap()
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(self.0.send(frame).unwrap(), frame.len());
    }

    /// What has come since it was last asked.
    pub fn received(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; LONGEST];
        let frame = || (&self.0).read(&mut buffer).ok().map(|length| buffer[..length].to_vec());
        std::iter::from_fn(frame).collect()
    }
}
