//! The facts, read of the machine as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use caps::CapSet;
use margay_fastpath::xdp::{self, Attached, Examined};
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statfs::{FsType, statfs};
use nix::sys::utsname::uname;
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use super::facts::{Device, Facts, HugePages, Locked, Peer, Program};
use crate::admin::Status;
use crate::config::Config;
use crate::kernel::{Error, Mirror};
use crate::state::{Kernel, Link};

/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS: i64 = 0xcafe_4a11;

/// Looks at the machine, in the network namespace of the calling thread, for a gateway of this configuration; `status` is
/// what one says that runs.
pub async fn gather(config: Config, status: Option<Status>) -> Result<Facts, Error> {
    let mirror = Mirror::open().await?;
    let kernel = mirror.kernel();
    let by_name: BTreeMap<&str, (u32, &Link)> =
        kernel.links.iter().map(|(index, link)| (link.name.as_str(), (*index, link))).collect();
    let device = |name: &str| by_name.get(name).map(|(index, link)| device(*index, link, kernel));
    let uplinks =
        config.uplink.iter().map(|uplink| (uplink.device.clone(), device(&uplink.device))).collect();
    let prefix = &config.pods.interface_prefix;
    let is_pod = |name: &&str| name.starts_with(prefix.as_str());
    let pods = by_name.keys().copied().filter(is_pod);
    let pods = pods.filter_map(|name| Some((name.to_owned(), device(name)?))).collect();
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Facts {
        version: version(&release),
        release,
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        xdp_socket: Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None)
            .err()
            .map(|error| error.to_string()),
        capabilities: capabilities(),
        locked: locked(),
        huge_pages: huge_pages(),
        has_bpffs: statfs("/sys/fs/bpf").is_ok_and(|found| found.filesystem_type() == FsType(BPF_FS)),
        cores: cores(),
        uplinks,
        pods,
        status,
        config,
    })
}

fn device(index: u32, link: &Link, kernel: &Kernel) -> Device {
    let Ok(found) = xdp::examine(index) else {
        // It has just gone.
        return Device { mtu: link.mtu, ..Device::default() };
    };
    let Examined { driver, mtu, queues, gro, lro, rx_vlan, hashes_ports, program } = found;
    let peer = (driver == "veth").then(|| peer(&link.name, kernel));
    Device {
        up: link.up,
        driver,
        mtu,
        queues,
        gro,
        lro,
        rx_vlan,
        hashes_ports,
        program: program.map(of),
        peer,
    }
}

fn of(attached: Attached) -> Program {
    let is_ours = attached.is_ours();
    Program { id: attached.id, is_ours, ip_word: attached.mode.ip_word().to_owned(), name: attached.name }
}

/// The kernel names a veth's peer by its index, and `iflink` in our own namespace is that of a device here.
fn peer(name: &str, kernel: &Kernel) -> Peer {
    let index = fs::read_to_string(format!("/sys/class/net/{name}/iflink")).ok();
    let index = index.and_then(|text| text.trim().parse::<u32>().ok());
    let here = index.and_then(|index| Some((index, kernel.links.get(&index)?)));
    // An index is another device's in another namespace: only one whose peer is this one counts.
    let is_mutual = |peer: &str| {
        let back = fs::read_to_string(format!("/sys/class/net/{peer}/iflink")).ok();
        let own = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok();
        back.is_some() && back == own
    };
    match here.filter(|(_, link)| is_mutual(&link.name)) {
        Some((index, link)) => {
            let found = xdp::examine(index).ok();
            let has_program = found.as_ref().is_some_and(|found| found.program.is_some());
            Peer::Here { name: link.name.clone(), gro: found.and_then(|found| found.gro), has_program }
        }
        None => Peer::Elsewhere,
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn capabilities() -> BTreeSet<String> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    effective.iter().map(ToString::to_string).collect()
}

fn locked() -> Locked {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) | Err(_) => Locked::Unlimited,
        Ok((limit, _)) => Locked::Bytes(limit),
    }
}

fn huge_pages() -> HugePages {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let enabled = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let word = enabled.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let free = read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").trim().parse();
    HugePages {
        transparent: word.map_or_else(String::new, |(word, _)| word.to_owned()),
        free: free.unwrap_or(0),
    }
}

fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_two_numbers_whatever_follows() {
        for (release, expected) in [
            ("6.18.0", (6, 18)),
            ("5.10.0-28-amd64", (5, 10)),
            ("6.1-rc3+", (6, 1)),
            ("7", (7, 0)),
            ("", (0, 0)),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }
}
