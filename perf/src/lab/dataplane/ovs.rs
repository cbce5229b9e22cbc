//! Open vSwitch as the gateway: its userspace datapath with `AF_XDP` ports, tunnels of its own, connection tracking, and flows
//! that allow what the policies do. A daemon and a database of its own, beside whatever service the machine runs.

mod flows;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use margay_testbed::ip::{self, Batch};
use tempfile::TempDir;

use super::cluster;
use super::process::{self, Process, require};
use super::{Cores, Description, Gateway};
use crate::lab::case::{Case, Dataplane, Job};
use crate::lab::site::{Site, lladdr};
use crate::lab::world::{Beyond, GATEWAY, GATEWAY_MAC, MAC, NODE, Side, VNI, VXLAN_PORT};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const BRIDGE: &str = "overlay";
const SIDES: [Side; 2] = [Side::Source, Side::Sink];

/// Flows from which on the exact-match cache, of 8,192 entries, is left out for the signature-match cache, as its manual
/// advises.
const MANY_FLOWS: u32 = 8192;
/// Its `AF_XDP` ports have chunks of 2,048 bytes, of which 384 stand before the packet.
const LONGEST_FRAME: u32 = 2048 - 384;
/// Connections that it tracks if it is not told.
const COMMON_CONNECTIONS: u32 = 3_000_000;

struct Ovs {
    tools: Tools,
    /// Daemon first: it ends before its database.
    _daemon: Process,
    _database: Process,
    bridges: Vec<(String, u32)>,
    description: Description,
}

/// The programs that speak with the daemon, and its files.
struct Tools {
    netns: String,
    directory: TempDir,
}

pub fn start(site: &Site, case: &Case, cores: Cores) -> Result<Box<dyn Gateway>> {
    let programs = ["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ovs-appctl"];
    require(&programs.map(|program| (program, "openvswitch-switch")))?;
    let mtu = site.sides.iter().map(|end| end.mtu).max().unwrap_or(0);
    ensure!(
        mtu + 14 <= LONGEST_FRAME,
        "frames of {} bytes need an MTU of {mtu}, and Open vSwitch's AF_XDP ports take {} at most",
        case.size,
        LONGEST_FRAME - 14
    );
    let directory =
        tempfile::Builder::new().prefix("margay-perf-").tempdir().context("cannot make a directory")?;
    let tools = Tools { netns: site.gateway.clone(), directory };
    let database = start_database(&tools)?;
    tools.ovs_vsctl(&["--no-wait", "init"])?;
    let mut set = vec!["--no-wait", "set", "Open_vSwitch", "."];
    let options = options(case, cores);
    set.extend(options.iter().map(String::as_str));
    tools.ovs_vsctl(&set)?;
    let daemon = start_daemon(&tools)?;
    let ports = build(&tools, site, case)
        .with_context(|| format!("the log of ovs-vswitchd ends:\n{}", daemon.tail()))?;
    tools.add_flows(BRIDGE, &flows::overlay(case))?;
    for side in SIDES.into_iter().filter(|&side| site.end(side).beyond == Beyond::Vxlan) {
        tools.add_flows(&underlay(side), &flows::underlay())?;
        // Nobody waits for ARP.
        let (address, mac) = (NODE[side as usize].to_string(), lladdr(MAC[side as usize]));
        tools.ovs_appctl(&["tnl/arp/set", &underlay(side), &address, &mac])?;
    }
    if case.policies > 0 {
        tools.ovs_appctl(&[
            "dpctl/ct-set-maxconns",
            &COMMON_CONNECTIONS.max(case.flows.saturating_mul(2)).to_string(),
        ])?;
    }
    if case.job == Job::Tcp {
        leave_no_checksums(site)?;
    }
    let description = describe(&tools, case, cores, &options)?;
    Ok(Box::new(Ovs { tools, _daemon: daemon, _database: database, bridges: ports, description }))
}

