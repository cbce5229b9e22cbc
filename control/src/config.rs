//! The configuration file of `margay run`, `margay.toml`: its keys, their defaults and their units.
//!
//! Every table may be absent, and every key has a default unless its line says otherwise. A key that does not exist
//! and a value that cannot be are errors that name file, line and column. How the text is read and its errors are
//! worded is `config/read.rs`; `[tunnel]`, `[icmp]` and `[tcp]` are in `config/tunnel.rs`, `[umem]` and `[xdp]` in `config/xdp.rs`,
//! `[policy]` in `config/policy.rs`, `[admin]` in `config/admin.rs`, `[metrics]` in `config/metrics.rs`, `[flow_log]` in
//! `config/flow_log.rs`, `[privileges]` in `config/privileges.rs`.

mod admin;
mod file;
mod flow_log;
mod metrics;
mod policy;
mod privileges;
mod read;
mod report;
mod tunnel;
mod xdp;

use std::path::PathBuf;
use std::time::Duration;

use margay_fastpath::pipeline;
use margay_flowtable::conntrack::Timeouts;
use serde::Deserialize;

pub use crate::source::kubernetes::Access;
pub use admin::Admin;
pub use file::{File, Loaded};
pub use flow_log::{Aggregate, FlowEvent, FlowLog};
pub use metrics::Metrics;
pub use policy::{EndpointToHost, Established, Policy};
pub use privileges::{Privileges, Seccomp};
pub use read::Error;
pub use report::{Calico, Report};
pub use tunnel::{Icmp, Tcp, Tunnel, TunnelKind};
pub use xdp::{TxChecksum, Umem, Xdp, XdpMode, ZeroCopy};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub node: Node,
    pub source: Source,
    /// `[[uplink]]`, once for each device toward other nodes.
    #[serde(deserialize_with = "read::uplinks")]
    pub uplink: Vec<Uplink>,
    pub pods: Pods,
    pub policy: Policy,
    pub workers: Workers,
    pub umem: Umem,
    pub xdp: Xdp,
    pub flow_table: FlowTable,
    pub conntrack: Conntrack,
    pub fragments: Fragments,
    pub tunnel: Tunnel,
    pub icmp: Icmp,
    pub tcp: Tcp,
    pub report: Report,
    pub calico: Calico,
    pub admin: Admin,
    pub metrics: Metrics,
    pub flow_log: FlowLog,
    pub privileges: Privileges,
    pub log: Log,
}

/// `[node]`: who we are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Name of our Node object. Default: the host name, as the kubelet takes it. `margay run --node` goes before it.
    pub name: Option<String>,
    /// Where the kernel's settings of network devices are, for those of `policy.host_interface_prefix`. Default
    /// /proc/sys/net. A container without privileges has that read-only, and mounts the node's elsewhere.
    pub proc_sys_net: PathBuf,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: None, proc_sys_net: "/proc/sys/net".into() }
    }
}

/// `[source]`: where the objects of the cluster come from. `margay run` needs exactly one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// A directory of manifests, watched. A relative path starts at the configuration file's directory.
    pub directory: Option<PathBuf>,
    /// An API server: `"in-cluster"` from the service account of Margay's pod, else the path of a kubeconfig, which is
    /// relative as above. Credentials that change there are noticed.
    #[serde(deserialize_with = "read::access")]
    pub kubernetes: Option<Access>,
}

/// `[[uplink]]`: a device toward other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// The kernel's name of the device. Must be given.
    pub device: String,
    /// The 802.1Q VLAN on the device whose frames are the port's, from 1 to 4094: what comes with its tag is Margay's
    /// where it would be Margay's untagged, and leaves with it (priority 0); what is untagged, has another tag or two is
    /// the kernel's. Addresses, routes, neighbours and MTU are those of the kernel's interface of the VLAN
    /// (`ip link add link eth0 name eth0.100 type vlan id 100`), for which the port waits. Default: untagged frames.
    ///
    /// Tags have to be in the frames. Margay turns `rx-vlan-offload` of its uplinks off; where the device is a veth, what
    /// is at its other end must not leave tags to it (`ethtool -K PEER tx-vlan-offload off`), else they go to the kernel. Captures of a replay have no tags.
    #[serde(default, deserialize_with = "read::vlan")]
    pub vlan: Option<u16>,
    /// The interface that has the addresses, where that is not the VLAN's own: a bridge or a macvlan upon it. Goes with
    /// `vlan`. Default: the interface of the VLAN, whatever its name.
    #[serde(default)]
    pub interface: Option<String>,
    /// Name of the port where people read it. Default: the device.
    pub name: Option<String>,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Largest IP packet to send there, in bytes, where that is less than the device's MTU (1500 in a replay).
    #[serde(default, deserialize_with = "read::mtu")]
    pub mtu: Option<u16>,
}

impl Uplink {
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.device)
    }
}

/// `[pods]`: the ports of the pods on this node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pods {
    /// What the host end of a pod's veth is called before the hash of the pod's name: Calico's `cali`.
    #[serde(deserialize_with = "read::interface_prefix")]
    pub interface_prefix: String,
    pub on_failure: OnFailure,
    /// As for an uplink.
    #[serde(deserialize_with = "read::mtu")]
    pub mtu: Option<u16>,
}

impl Default for Pods {
    fn default() -> Self {
        Self { interface_prefix: "cali".into(), on_failure: OnFailure::default(), mtu: None }
    }
}

