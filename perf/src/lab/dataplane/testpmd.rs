//! DPDK's testpmd as the gateway: it gives frames other MAC addresses and looks at nothing else, so that plain forwarding is
//! the one job that it does. By its driver `af_packet`: Debian 12's `af_xdp` receives nothing on a kernel of today.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use margay_testbed::ip;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{connect, recv, send, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Deserialize;
use tempfile::TempDir;

use super::process::{Process, require};
use super::{Cores, Description, Gateway};
use crate::lab::case::{Case, Dataplane, Job};
use crate::lab::site::{Site, lladdr};
use crate::lab::world::MAC;

const PROGRAM: &str = "dpdk-testpmd";
/// MiB of its memory: of the machine's small pages.
const MEMORY: &str = "512";
/// Bytes of an answer at most, as the library says itself.
const LONGEST_ANSWER: usize = 16_384;
/// Seconds that it may take to answer.
const PATIENCE: i64 = 5;
/// Bytes that a slot of the driver's rings has beside the packet, and a buffer before it.
const BESIDE: u32 = 128;

struct Testpmd {
    /// First: it ends before its directory.
    process: Process,
    directory: TempDir,
    description: Description,
}

pub fn start(site: &Site, case: &Case, cores: Cores) -> Result<Box<dyn Gateway>> {
    ensure!(
        case.job.way() == Job::L3,
        "testpmd does not do this: it has no tunnels and no policy, and forwards in the job l3 alone"
    );
    require(&[(PROGRAM, "dpdk-dev")])?;
    let directory =
        tempfile::Builder::new().prefix("margay-perf-").tempdir().context("cannot make a directory")?;
    let arguments = arguments(site, cores);
    let mut command = ip::in_netns(&site.gateway, PROGRAM);
    command.args(&arguments).env("RUNTIME_DIRECTORY", directory.path());
    let log = directory.path().join("log");
    let mut process = Process::start(&mut command, PROGRAM, log.clone())?;
    process.wait(|| Ok(forwards(&log)))?;
    let version = Telemetry::open(directory.path())?.version;
    let arrangement = format!(
        "one thread that spins on core {}: receives from rings, sends, and does what the kernel does with a frame sent; \
         the kernel's part of receiving on core {}, in the softirq in which packets are made",
        cores.dataplane, cores.generator
    );
    let settings = vec![arguments.join(" ")];
    let description = Description { dataplane: Dataplane::Testpmd, version, arrangement, settings };
    Ok(Box::new(Testpmd { process, directory, description }))
}

/// Those of the library, and behind `--` those of the program.
fn arguments(site: &Site, cores: Cores) -> Vec<String> {
    // With the Ethernet header and a tag.
    let longest = site.sides.iter().map(|end| end.mtu).max().unwrap_or_default() + 18;
    let slot = (longest + BESIDE).next_power_of_two().max(2048);
    let ports = site.sides.iter().enumerate().map(|(side, end)| {
        format!(
            "--vdev=net_af_packet{side},iface={},framesz={slot},blocksz={}",
            end.gateway_device,
            slot.max(4096)
        )
    });
    let peers = MAC.iter().enumerate().map(|(side, &mac)| format!("--eth-peer={side},{}", lladdr(mac)));
    let Cores { generator, dataplane } = cores;
    // What is not a forwarding core sleeps.
    let library = [format!("--lcores={generator},{dataplane}"), format!("--main-lcore={generator}")];
    let memory = ["--no-huge", "-m", MEMORY, "--no-pci", "--file-prefix=lab"].map(str::to_owned);
    let program = ["--", "--forward-mode=mac", "--nb-cores=1", "--no-flush-rx", "--stats-period=3600"];
    let buffers = [format!("--mbuf-size={}", slot + BESIDE), "--total-num-mbufs=8192".to_owned()];
    library
        .into_iter()
        .chain(memory)
        .chain(ports)
        .chain(program.map(str::to_owned))
        .chain(buffers)
        .chain(peers)
        .collect()
}

/// Its ports are up some time before it looks at them.
fn forwards(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|said| said.contains("forwards packets on"))
}

impl Gateway for Testpmd {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn forwarded(&self) -> Result<u64> {
        Ok(self.ports()?.iter().map(|port| port.opackets).sum())
    }