fn start_database(tools: &Tools) -> Result<Process> {
    let (database, socket) = (tools.path("conf.db"), tools.path("db.sock"));
    process::run(ip::command("ovsdb-tool").arg("create").arg(&database).arg(SCHEMA))?;
    let mut command = tools.inside("ovsdb-server", "ovsdb.ctl");
    command.arg(&database).arg(format!("--remote=punix:{}", socket.display()));
    let mut process = Process::start(&mut command, "ovsdb-server", tools.path("ovsdb.log"))?;
    process.wait(|| Ok(socket.exists()))?;
    Ok(process)
}

fn start_daemon(tools: &Tools) -> Result<Process> {
    let control = "vswitchd.ctl";
    let mut command = tools.inside("ovs-vswitchd", control);
    let mut process =
        Process::start(command.arg(tools.database()), "ovs-vswitchd", tools.path("vswitchd.log"))?;
    process.wait(|| Ok(tools.path(control).exists()))?;
    Ok(process)
}

/// Options of the whole switch.
fn options(case: &Case, cores: Cores) -> Vec<String> {
    let mut options = vec![format!("other_config:pmd-cpu-mask={:#x}", 1_u128 << cores.dataplane)];
    if case.flows > MANY_FLOWS {
        options.extend(
            ["other_config:smc-enable=true", "other_config:emc-insert-inv-prob=0"].map(str::to_owned),
        );
    }
    options
}

/// Bridges and ports. In the overlay's bridge the port of a side is 1 or 2: its device, or its tunnel, which leaves by
/// the side's own bridge. Returns the devices: their bridge, and their number there.
fn build(tools: &Tools, site: &Site, case: &Case) -> Result<Vec<(String, u32)>> {
    let mut words = Words::default();
    words.bridge(BRIDGE, None);
    let mut devices = Vec::new();
    for side in SIDES {
        let (end, number) = (site.end(side), side as u32 + 1);
        if end.beyond == Beyond::Vxlan {
            words.bridge(&underlay(side), Some(GATEWAY_MAC[side as usize]));
            words.device(&underlay(side), &end.gateway_device, 1);
            words.tunnel(number, side, case.job);
            devices.push((underlay(side), 1));
        } else {
            words.device(BRIDGE, &end.gateway_device, number);
            devices.push((BRIDGE.to_owned(), number));
        }
    }
    let words: Vec<&str> = words.0.iter().map(String::as_str).collect();
    tools.ovs_vsctl(&words)?;
    let errors = tools.ovs_vsctl(&["--bare", "--columns=error", "list", "interface"])?;
    let errors: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).collect();
    if !errors.is_empty() {
        bail!("Open vSwitch refuses ports: {}", errors.join("; "));
    }
    move_addresses(site, case)?;
    Ok(devices)
}

/// The bridge by which tunnels of a side leave.
fn underlay(side: Side) -> String {
    format!("underlay{}", side as usize)
}

/// Commands for one run of ovs-vsctl.
#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn add(&mut self, command: &str) {
        self.0.push("--".to_owned());
        self.0.extend(command.split_whitespace().map(str::to_owned));
    }

    fn bridge(&mut self, name: &str, mac: Option<[u8; 6]>) {
        self.add(&format!("add-br {name}"));
        let mac = mac.map_or_else(String::new, |mac| format!(" other_config:hwaddr=\"{}\"", lladdr(mac)));
        self.add(&format!("set bridge {name} datapath_type=netdev fail-mode=secure{mac}"));
    }

    fn device(&mut self, bridge: &str, device: &str, number: u32) {
        self.add(&format!("add-port {bridge} {device}"));
        self.add(&format!(
            "set interface {device} type=afxdp options:n_rxq=1 options:xdp-mode=native ofport_request={number}"
        ));
    }

    fn tunnel(&mut self, number: u32, side: Side, job: Job) {
        let (name, remote, own) =
            (format!("vxlan{}", side as usize), NODE[side as usize], cluster::own_address(job));
        self.add(&format!("add-port {BRIDGE} {name}"));
        // Linux' device leaves DF clear.
        self.add(&format!(
            "set interface {name} type=vxlan options:key={VNI} options:remote_ip={remote} options:local_ip={own} \
             options:dst_port={VXLAN_PORT} options:df_default=false ofport_request={number}"
        ));
    }
}

