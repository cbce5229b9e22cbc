//! What a configuration file may say, and how a mistake in it is answered.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use margay_control::config::{
    Access, Config, EndpointToHost, Established, Idle, MidFlow, OnFailure, Seccomp, Share, TxChecksum,
    XdpMode, ZeroCopy,
};
use margay_flowtable::{DontFragment, Dscp, InnerSource, Outer, Ttl};

const WHOLE: &str = r#"
[node]
name = "gw-a"
proc_sys_net = "/host/net"
[source]
directory = "manifests"
[[uplink]]
device = "eth0"
[[uplink]]
device = "eth1"
name = "backbone"
vlan = 100
interface = "br100"
on_failure = "drop"
mtu = 9000
[pods]
interface_prefix = "veth"
on_failure = "drop"
[workers]
cores = [1, 3]
idle = "poll"
[umem]
frame_size = 4096
frames = 8192
[xdp]
mode = "skb"
zero_copy = "off"
tx_checksum = "off"
uplink_rx = 4096
uplink_tx = 1024
pod_rx = 256
pod_tx = 128
[flow_table]
connections = 1000
[conntrack]
tcp_established = "2h"
udp = "90s"
mid_flow = "90s"
endpoint_share = 0.25
[fragments]
datagrams = 64
timeout = "15s"
[policy]
established = "keep"
rules = 5000
endpoint_to_host = "drop"
host_interface_prefix = "mgy-host-"
[tunnel]
vni = 7
vxlan_port = 8472
inner_source = "loose"
from_pods = true
udp6_zero_checksum = true
[tunnel.vxlan]
dscp = "copy"
ttl = "inherit"
df = "copy"
mtu = 1400
[tunnel.ipip]
dscp = 46
ttl = 32
df = true
[icmp]
unreachable = true
[tcp]
clamp_mss = true
[report]
events = false
status = false
[calico]
vxlan_tunnel_address = "10.9.0.1"
vxlan_tunnel_address6 = "fd00:9::1"
ipip_tunnel_address = "10.9.0.2"
[admin]
socket = "/run/a.sock"
group = "adm"
mode = 0o640
[metrics]
listen = "[::1]:9817"
[privileges]
drop_capabilities = false
seccomp = "log"
[log]
level = "debug"
"#;

#[test]
fn every_key_is_read() {
    let config = Config::parse(Path::new("margay.toml"), WHOLE).unwrap();
    assert_eq!(config.node.name.as_deref(), Some("gw-a"));
    assert_eq!(config.node.proc_sys_net, Path::new("/host/net"));
    assert_eq!((config.report.events, config.report.status), (false, false));
    let address = |last| Some(Ipv4Addr::new(10, 9, 0, last));
    assert_eq!(
        (config.calico.vxlan_tunnel_address, config.calico.ipip_tunnel_address),
        (address(1), address(2))
    );
    assert_eq!(config.calico.vxlan_tunnel_address6, Some("fd00:9::1".parse().unwrap()));
    assert_eq!(config.source.directory.as_deref(), Some(Path::new("manifests")));
    assert_eq!(config.uplink[0].name(), "eth0");
    assert_eq!(config.uplink[0].on_failure, OnFailure::Pass);
    assert_eq!((config.uplink[1].name(), config.uplink[1].device.as_str()), ("backbone", "eth1"));
    assert_eq!(
        (config.uplink[1].vlan, config.uplink[1].interface.as_deref(), config.uplink[0].vlan),
        (Some(100), Some("br100"), None)
    );
    assert_eq!((config.uplink[1].on_failure, config.uplink[1].mtu), (OnFailure::Drop, Some(9000)));
    assert_eq!(config.pods.interface_prefix, "veth");
    assert_eq!(config.policy.endpoint_to_host, EndpointToHost::Drop);
    assert_eq!(config.policy.host_interface_prefix, "mgy-host-");
    assert_eq!((config.workers.cores, config.workers.idle), (vec![1, 3], Idle::Poll));
    assert_eq!((config.umem.frame_size, config.umem.frames), (4096, 8192));
    assert_eq!((config.xdp.mode, config.xdp.zero_copy), (XdpMode::Skb, ZeroCopy::Off));
    assert_eq!(config.xdp.tx_checksum, TxChecksum::Off);
    assert_eq!((config.xdp.uplink_rx, config.xdp.uplink_tx), (4096, 1024));
    assert_eq!((config.xdp.pod_rx, config.xdp.pod_tx), (256, 128));
    assert_eq!(config.flow_table.connections, 1000);
    assert_eq!(config.conntrack.tcp_established, Duration::from_secs(7200));
    assert_eq!(config.conntrack.udp, Duration::from_secs(90));
    assert_eq!(config.conntrack.mid_flow, MidFlow::PickupFor(Duration::from_secs(90)));
    assert_eq!(config.conntrack.endpoint_share, Share::Fraction(0.25));
    assert_eq!(config.conntrack.endpoint_share.of(config.flow_table.connections), 250);
    assert_eq!(config.conntrack.icmp, Duration::from_secs(5));
    assert_eq!((config.fragments.datagrams, config.fragments.timeout), (64, Duration::from_secs(15)));
    assert_eq!((config.policy.established, config.policy.rules), (Established::Keep, 5000));
    assert_eq!((config.tunnel.vni, config.tunnel.vxlan_port), (Some(7), Some(8472)));
    assert_eq!(config.admin.socket, Path::new("/run/a.sock"));
    assert_eq!(config.metrics.listen, Some("[::1]:9817".parse().unwrap()));
    assert_eq!(Config::default().metrics.listen, None, "nothing listens that was not asked to");
    assert_eq!((config.admin.group.as_deref(), config.admin.mode()), (Some("adm"), 0o640));
    let mode = |text| Config::parse(Path::new("m.toml"), text).unwrap().admin.mode();
    assert_eq!((mode(""), mode("admin.group = \"adm\"")), (0o600, 0o660));
    assert_eq!((config.privileges.drop_capabilities, config.privileges.seccomp), (false, Seccomp::Log));
    let copied = Outer { dscp: Dscp::Copy, ttl: Ttl::Inherit, dont_fragment: DontFragment::Copy };
    assert_eq!((config.tunnel.vxlan.outer(Outer::VXLAN), config.tunnel.vxlan.mtu), (copied, Some(1400)));
    let fixed = Outer { dscp: Dscp::Fixed(46), ttl: Ttl::Fixed(32), dont_fragment: DontFragment::Set };
    assert_eq!((config.tunnel.ipip.outer(Outer::IPIP), config.tunnel.ipip.mtu), (fixed, None));
    assert_eq!((config.tunnel.inner_source, config.tunnel.from_pods), (InnerSource::Loose, true));
    assert!(config.icmp.unreachable && config.tcp.clamp_mss && config.tunnel.udp6_zero_checksum);
}

