//! What a lab remembers between commands: a file in its directory under /run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::netns;
use crate::topology::Dataplane;

const ROOT: &str = "/run/margay-lab";

/// How a lab was brought up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    pub name: String,
    /// Absolute.
    pub manifests: PathBuf,
    /// The API server that Margay watches; it reads the manifests where there is none.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// The program `margay`, absolute.
    pub margay: PathBuf,
    /// RX and TX queues of each node's uplink.
    pub queues: u32,
    /// Cores of Margay's workers, one each.
    pub cores: Vec<usize>,
    /// Nodes that forward otherwise than their annotation says.
    pub dataplanes: BTreeMap<String, Dataplane>,
    /// Whether VXLAN over IPv6 does without UDP checksums, at all nodes.
    #[serde(default)]
    pub zero_checksum6: bool,
    /// More lines of Margay's configuration.
    #[serde(default)]
    pub configuration: String,
}

/// Where the lab keeps its state, configurations, sockets and logs.
pub fn directory(lab: &str) -> PathBuf {
    Path::new(ROOT).join(lab)
}

/// Path in the lab's directory of a node's file. Sockets have paths of at most 107 bytes, so long names are cut.
pub fn node_file(lab: &str, node: &str, extension: &str) -> PathBuf {
    directory(lab).join(format!("{}.{extension}", netns::shorten(node, 40)))
}

/// Refuses names that would not do in file and namespace names.
pub fn check_name(lab: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if lab.is_empty() || lab.len() > 32 || !lab.bytes().all(plain) {
        bail!("{lab:?} is no name for a lab: take 1 to 32 of a-z, 0-9 and -");
    }
    Ok(())
}

impl LabState {
    pub fn save(&self) -> Result<()> {
        let directory = directory(&self.name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join("lab.json");
        let text = serde_json::to_string_pretty(self).context("cannot write the lab's state as JSON")?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The state of a lab that is up.
    pub fn load(lab: &str) -> Result<Self> {
        check_name(lab)?;
        let path = directory(lab).join("lab.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("no lab {lab:?} is up: bring it up with `margay-lab up --name {lab} --manifests DIR`")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged: take the lab down and bring it up again", path.display())
        })
    }
}

/// Removes all that the lab left under /run.
pub fn remove(lab: &str) -> Result<()> {
    let directory = directory(lab);
    match fs::remove_dir_all(&directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot remove {}", directory.display())),
    }
    // The last lab takes the common directory with it; another lab's being there is no error.
    let _ = fs::remove_dir(ROOT);
    Ok(())
}
