//! What a port's device says of itself: name, driver, MTU, MAC address and receive queues (`SIOCETHTOOL`, netdevice(7)).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::SetupError;

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels` (include/uapi/linux/ethtool.h).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Channels {
    cmd: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: String,
    /// Empty where the driver does not say.
    driver: String,
    pub(super) mtu: u32,
    pub(super) mac: [u8; 6],
    /// Queues that it receives on now.
    pub(super) queues: u32,
}

impl Device {
    pub(super) fn read(ifindex: u32) -> Result<Self, SetupError> {
        let unknown = |source| SetupError::NoDevice { ifindex, source };
        let fd = control().map_err(unknown)?;
        let name = name(&fd, ifindex).map_err(unknown)?;
        let at = |what| {
            let device = name.clone();
            move |source| SetupError::Device { device, what, source }
        };
        let mtu = mtu(&fd, &name).map_err(at("its MTU"))?;
        let mac = mac(&fd, &name).map_err(at("its MAC address"))?;
        let queues = queues(&fd, &name).map_err(at("the number of its queues"))?;
        let driver = driver(&fd, &name).unwrap_or_default();
        Ok(Self { name, driver, mtu, mac, queues })
    }

    pub(super) fn driver(&self) -> &str {
        &self.driver
    }

    pub(super) fn is_veth(&self) -> bool {
        self.driver == "veth"
    }
}

/// A socket to ask the kernel about devices by.
pub(super) fn control() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

fn name(fd: &OwnedFd, ifindex: u32) -> io::Result<String> {
    let mut request = request("");
    request.ifr_ifru.ifru_ifindex = ifindex.cast_signed();
    // SAFETY: SIOCGIFNAME reads `ifru_ifindex` and writes the name.
    unsafe { ask(fd, libc::SIOCGIFNAME, &mut request)? };
    let name = request.ifr_name.map(|byte| byte.to_ne_bytes()[0]);
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

fn mtu(fd: &OwnedFd, name: &str) -> io::Result<u32> {
    let mut request = request(name);
    // SAFETY: SIOCGIFMTU reads the name and writes `ifru_mtu`, which is then the union's field.
    let mtu = unsafe {
        ask(fd, libc::SIOCGIFMTU, &mut request)?;
        request.ifr_ifru.ifru_mtu
    };
    u32::try_from(mtu).map_err(io::Error::other)
}

fn mac(fd: &OwnedFd, name: &str) -> io::Result<[u8; 6]> {
    let mut request = request(name);
    // SAFETY: SIOCGIFHWADDR reads the name and writes `ifru_hwaddr`, which is then the union's field.
    let address = unsafe {
        ask(fd, libc::SIOCGIFHWADDR, &mut request)?;
        request.ifr_ifru.ifru_hwaddr.sa_data
    };
    Ok(std::array::from_fn(|i| address[i].to_ne_bytes()[0]))
}

fn queues(fd: &OwnedFd, name: &str) -> io::Result<u32> {
    let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
    let mut request = request(name);
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    // SAFETY: ETHTOOL_GCHANNELS reads and writes one `Channels` at `ifru_data`, which lives until after the call.
    match unsafe { ask(fd, libc::SIOCETHTOOL, &mut request) } {
        Ok(()) => Ok((channels.rx + channels.combined).max(1)),
        // A driver that has no channels to speak of has one queue.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
        Err(error) => Err(error),
    }
}

fn driver(fd: &OwnedFd, name: &str) -> io::Result<String> {
    let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    let mut request = request(name);
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: ETHTOOL_GDRVINFO reads and writes one `DriverInfo` at `ifru_data`, which lives until after the call.
    unsafe { ask(fd, libc::SIOCETHTOOL, &mut request)? };
    let driver = CStr::from_bytes_until_nul(&info.driver).map_err(io::Error::other)?;
    Ok(driver.to_string_lossy().into_owned())
}

pub(super) fn request(name: &str) -> libc::ifreq {
    // SAFETY: all zeros are an `ifreq`: integers, and a union with a pointer that may be null.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The kernel's names have at most 15 bytes, so the last byte stays zero.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

/// # Safety
/// What the request has the kernel read and write is there to be read and written.
pub(super) unsafe fn ask(fd: &OwnedFd, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: `request` is a live ifreq; the rest is the caller's word.
    if unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut *request) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