#[test]
fn outer_headers_are_the_kernel_s_unless_configured() {
    let config = Config::parse(Path::new("margay.toml"), "[tunnel.vxlan]\ndf = false").unwrap();
    assert_eq!(config.tunnel.vxlan.outer(Outer::VXLAN), Outer::VXLAN);
    assert_eq!(config.tunnel.ipip.outer(Outer::IPIP), Outer::IPIP);
    assert_eq!((config.tunnel.inner_source, config.tunnel.from_pods), (InnerSource::Strict, false));
    assert!(!config.icmp.unreachable && !config.tcp.clamp_mss && !config.tunnel.udp6_zero_checksum);
}

#[test]
fn a_share_is_a_fraction_or_a_number() {
    for (text, of_a_thousand) in
        [("0.0001", 1), ("0.5", 500), ("1.0", 1000), ("1", 1), ("70", 70), ("5000", 1000)]
    {
        let text = format!("[conntrack]\nendpoint_share = {text}");
        let config = Config::parse(Path::new("margay.toml"), &text).unwrap();
        assert_eq!(config.conntrack.endpoint_share.of(1000), of_a_thousand, "{text}");
    }
}

#[test]
fn an_api_server_is_in_cluster_or_of_a_kubeconfig() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("margay.toml");
    for (text, access) in [
        ("in-cluster", Access::InCluster),
        ("kubeconfig", Access::Kubeconfig(home.path().join("kubeconfig"))),
        ("/etc/kubeconfig", Access::Kubeconfig("/etc/kubeconfig".into())),
    ] {
        fs::write(&file, format!("[source]\nkubernetes = \"{text}\"")).unwrap();
        assert_eq!(Config::load(&file).unwrap().source.kubernetes, Some(access));
    }
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(Config::parse(Path::new("margay.toml"), "").unwrap(), Config::default());
}

