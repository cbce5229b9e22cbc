//! Every field of the configuration, with what becomes of it when a gateway that runs is given a new one.

use crate::config::Config;

/// What becomes of a field that has changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It is taken over.
    Live(fn(&mut Config, &Config)),
    /// What was stays in force until the gateway is started anew.
    Restart,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Keys from the outermost table inward.
    pub path: &'static str,
    pub differs: fn(&Config, &Config) -> bool,
    pub fate: Fate,
}

macro_rules! field {
    (live $table:ident $(. $key:ident)*) => {
        field!(Fate::Live(|config, new| config.$table $(.$key)*.clone_from(&new.$table $(.$key)*)), $table $(.$key)*)
    };
    (restart $table:ident $(. $key:ident)*) => {
        field!(Fate::Restart, $table $(.$key)*)
    };
    ($fate:expr, $table:ident $(. $key:ident)*) => {
        Field {
            path: concat!(stringify!($table) $(, ".", stringify!($key))*),
            differs: |a, b| a.$table $(.$key)* != b.$table $(.$key)*,
            fate: $fate,
        }
    };
}

/// What takes a restart is memory that is taken at the start, the threads, the sources, how sockets are opened, and what the
/// flow table was made with.
pub(super) const FIELDS: &[Field] = &[
    field!(restart node.name),
    field!(restart node.proc_sys_net),
    field!(restart source.directory),
    field!(restart source.kubernetes),
    field!(live uplink),
    field!(live pods.interface_prefix),
    field!(live pods.on_failure),
    field!(live pods.mtu),
    field!(live policy.established),
    field!(restart policy.rules),
    field!(live policy.endpoint_to_host),
    field!(restart policy.host_interface_prefix),
    field!(restart workers.cores),
    field!(restart workers.idle),
    field!(restart umem.frame_size),
    field!(restart umem.frames),
    field!(restart xdp.mode),
    field!(restart xdp.zero_copy),
    field!(restart xdp.tx_checksum),
    field!(restart xdp.uplink_rx),
    field!(restart xdp.uplink_tx),
    field!(restart xdp.pod_rx),
    field!(restart xdp.pod_tx),
    field!(restart flow_table.connections),
    field!(restart flow_table.accounting),
    field!(restart conntrack.tcp_handshake),
    field!(restart conntrack.tcp_established),
    field!(restart conntrack.tcp_fins_seen),
    field!(restart conntrack.tcp_reset),
    field!(restart conntrack.udp),
    field!(restart conntrack.icmp),
    field!(restart conntrack.other),
    field!(live conntrack.mid_flow),
    field!(restart conntrack.endpoint_share),
    field!(restart fragments.datagrams),
    field!(restart fragments.timeout),
    field!(live tunnel.vni),
    field!(live tunnel.vxlan_port),
    field!(live tunnel.inner_source),
    field!(live tunnel.from_pods),
    field!(live tunnel.udp6_zero_checksum),
    field!(live tunnel.vxlan.dscp),
    field!(live tunnel.vxlan.ttl),
    field!(live tunnel.vxlan.df),
    field!(live tunnel.vxlan.mtu),
    field!(live tunnel.ipip.dscp),
    field!(live tunnel.ipip.ttl),
    field!(live tunnel.ipip.df),
    field!(live tunnel.ipip.mtu),
    field!(live icmp.unreachable),
    field!(live tcp.clamp_mss),
    field!(live report.events),
    field!(live report.status),
    field!(live calico.vxlan_tunnel_address),
    field!(live calico.vxlan_tunnel_address6),
    field!(live calico.ipip_tunnel_address),
    field!(restart admin.socket),
    field!(restart admin.group),
    field!(restart admin.mode),
    field!(restart metrics.listen),
    field!(restart flow_log.file),
    field!(restart flow_log.file_bytes),
    field!(restart flow_log.files),
    field!(restart flow_log.stdout),
    field!(restart flow_log.ipfix),
    field!(restart flow_log.ipfix_mtu),
    field!(restart flow_log.events),
    field!(restart flow_log.aggregate),
    field!(restart flow_log.interval),
    field!(restart flow_log.records),
    field!(restart privileges.drop_capabilities),
    field!(restart privileges.seccomp),
    field!(live log.level),
];

/// Keys of an uplink beside its device, by which it is known.
pub(super) const UPLINK: [&str; 5] = ["name", "vlan", "interface", "on_failure", "mtu"];
