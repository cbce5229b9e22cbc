//! Recorded flows, and which of them would have another verdict.
//!
//! A file holds one flow a line, as JSON: `{"src": "10.0.0.1", "dst": "10.0.0.2", "proto": "tcp", "sport": 40000,
//! "dport": 80}`. `proto` is a name or a number; without `sport` it is 49152, ICMP is an echo request.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use margay_flowtable::Tuple;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::world::{Judged, World};
use crate::probe::{Packet, Written};

/// A recorded flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it stands in its file, from 1.
    pub line: usize,
    pub tuple: Tuple,
}

#[derive(Debug, Serialize)]
pub struct FlowChange {
    pub line: usize,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    pub sport: u16,
    pub dport: u16,
    pub old: Judged,
    pub new: Judged,
}

/// A file that cannot be used. Displays as `FILE:LINE: reason`.
#[derive(Debug, thiserror::Error)]
pub enum FlowFileError {
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("{}:{line}: {why}", file.display())]
    Wrong { file: PathBuf, line: usize, why: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    src: IpAddr,
    dst: IpAddr,
    proto: Value,
    sport: Option<u16>,
    #[serde(default)]
    dport: Value,
}

/// Reads a file of flows. Empty lines are passed over.
pub fn load(file: &Path) -> Result<Vec<Flow>, FlowFileError> {
    let unreadable = |error| FlowFileError::Unreadable { file: file.to_owned(), error };
    let lines = BufReader::new(File::open(file).map_err(unreadable)?).lines();
    let mut flows = Vec::new();
    for (line, text) in (1..).zip(lines) {
        let text = text.map_err(unreadable)?;
        if !text.trim().is_empty() {
            let wrong = |why| FlowFileError::Wrong { file: file.to_owned(), line, why };
            flows.push(Flow { line, tuple: read(&text, line).map_err(wrong)? });
        }
    }
    Ok(flows)
}

fn read(text: &str, line: usize) -> Result<Tuple, String> {
    let recorded: Recorded = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let (src, dst) = (recorded.src, recorded.dst);
    if src.is_ipv4() != dst.is_ipv4() {
        return Err(format!("{src} and {dst} are of two families"));
    }
    let written = Written {
        from: src.to_string(),
        to: dst.to_string(),
        proto: recorded.proto,
        port: recorded.dport,
        sport: recorded.sport,
        icmp_type: None,
        icmp_code: None,
        family: None,
        expect: None,
    };
    let probe = written.read(line).map_err(|invalid| invalid.to_string())?;
    Ok(probe.tuple(&Packet { src, dst, dport: probe.port }))
}

/// The flows whose verdict differs between the worlds.
pub(super) fn changes(worlds: &[World<'_>; 2], flows: &[Flow]) -> Vec<FlowChange> {
    let change = |flow: &Flow| {
        let [old, new] = worlds.each_ref().map(|world| world.classify(&flow.tuple));
        (old.verdict() != new.verdict()).then(|| FlowChange {
            line: flow.line,
            src: flow.tuple.src,
            dst: flow.tuple.dst,
            proto: flow.tuple.protocol,
            sport: flow.tuple.sport,
            dport: flow.tuple.dport,
            old: worlds[0].judged(&old),
            new: worlds[1].judged(&new),
        })
    };
    flows.iter().filter_map(change).collect()
}
