//! Why a port or the UMEM cannot be set up: what failed, where, and how to mend it.

use std::io;

use thiserror::Error;

use super::Mode;

#[derive(Debug, Error)]
pub enum SetupError {
    #[error("UMEM: {0}")]
    Layout(String),
    #[error("UMEM: cannot map {bytes} bytes: {source}; fewer or smaller chunks need less memory")]
    Memory { bytes: usize, source: xsk_rs::umem::UmemCreateError },
    #[error(
        "the kernel does not load the XDP program: {reason}; it takes root, or CAP_BPF with CAP_PERFMON and \
         CAP_NET_ADMIN"
    )]
    Load { reason: String },
    #[error("BPF map {map}: {reason}")]
    Map { map: &'static str, reason: String },
    #[error("no device has the index {ifindex}: {source}")]
    NoDevice { ifindex: u32, source: io::Error },
    #[error("{device}: cannot read {what}: {source}")]
    Device { device: String, what: &'static str, source: io::Error },
    #[error(
        "{device}: its MTU {mtu} makes frames of up to {frame} bytes, and it can take {longest}; \
         larger chunks or `ip link set dev {device} mtu {fitting}` mend that"
    )]
    Mtu { device: String, mtu: u32, frame: u32, longest: u32, fitting: u32 },
    #[error("{device}: no room for its {queues} queues beside those of the other ports")]
    TooManyQueues { device: String, queues: u32 },
    #[error("{device}: is already open")]
    Open { device: String },
    #[error(
        "{device}: another XDP program is attached in {mode} mode: {name} (id {id}); \
         `ip link set dev {device} {} off` removes it", mode.ip_word()
    )]
    Foreign { device: String, name: String, id: u32, mode: Mode },
    #[error("{device}: the XDP program cannot be attached: {reasons}")]
    Attach { device: String, reasons: String },
    #[error(
        "{device}: the program of traffic control cannot be attached: {reason}; it takes a kernel with \
         CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"
    )]
    Watch { device: String, reason: String },
    #[error("{device} queue {queue}: {step}: {source}{}", advice(step, source))]
    Socket { device: String, queue: u32, step: &'static str, source: io::Error },
}

/// Steps of opening a socket, as errors name them.
pub(super) mod step {
    pub(crate) const SOCKET: &str = "cannot create an AF_XDP socket";
    pub(crate) const REGISTER: &str = "cannot register the UMEM";
    pub(crate) const RINGS: &str = "cannot set up the rings";
    pub(crate) const MAP: &str = "cannot map the rings";
    pub(crate) const BIND: &str = "cannot bind the AF_XDP socket";
}

/// The same of attaching a program to a device (`dev_xdp_attach` in net/core/dev.c, and the drivers).
pub(super) fn attach_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().unwrap_or_default() {
        libc::EBUSY | libc::EEXIST => "; another program has come there: `ip -d link show` says which",
        libc::EOPNOTSUPP => "; its driver has no XDP in this mode: xdp.mode = \"skb\" does without",
        libc::EINVAL | libc::ERANGE | libc::E2BIG => {
            "; the driver does not take XDP with its MTU, queues or offloads as they are: a smaller MTU, fewer queues \
             (`ethtool -L`) or `ethtool -K DEVICE lro off`; `margay doctor` looks at them"
        }
        libc::ENOMEM | libc::ENOSPC => {
            "; the driver has no rings left for XDP: fewer queues (`ethtool -L`), or more memory"
        }
        libc::EPERM | libc::EACCES => "; it takes root, or CAP_NET_ADMIN with CAP_BPF",
        libc::ENODEV => "; the device is gone",
        _ => "",
    }
}

/// What to do about an error of the kernel's (`xsk.c`, `xdp_umem.c`, `xsk_buff_pool.c` in net/xdp), where there is
/// something.
fn advice(at: &str, error: &io::Error) -> &'static str {
    match (at, error.raw_os_error().unwrap_or_default()) {
        (step::SOCKET, libc::EPERM) => "; it takes root, or CAP_NET_RAW",
        (step::SOCKET, libc::EAFNOSUPPORT) => "; this kernel is built without CONFIG_XDP_SOCKETS",
        (step::REGISTER, libc::ENOBUFS) => {
            "; each queue locks the UMEM once: raise the limit of locked memory (`ulimit -l unlimited`, \
             LimitMEMLOCK=infinity), or use fewer chunks"
        }
        (_, libc::ENOMEM) => "; the kernel is out of memory: use fewer chunks or shorter rings",
        (step::BIND, libc::EBUSY) => "; another AF_XDP socket holds the queue: `ss --xdp -ap` says whose",
        (step::BIND, libc::EINVAL) => "; the device may have fewer queues than it says: see `ethtool -l`",
        (step::BIND, libc::EOPNOTSUPP) => "; its driver has no AF_XDP in this mode: try skb mode",
        (step::BIND, libc::ENODEV | libc::ENXIO) => "; the device is gone",
        (step::BIND, libc::ENETDOWN) => "; bring it up: `ip link set up`",
        _ => "",
    }
}