    fn drops(&self) -> Result<Vec<(String, u64)>> {
        let ports = self.ports()?;
        let sum = |of: fn(&Port) -> u64| ports.iter().map(of).sum::<u64>();
        let drops = [
            ("not sent", sum(|port| port.oerrors)),
            ("missed", sum(|port| port.imissed)),
            ("no buffer", sum(|port| port.rx_nombuf)),
        ];
        Ok(drops.map(|(reason, count)| (reason.to_owned(), count)).into())
    }
}

impl Testpmd {
    fn ports(&self) -> Result<[Port; 2]> {
        let asked = Telemetry::open(self.directory.path())
            .with_context(|| format!("testpmd's log ends:\n{}", self.process.tail()))?;
        Ok([asked.port(0)?, asked.port(1)?])
    }
}

/// A connection to the socket on which the library tells of itself (DPDK's Telemetry Library).
struct Telemetry {
    socket: OwnedFd,
    version: String,
}

/// What it says first.
#[derive(Deserialize)]
struct Greeting {
    version: String,
}

/// An answer names what was asked.
#[derive(Deserialize)]
struct Statistics {
    #[serde(rename = "/ethdev/stats")]
    port: Port,
}

#[derive(Deserialize)]
struct Port {
    opackets: u64,
    oerrors: u64,
    imissed: u64,
    rx_nombuf: u64,
}

impl Telemetry {
    fn open(directory: &Path) -> Result<Self> {
        let path: PathBuf = directory.join("dpdk/lab/dpdk_telemetry.v2");
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&path)?)
            .with_context(|| format!("cannot ask testpmd at {}", path.display()))?;
        let mut telemetry = Self { socket, version: String::new() };
        telemetry.version = telemetry.read::<Greeting>()?.version;
        Ok(telemetry)
    }

    fn port(&self, port: usize) -> Result<Port> {
        let question = format!("/ethdev/stats,{port}");
        send(self.socket.as_raw_fd(), question.as_bytes(), MsgFlags::MSG_NOSIGNAL)
            .context("cannot ask testpmd")?;
        let answer = self.read::<Statistics>();
        Ok(answer.with_context(|| format!("testpmd has not answered {question}"))?.port)
    }

    fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        let mut answer = vec![0; LONGEST_ANSWER];
        let len = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        Ok(serde_json::from_slice(&answer[..len])?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::load::{Load, Stream, Tools, complete_trial};
    use crate::lab::site;
    use crate::lab::trial::{Offered, Rate};

    fn case(job: Job) -> Case {
        Case { job, dataplane: Dataplane::Testpmd, size: 64, flows: 10, policies: 0 }
    }

    fn is_root() -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            eprintln!("skipped: network namespaces take root");
        }
        is_root
    }

    #[test]
    fn it_forwards_what_it_can_and_counts_it() {
        if !is_root() {
            return;
        }
        let cores = Cores::allowed().expect("two cores");
        for size in [64, 3000] {
            let site = Site::new(Job::L3, site::mtu(size)).expect("a site");
            let gateway = start(&site, &Case { size, ..case(Job::L3) }, cores).expect("testpmd starts");
            let mut load = Load::open(&site, &Stream::of_size(Job::L3, size, 10), cores, Tools::default())
                .expect("load");
            let (time, packets) = (Duration::from_secs(20), Some(1000));
            let offered = Offered { rate: Rate::Pps(10_000.0), time, packets };
            let before = gateway.forwarded().expect("a count");
            assert_eq!(complete_trial(&mut load, &offered).sent, 1000, "{size}");
            assert!(gateway.forwarded().expect("a count") >= before + 1000);
            gateway.drops().expect("counts of drops");
            assert!(gateway.description().version.starts_with("DPDK"));
        }
    }

    #[test]
    fn what_it_cannot_do_is_said() {
        if !is_root() {
            return;
        }
        let site = Site::new(Job::VxlanEncap, site::mtu(64)).expect("a site");
        let cores = Cores::allowed().expect("two cores");
        let error = start(&site, &case(Job::VxlanEncap), cores).err().expect("an error").to_string();
        assert!(error.contains("testpmd does not do this"), "{error}");
    }
}
