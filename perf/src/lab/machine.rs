//! Where figures were taken: what of a machine decides how fast packets go, and what else it did meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use margay_control::clock;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What cannot be found out is empty. Fields that a report lacks or has besides are no error: reports of other versions are
/// compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// When the run began, UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// The processor's name.
    pub cpu: String,
    pub microcode: String,
    /// Cores that the program may use, and how many there are.
    pub cores: Vec<usize>,
    pub cores_online: String,
    /// Whether two threads share a core.
    pub smt: bool,
    pub numa_nodes: usize,
    /// Whether it is a virtual machine, and whose.
    pub hypervisor: Option<String>,
    pub kernel: String,
    /// Parameters of the kernel's command line that bear on figures.
    pub kernel_parameters: Vec<String>,
    /// By vulnerability, in the kernel's words. What does not affect the processor is left out.
    pub mitigations: BTreeMap<String, String>,
    pub clocksource: String,
    /// Of the first core; empty where the machine does not let the kernel choose frequencies.
    pub governor: String,
    pub transparent_huge_pages: String,
    pub huge_pages: u64,
    pub memory_bytes: u64,
    pub bpf_jit: bool,
    /// By program.
    pub versions: BTreeMap<String, String>,
    /// What packets are sent and received with, and in which tunnel.
    pub load: BTreeMap<String, String>,
    /// By device of the lab: what is on.
    pub offloads: BTreeMap<String, String>,
    /// Runnable tasks over the last 1, 5 and 15 minutes before the run.
    pub load_at_start: [f64; 3],
    /// Of all cores' time during the run: what the hypervisor gave to others.
    pub steal_percent: f64,
}

/// Beginnings of kernel parameters that bear on figures. The rest of the command line is nobody's business.
const PARAMETERS: [&str; 14] = [
    "mitigations",
    "isolcpus",
    "nohz",
    "rcu_nocbs",
    "irqaffinity",
    "idle",
    "intel_idle",
    "intel_pstate",
    "amd_pstate",
    "processor.max_cstate",
    "cpuidle",
    "hugepages",
    "nosmt",
    "iommu",
];

/// What versions are asked of, and with which words.
const PROGRAMS: [(&str, &[&str]); 3] =
    [("ovs-vswitchd", &["--version"]), ("nft", &["--version"]), ("iperf3", &["--version"])];

/// A run that goes on: what the machine is, and where its counters stood at the beginning.
#[derive(Clone, Debug)]
pub struct Observation {
    machine: Machine,
    began: Instant,
    times: Option<Times>,
}

impl Machine {
    /// Before the first measurement, with that load.
    #[must_use]
    pub fn observe(load: BTreeMap<String, String>) -> Observation {
        Observation { machine: Self { load, ..Self::here() }, began: Instant::now(), times: Times::now() }
    }

    fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let of_cpu = |key| field(&cpuinfo, key).unwrap_or_default().to_owned();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let of_memory = |key| field(&meminfo, key).and_then(|text| text.split(' ').next()?.parse().ok());
        Self {
            started: format!("{:.0}", clock::wall()),
            cpu: of_cpu("model name"),
            microcode: of_cpu("microcode"),
            cores: cores(),
            cores_online: line("/sys/devices/system/cpu/online"),
            smt: line("/sys/devices/system/cpu/smt/active") == "1",
            numa_nodes: count_nodes(),
            hypervisor: hypervisor(&cpuinfo),
            kernel: line("/proc/sys/kernel/osrelease"),
            kernel_parameters: parameters(&line("/proc/cmdline")),
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            transparent_huge_pages: chosen(&line("/sys/kernel/mm/transparent_hugepage/enabled")),
            huge_pages: of_memory("HugePages_Total").unwrap_or(0),
            memory_bytes: of_memory("MemTotal").unwrap_or(0) * 1024,
            bpf_jit: line("/proc/sys/net/core/bpf_jit_enable") != "0",
            versions: versions(),
            load_at_start: load(&line("/proc/loadavg")),
            ..Self::default()
        }
    }
}

impl Observation {
    /// After the last one. The gateways say what versions they are, the lab what its devices leave to offload.
    #[must_use]
    pub fn end(
        self,
        versions: impl IntoIterator<Item = (String, String)>,
        offloads: BTreeMap<String, String>,
    ) -> Machine {
        let Self { mut machine, began, times } = self;
        machine.versions.extend(versions);
        machine.offloads = offloads;
        machine.seconds = began.elapsed().as_secs_f64().round();
        let stolen = times.zip(Times::now()).map_or(0.0, |(before, after)| after.stolen_since(before));
        machine.steal_percent = (stolen * 1e4).round() / 1e2;
        machine
    }
}

/// Ticks of all cores together.
#[derive(Clone, Copy, Debug)]
struct Times {
    all: u64,
    stolen: u64,
}