/// Tunnels begin and end at addresses of the bridges' own devices.
fn move_addresses(site: &Site, case: &Case) -> Result<()> {
    let mut batch = Batch::new();
    let own = cluster::own_address(case.job);
    for side in SIDES.into_iter().filter(|&side| site.end(side).beyond == Beyond::Vxlan) {
        let (bridge, address) = (underlay(side), GATEWAY[side as usize]);
        batch.line(format!("address flush dev {}", site.end(side).gateway_device));
        batch.line(format!("address add {address}/24 dev {bridge}"));
        batch.lines((own != address).then(|| format!("address add {own}/32 dev {bridge}")));
        batch.line(format!("link set {bridge} up"));
    }
    batch.run(Some(&site.gateway))
}

/// Its `AF_XDP` ports complete no checksum that a local sender left to its device: both ends send them whole.
fn leave_no_checksums(site: &Site) -> Result<()> {
    require(&[("ethtool", "ethtool")])?;
    for end in &site.sides {
        process::run(ip::in_netns(&end.netns, "ethtool").args(["-K", end.device, "tx", "off"]))?;
    }
    Ok(())
}

fn describe(tools: &Tools, case: &Case, cores: Cores, options: &[String]) -> Result<Description> {
    let version = tools.ovs_vsctl(&["--version"])?;
    let version = version.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or("unknown");
    let policy = match case.policies {
        0 => "no connection tracking".to_owned(),
        count => {
            format!("connection tracking: established first, then {count} flows for each of UDP and TCP")
        }
    };
    Ok(Description {
        dataplane: Dataplane::Ovs,
        version: version.to_owned(),
        arrangement: format!("one PMD thread, which spins, on core {}", cores.dataplane),
        settings: ["AF_XDP, native, copy, need-wakeup".to_owned(), policy]
            .into_iter()
            .chain(options.iter().cloned())
            .collect(),
    })
}

impl Tools {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn database(&self) -> String {
        format!("unix:{}", self.path("db.sock").display())
    }

    /// A daemon in the gateway's namespace, its control socket so named.
    fn inside(&self, program: &str, control: &str) -> Command {
        let mut command = ip::in_netns(&self.netns, program);
        command.env("OVS_RUNDIR", self.directory.path());
        command.args(["--no-chdir", "-vsyslog:off"]);
        command.arg(format!("--unixctl={}", self.path(control).display()));
        command
    }

    /// The programs talk to the daemon through files in its directory, whatever the namespace.
    fn command(&self, program: &str) -> Command {
        let mut command = ip::command(program);
        command.env("OVS_RUNDIR", self.directory.path());
        command
    }

    fn ovs_vsctl(&self, words: &[&str]) -> Result<String> {
        process::run(
            self.command("ovs-vsctl")
                .args(["--timeout=30", &format!("--db={}", self.database())])
                .args(words),
        )
    }

    fn ovs_appctl(&self, words: &[&str]) -> Result<String> {
        process::run(self.command("ovs-appctl").arg("-t").arg(self.path("vswitchd.ctl")).args(words))
    }

    fn ovs_ofctl(&self, words: &[&str], input: &str) -> Result<String> {
        process::run_with(self.command("ovs-ofctl").args(words), input)
    }

    fn add_flows(&self, bridge: &str, flows: &str) -> Result<()> {
        let bridge = self.path(&format!("{bridge}.mgmt"));
        self.ovs_ofctl(&["add-flows", text(&bridge)?, "-"], flows).map(drop)
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary directory is no UTF-8")
}

impl Gateway for Ovs {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn forwarded(&self) -> Result<u64> {
        let mut sent = 0;
        for (bridge, port) in &self.bridges {
            let bridge = self.tools.path(&format!("{bridge}.mgmt"));
            let ports = self.tools.ovs_ofctl(&["dump-ports", text(&bridge)?, &port.to_string()], "")?;
            sent += flows::sent(&ports)
                .with_context(|| format!("cannot read the counters of a port: {ports}"))?;
        }
        Ok(sent)
    }

    fn drops(&self) -> Result<Vec<(String, u64)>> {
        Ok(flows::drops(&self.tools.ovs_appctl(&["coverage/show"])?))
    }
}