#[test]
fn a_mistake_is_named_with_its_place_and_the_nearest_valid_word() {
    let cases = [
        ("[umem]\nframe_sise = 2048", "2:1: unknown key `frame_sise`: did you mean `frame_size`?"),
        ("[umem]\n[uplnk]\ndevice = \"a\"", "2:2: unknown key `uplnk`: did you mean `uplink`?"),
        ("[[uplink]]\ndevise = \"eth0\"", "2:1: unknown key `devise`: did you mean `device`?"),
        ("[workers]\nidle = \"spinn\"", "2:8: unknown value `spinn`: did you mean `spin`?"),
        ("[umem]\nframe_size = 3000", "2:14: 3000 cannot be: it must be 2048 or 4096"),
        ("[umem]\nframes = 0", "2:10: 0 cannot be: it must be from 1"),
        ("[umem]\nframes = \"many\"", "2:10: invalid type: string \"many\""),
        ("[xdp]\npod_rx = 1000", "2:10: 1000 cannot be: it must be a power of two"),
        ("[source]\nkubernetes = \"\"", "2:14: \"\" cannot be: it must be \"in-cluster\", or the path"),
        ("[tunnel]\nvni = 16777216", "2:7: 16777216 cannot be: it must be from 0 to 16777215"),
        ("[tunnel]\nvxlan_port = 65536", "2:14: 65536 cannot be: it must be a UDP port"),
        ("[tunnel]\nvxlan_port = -1", "2:14: -1 cannot be"),
        ("[[uplink]]\ndevice = \"a\"\nmtu = 200", "3:7: 200 cannot be: it must be from 1280"),
        ("[fragments]\ndatagrams = 70000", "2:13: 70000 cannot be: it must be from 1 to 65535"),
        ("[tunnel]\ninner_source = \"losse\"", "2:16: unknown value `losse`: did you mean `loose`?"),
        (
            "[tunnel.vxlan]\ndscp = 64",
            "2:8: invalid value: integer `64`, expected a DSCP from 0 to 63, or \"copy\"",
        ),
        (
            "[tunnel.ipip]\nttl = 0",
            "2:7: invalid value: integer `0`, expected a TTL from 1 to 255, or \"inherit\"",
        ),
        (
            "[tunnel.ipip]\ndf = \"yes\"",
            "2:6: invalid value: string \"yes\", expected true, false, or \"copy\"",
        ),
        ("[conntrack]\nudp = \"1 fortnight\"", "2:7: "),
        (
            "[conntrack]\nmid_flow = \"dorp\"",
            "2:12: \"dorp\" cannot be: it must be \"pickup\", \"drop\", or how long",
        ),
        (
            "[conntrack]\nendpoint_share = 2.5",
            "2:18: invalid value: floating point `2.5`, expected a fraction above 0.0 up to 1.0, or a number",
        ),
        (
            "[conntrack]\nendpoint_share = 0",
            "2:18: invalid value: integer `0`, expected a fraction above 0.0",
        ),
        ("[policy]\nestablished = \"kepp\"", "2:15: unknown value `kepp`: did you mean `keep`?"),
        (
            "[metrics]\nlisten = \"localhost:9817\"",
            "2:10: \"localhost:9817\" cannot be: it must be an IP address",
        ),
        ("[metrics]\nlisten = \"127.0.0.1:0\"", "2:10: \"127.0.0.1:0\" cannot be: it must be an IP address"),
        ("[policy]\nrules = 0", "2:9: 0 cannot be: it must be from 1 to 524287"),
        ("[policy]\nrules = 1000000", "2:9: 1000000 cannot be: it must be from 1 to 524287"),
        ("[conntrack]\nudp = \"10ms\"", "2:7: 10ms cannot be: it must be a second or more"),
        (
            "[calico]\nvxlan_tunnel_address = \"10.9.0.0/24\"",
            "2:24: \"10.9.0.0/24\" cannot be: it must be the IPv4",
        ),
        (
            "[calico]\nipip_tunnel_address = \"224.0.0.1\"",
            "2:23: \"224.0.0.1\" cannot be: it must be the IPv4",
        ),
        ("[calico]\nvxlan_tunnel_address6 = \"fe80::1\"", "2:25: \"fe80::1\" cannot be: it must be the IPv6"),
        (
            "[calico]\nvxlan_adress = \"10.9.0.1\"",
            "2:1: unknown key `vxlan_adress`: did you mean `vxlan_tunnel",
        ),
        ("[pods]\ninterface_prefix = \"calico\"", "2:20: \"calico\" cannot be: it must be 1 to 4 letters"),
        (
            "[policy]\nhost_interface_prefix = \"margay-to-host-\"",
            "2:25: \"margay-to-host-\" cannot be: it must be 1 to 14 letters",
        ),
        ("[policy]\nendpoint_to_host = \"return\"", "2:20: unknown value `return`: "),
        ("[workers]\ncores = [1, 1]", "2:9: [1, 1] cannot be: it must be a list of different cores"),
        ("[[uplink]]\non_failure = \"pass\"", "1:1: missing field `device`"),
        ("[[uplink]]\ndevice = \"a\"\nvlan = 4095", "3:8: 4095 cannot be: it must be from 1 to 4094"),
        ("[[uplink]]\ndevice = \"a\"\ninterface = \"b\"", "1:1: uplink a has an interface and no vlan"),
        ("[[uplink]]\ndevice = \"a\"\n[[uplink]]\ndevice = \"a\"", "1:1: uplink a stands twice"),
        ("[admin]\nmode = 0o666", "2:8: 438 cannot be: it must be a mode that gives others nothing"),
        ("[node\nname = 1", "1:6: "),
    ];
    for (text, expected) in cases {
        let error = Config::parse(Path::new("etc/margay.toml"), text).expect_err(text).to_string();
        let expected = format!("etc/margay.toml:{expected}");
        assert!(error.starts_with(&expected), "{text:?}\n  expected {expected}\n  got      {error}");
    }
}

#[test]
fn a_relative_directory_starts_at_the_file() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("margay.toml");
    fs::write(&file, "[source]\ndirectory = \"objects\"").unwrap();
    assert_eq!(Config::load(&file).unwrap().source.directory, Some(home.path().join("objects")));

    fs::write(&file, "[source]\ndirectory = \"/objects\"").unwrap();
    assert_eq!(Config::load(&file).unwrap().source.directory.as_deref(), Some(Path::new("/objects")));

    let missing = Config::load(&home.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml: cannot read the configuration: No such file"), "{missing}");
}