/// What becomes of a port's packets while no Margay runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They go to the kernel.
    #[default]
    Pass,
    /// They are dropped, except those that are the kernel's anyway.
    Drop,
}

/// `[workers]`: the threads that move packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// One worker on each of these cores, numbered as the kernel does. Default: one, on the last core.
    #[serde(deserialize_with = "read::cores")]
    pub cores: Vec<usize>,
    pub idle: Idle,
}

/// What a worker without packets does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Ask again at once: the core is the worker's alone.
    #[default]
    Spin,
    /// Sleep in the kernel until a packet comes.
    Poll,
}

/// `[flow_table]`: memory for connections, taken at start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowTable {
    /// Connections that the table holds, about 216 bytes each, 180 without accounting. Default: 1,048,576.
    #[serde(deserialize_with = "read::connections")]
    pub connections: u32,
    /// Whether packets and bytes of each connection are counted, for `margay flows` and flow logs. Default true.
    pub accounting: bool,
}

impl Default for FlowTable {
    fn default() -> Self {
        Self { connections: 1 << 20, accounting: true }
    }
}

/// `[conntrack]`: when a connection without packets is forgotten, as `"20s"` or `"1h"`, where defaults are Calico's; and
/// which connections are taken.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conntrack {
    /// TCP before the handshake is complete. Default 20s.
    #[serde(deserialize_with = "read::timeout")]
    pub tcp_handshake: Duration,
    /// Default 1h.
    #[serde(deserialize_with = "read::timeout")]
    pub tcp_established: Duration,
    /// After a FIN of both sides. Default 2m.
    #[serde(deserialize_with = "read::timeout")]
    pub tcp_fins_seen: Duration,
    /// After a RST. Default 40s.
    #[serde(deserialize_with = "read::timeout")]
    pub tcp_reset: Duration,
    /// Default 1m.
    #[serde(deserialize_with = "read::timeout")]
    pub udp: Duration,
    /// Default 5s.
    #[serde(deserialize_with = "read::timeout")]
    pub icmp: Duration,
    /// Every other protocol. Default 10m.
    #[serde(deserialize_with = "read::timeout")]
    pub other: Duration,
    /// TCP packets in the middle of a connection that is not known: `"pickup"` judges them as first packets in the
    /// direction that they go and takes their connection up, `"drop"` drops them, and a time as `"10m"` picks up for so
    /// long after the start, then drops. Default 10m.
    pub mid_flow: MidFlow,
    /// Connections that one pod may hold at once, those included that others have opened to it and not completed: a
    /// fraction of `flow_table.connections` (as 0.25, up to 1.0), or a number (as 10000). Default 0.5.
    pub endpoint_share: Share,
}

/// What is done with TCP packets in the middle of unknown connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidFlow {
    Pickup,
    PickupFor(Duration),
    Drop,
}

impl From<MidFlow> for pipeline::MidFlow {
    fn from(configured: MidFlow) -> Self {
        match configured {
            MidFlow::Pickup => Self::Pickup,
            MidFlow::PickupFor(time) => Self::PickupFor(time),
            MidFlow::Drop => Self::Drop,
        }
    }
}

/// A part of the flow table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    Fraction(f64),
    Connections(u32),
}

impl Share {
    /// Connections, of a table that holds so many.
    // A fraction is not negative.
    #[allow(clippy::cast_sign_loss)]
    pub fn of(self, connections: u32) -> u32 {
        match self {
            Self::Fraction(fraction) => ((f64::from(connections) * fraction) as u32).max(1),
            Self::Connections(number) => number.min(connections),
        }
    }
}

impl Conntrack {
    /// The times, in the seconds that the flow table counts.
    pub fn timeouts(&self) -> Timeouts {
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        Timeouts {
            tcp_handshake: seconds(self.tcp_handshake),
            tcp_established: seconds(self.tcp_established),
            tcp_fins: seconds(self.tcp_fins_seen),
            tcp_rst: seconds(self.tcp_reset),
            udp: seconds(self.udp),
            icmp: seconds(self.icmp),
            other: seconds(self.other),
        }
    }
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            tcp_handshake: Duration::from_secs(20),
            tcp_established: Duration::from_secs(3600),
            tcp_fins_seen: Duration::from_secs(120),
            tcp_reset: Duration::from_secs(40),
            udp: Duration::from_secs(60),
            icmp: Duration::from_secs(5),
            other: Duration::from_secs(600),
            mid_flow: MidFlow::PickupFor(Duration::from_secs(600)),
            endpoint_share: Share::Fraction(0.5),
        }
    }
}

/// `[fragments]`: datagrams that come in fragments, all of which go the way of the first one. Memory for them is taken at
/// start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fragments {
    /// Datagrams that have not come whole, about 2 kB each; one sender has a quarter of them at most. Default: 2048.
    #[serde(deserialize_with = "read::datagrams")]
    pub datagrams: u32,
    /// How long after a fragment of a datagram came first others may come: the kernel's `ipfrag_time`. Default 30s.
    #[serde(deserialize_with = "read::timeout")]
    pub timeout: Duration,
}

impl Default for Fragments {
    fn default() -> Self {
        Self { datagrams: 2048, timeout: Duration::from_secs(pipeline::FRAGMENT_TIMEOUT.into()) }
    }
}

/// `[log]`: what goes to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}