impl Times {
    fn now() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn of(stat: &str) -> Option<Self> {
        let ticks = stat.lines().next()?.strip_prefix("cpu ")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' times are in user's already.
        let ticks: Vec<u64> = ticks.split_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        Some(Self { all: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// A share.
    fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

/// The file's text, without its end of line; empty where it cannot be read.
fn line(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

/// The first value of a key in /proc's `key : value` lines.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(name, value)| (name.trim() == key).then_some(value.trim()))
}

fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect()
}

fn count_nodes() -> usize {
    let nodes = fs::read_dir("/sys/devices/system/node").into_iter().flatten().flatten();
    nodes.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"node")).count()
}

fn hypervisor(cpuinfo: &str) -> Option<String> {
    let is_guest =
        field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let vendor = [line("/sys/class/dmi/id/sys_vendor"), line("/sys/hypervisor/type")]
        .into_iter()
        .find(|v| !v.is_empty());
    is_guest.then(|| vendor.unwrap_or_else(|| "of unknown vendor".to_owned()))
}

fn parameters(command_line: &str) -> Vec<String> {
    let bears = |parameter: &&str| PARAMETERS.iter().any(|beginning| parameter.starts_with(beginning));
    command_line.split_whitespace().filter(bears).map(str::to_owned).collect()
}

fn mitigations(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let of_file = |entry: fs::DirEntry| {
        let said = fs::read_to_string(entry.path()).ok()?.trim().to_owned();
        (said != "Not affected").then(|| (entry.file_name().to_string_lossy().into_owned(), said))
    };
    entries.filter_map(of_file).collect()
}

/// Of `always [madvise] never`, the one in brackets.
fn chosen(choices: &str) -> String {
    let inside = choices.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(choices, |(choice, _)| choice).to_owned()
}

fn load(loadavg: &str) -> [f64; 3] {
    let mut numbers = loadavg.split(' ').map(|number| number.parse().unwrap_or(0.0));
    [(); 3].map(|()| numbers.next().unwrap_or(0.0))
}

/// Of the programs that are there, and of Margay itself.
fn versions() -> BTreeMap<String, String> {
    let first_line = |program: &str, arguments: &[&str]| {
        let output =
            Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    };
    let others = PROGRAMS
        .iter()
        .filter_map(|(program, arguments)| Some(((*program).to_owned(), first_line(program, arguments)?)));
    // A program that was built where it lies is of the checkout around it.
    let checkout = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let commit = checkout.and_then(|directory| {
        first_line("git", &["-C", directory.to_str()?, "describe", "--always", "--dirty", "--abbrev=12"])
    });
    let margay = env!("CARGO_PKG_VERSION");
    let margay = commit.map_or_else(|| margay.to_owned(), |commit| format!("{margay} ({commit})"));
    others.chain([("margay".to_owned(), margay)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described() {
        let machine = Machine::observe(BTreeMap::new())
            .end([("testpmd".to_owned(), "22.11".to_owned())], BTreeMap::new());
        assert!(!machine.cores.is_empty() && machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(!machine.kernel.is_empty() && !machine.started.is_empty(), "{machine:?}");
        assert!(machine.versions["margay"].starts_with(env!("CARGO_PKG_VERSION")), "{machine:?}");
        assert_eq!(machine.versions["testpmd"], "22.11");
        assert!((0.0..=100.0).contains(&machine.steal_percent), "{machine:?}");
    }

    #[test]
    fn steal_is_a_share_of_all_time() {
        let times = |stat| Times::of(stat);
        let before = times("cpu  100 0 100 700 0 0 50 50 9 0\ncpu0 ...").unwrap();
        let after = times("cpu  200 0 200 1400 0 0 100 100 9 0\n").unwrap();
        assert!((after.stolen_since(before) - 0.05).abs() < 1e-9);
        assert!(before.stolen_since(before).abs() < 1e-9 && before.stolen_since(after).abs() < 1e-9);
        for hostile in ["", "cpu", "cpu  1 2 3", "cpu  1 2 x 4 5 6 7 8", "intr 1 2 3 4 5 6 7 8"] {
            assert!(times(hostile).is_none(), "{hostile:?}");
        }
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let found =
            parameters("root=/dev/sda1 secret=x mitigations=auto,nosmt isolcpus=2-5 quiet nohz_full=2");
        assert_eq!(found, ["mitigations=auto,nosmt", "isolcpus=2-5", "nohz_full=2"]);
        for (text, choice) in
            [("always [madvise] never", "madvise"), ("", ""), ("never", "never"), ("][", "][")]
        {
            assert_eq!(chosen(text), choice);
        }
        assert_eq!(field("a b : 1\nc\t: 2 GHz\n", "c"), Some("2 GHz"));
        assert_eq!(load("0.5 1.25 x 1/200 7").map(|load| load.to_string()), ["0.5", "1.25", "0"]);
        let directory = tempfile::tempdir().unwrap();
        for (name, said) in [("meltdown", "Not affected\n"), ("spectre_v2", "Mitigation: Retpolines\n")] {
            fs::write(directory.path().join(name), said).unwrap();
        }
        let expected = BTreeMap::from([("spectre_v2".to_owned(), "Mitigation: Retpolines".to_owned())]);
        assert_eq!(mitigations(directory.path()), expected);
        assert_eq!(mitigations(Path::new("/nonexistent")), BTreeMap::new());
    }
}
