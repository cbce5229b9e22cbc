//! `margay replay`: captures through the packet function.

use std::path::PathBuf;
use std::process::ExitCode;

use margay_control::config::Config;
use margay_control::replay::{Fate, GivenNeighbour, Input, World, replay};

use super::table::table;
use super::{Manifests, Output};

/// Run captures through a node's packet function and say what becomes of each frame
///
/// Writes OUT/PORT.pcap for each port. Ports are `uplink0` (others as the configuration names them) and NS/POD for each
/// pod of the node. Exit code 0 whatever the fates.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    manifests: Manifests,
    /// Name of the Node object whose gateway to be.
    #[arg(long, value_name = "NODE")]
    node: String,
    /// Configuration, for the names and MTUs of ports and the tunnel's numbers.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A capture to receive by a port; several are merged by time stamp.
    #[arg(long = "in", value_name = "PORT=FILE", required = true)]
    inputs: Vec<String>,
    /// The MAC and port of a next hop; what is not given is made up, always alike.
    #[arg(long = "neigh", value_name = "IP=MAC,PORT")]
    neighbours: Vec<GivenNeighbour>,
    /// Directory for what leaves, made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Replay {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.as_deref().map(Config::load).transpose()?.unwrap_or_default();
        let inputs = self.inputs.iter().map(|input| Input::open(input)).collect::<Result<Vec<_>, _>>()?;
        let world = World::new(self.manifests.load()?, &self.node, &config, &self.neighbours)?;
        let fates = replay(&world, &inputs, &self.out)?;
        self.output.print(&fates, |fates| table(["IN", "FRAME", "FATE"], fates.iter().map(row)))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn row(fate: &Fate) -> [String; 3] {
    [fate.input.clone(), fate.frame.to_string(), fate.fate.clone()]
}
