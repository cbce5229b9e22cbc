//! The program `margay-lab`: its arguments, and what each command prints.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, path};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use margay_testbed::kube::{self, Server, Site};
use margay_testbed::lab::{self, Lab};
use margay_testbed::probe::{self, Report};
use margay_testbed::state::LabState;
use margay_testbed::topology::Dataplane;
use margay_testbed::{daemon, demo, ip, netns};
use nix::sys::signal::{SigSet, Signal};

/// Exit code where the input is bad or the machine refuses.
const FAILED: u8 = 2;

/// Laboratories of network namespaces and veth pairs, built from a cluster's manifests. Needs root.
#[derive(Parser)]
#[command(name = "margay-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Build the world that manifests describe; what an earlier lab of the name left is removed first.
    Up(Up),
    /// Run a command in the namespace of a pod or a node.
    Exec {
        #[command(flatten)]
        lab: Which,
        /// NS/POD or node:NAME.
        place: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show what stands where, and how each Margay is.
    Status {
        #[command(flatten)]
        lab: Which,
    },
    /// Remove a lab, whatever state it is in.
    Down {
        #[command(flatten)]
        lab: Which,
    },
    /// Make probes as real connections. Exit code 0 if every expectation that can be tried agrees, 1 if not.
    Probe {
        #[command(flatten)]
        lab: Which,
        /// YAML list of {from, to, proto, port, expect}.
        #[arg(long)]
        probes: PathBuf,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Two zones: probes, throughput and latency through Margay, then the same two figures through the kernel.
    Demo(Demo),
    /// A real API server on loopback, with the kinds that Margay watches, until Ctrl-C (testbed/kube/run).
    ApiServer {
        /// Directory of kube-apiserver and etcd (testbed/kube/build prints it).
        #[arg(long)]
        programs: PathBuf,
    },
}

#[derive(Args)]
struct Which {
    /// Name of the lab.
    #[arg(long, default_value = "lab")]
    name: String,
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    lab: Which,
    /// Directory of manifests.
    #[arg(long)]
    manifests: PathBuf,
    #[command(flatten)]
    build: Build,
    /// Let a node forward otherwise than its annotation says: NODE=margay or NODE=kernel.
    #[arg(long = "dataplane", value_name = "NODE=WHO", value_parser = dataplane)]
    dataplanes: Vec<(String, Dataplane)>,
}

#[derive(Args)]
struct Build {
    /// The program margay [default: the one beside this program].
    #[arg(long)]
    margay: Option<PathBuf>,
    /// RX and TX queues at both ends of each node's uplink.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    queues: u32,
    /// Cores of Margay's workers, one worker each [default: the last core].
    #[arg(long, value_delimiter = ',')]
    workers: Vec<usize>,
}

#[derive(Args)]
struct Demo {
    /// Directory with manifests/ and probes.yaml.
    #[arg(long, default_value = "testbed/labs/two-zones")]
    lab: PathBuf,
    #[arg(long, default_value = "demo")]
    name: String,
    /// The program margay [default: the one beside this program].
    #[arg(long)]
    margay: Option<PathBuf>,
}

/// How results are printed on stdout.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    /// A table for people.
    #[default]
    #[value(alias = "text")]
    Table,
    Json,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("margay-lab: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Cmd) -> Result<ExitCode> {
    match command {
        Cmd::Up(up) => bring_up(up),
        Cmd::Exec { lab, place, command } => exec(&lab.name, &place, &command),
        Cmd::Status { lab } => status(&lab.name),
        Cmd::Down { lab } => lab::down(&lab.name).map(|()| ExitCode::SUCCESS),
        Cmd::Probe { lab, probes, output } => {
            let report = probe::run(&Lab::open(&lab.name)?, &probes)?;
            print_report(&report, output)?;
            Ok(if report.agrees() { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Cmd::Demo(Demo { lab, name, margay }) => {
            let agrees = demo::run(&lab, &name, &margay_program(margay)?)?;
            Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Cmd::ApiServer { programs } => api_server(&programs),
    }
}

fn bring_up(Up { lab, manifests, build, dataplanes }: Up) -> Result<ExitCode> {
    let state = LabState {
        name: lab.name,
        manifests: absolute(&manifests)?,
        kubeconfig: None,
        margay: margay_program(build.margay)?,
        queues: build.queues,
        cores: build.workers,
        dataplanes: BTreeMap::from_iter(dataplanes),
        zero_checksum6: false,
        configuration: String::new(),
    };
    let lab = Lab::up(state, &mut |line| eprintln!("margay-lab: {line}"))?;
    let topology = &lab.topology;
    print(&format!(
        "lab {} is up: {} nodes ({} on Margay) in {} subnets, {} pods\n",
        lab.state.name,
        topology.nodes.len(),
        lab.margay_nodes().count(),
        topology.segments.len(),
        topology.pods.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn api_server(programs: &Path) -> Result<ExitCode> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("cannot block SIGINT")?;
    let server = Server::start(programs, Site::Loopback)?;
    server.install(kube::POLICY)?;
    server.install(kube::CALICO)?;
    let kubeconfig = server.kubeconfig(kube::ADMIN);
    print(&format!("export KUBECONFIG={}\n", kubeconfig.display()))?;
    signals.wait().context("cannot wait for SIGINT")?;
    Ok(ExitCode::SUCCESS)
}

/// Becomes the command, so that its exit code and signals are its own.
fn exec(name: &str, place: &str, command: &[String]) -> Result<ExitCode> {
    let netns = Lab::open(name)?.netns(place)?;
    if !netns::exists(&netns) {
        bail!("{place} of lab {name} has no namespace: it came after `margay-lab up`");
    }
    let Some((program, arguments)) = command.split_first() else { bail!("no command given") };
    let error = ip::in_netns(&netns, program).args(arguments).exec();
    Err(error).context("cannot run `ip netns exec`: install the package iproute2")
}

fn status(name: &str) -> Result<ExitCode> {
    let lab = Lab::open(name)?;
    let mut text = String::new();
    for node in lab.topology.nodes.values() {
        let who = match node.dataplane {
            Dataplane::Margay => "margay",
            Dataplane::Kernel => "kernel",
        };
        // Writing to a String cannot fail, here and below.
        let own = [node.address4.map(IpNet::V4), node.address6.map(IpNet::V6)].into_iter().flatten();
        let addresses: Vec<_> = own.map(|net| net.to_string()).collect();
        let _ = writeln!(text, "node:{}  {}  {who}  netns {}", node.name, addresses.join(" "), node.netns);
        for (pod, place) in lab.topology.pods_on(&node.name) {
            let addresses: Vec<_> = place.addresses.iter().map(ToString::to_string).collect();
            let _ =
                writeln!(text, "  {pod}  {}  {}  netns {}", addresses.join(" "), place.device, place.netns);
        }
    }
    print(&text)?;
    let mut healthy = true;
    for node in lab.margay_nodes() {
        let status = daemon::status(&lab.state, node)?;
        healthy &= status.success;
        let log = daemon::log(name, &node.name);
        print(&format!("\nMargay on {}, log {}\n{}", node.name, log.display(), status.text))?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print_report(report: &Report, output: Output) -> Result<()> {
    print(&match output {
        Output::Table => report.to_string(),
        Output::Json => {
            serde_json::to_string_pretty(report).context("cannot write the report as JSON")? + "\n"
        }
    })
}

/// Writes to stdout. A reader that has gone (`| head`) has what it wanted.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

fn margay_program(given: Option<PathBuf>) -> Result<PathBuf> {
    let program = match given {
        Some(program) => program,
        None => env::current_exe().context("cannot find this program's own path")?.with_file_name("margay"),
    };
    path::absolute(&program).with_context(|| format!("{} is no path", program.display()))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))
}

fn dataplane(text: &str) -> Result<(String, Dataplane), String> {
    let (node, who) = text.split_once('=').ok_or("write NODE=margay or NODE=kernel")?;
    let dataplane =
        Dataplane::from_str(who, false).map_err(|_| format!("{who:?} is neither margay nor kernel"))?;
    Ok((node.to_owned(), dataplane))
}
