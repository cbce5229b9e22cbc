//! Input captures: pcap files of Ethernet frames.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

/// How a pcapng file begins: the block type of a section header.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The frames that come in by one port.
#[derive(Clone, Debug)]
pub struct Input {
    pub port: String,
    pub records: Vec<Record>,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub time: Duration,
    pub bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("--in {0}: give PORT=FILE, as in uplink0=in.pcap")]
    Form(String),
    #[error("{}: {error}", path.display())]
    Open { path: PathBuf, error: std::io::Error },
    #[error("{}: is pcapng; a replay takes pcap: `editcap -F pcap {} OUT.pcap` converts it", .0.display(), .0.display())]
    Pcapng(PathBuf),
    #[error("{}: is no pcap file: {error}", path.display())]
    Header { path: PathBuf, error: pcap_file::PcapError },
    #[error("{}: record {record}: {error}", path.display())]
    Record { path: PathBuf, record: usize, error: pcap_file::PcapError },
    #[error("{}: link type {link:?}; a replay takes Ethernet", path.display())]
    LinkType { path: PathBuf, link: DataLink },
    #[error("{}: record {record} was cut at {captured} of {length} bytes; capture whole frames (tcpdump -s 0)", path.display())]
    Cut { path: PathBuf, record: usize, captured: usize, length: u32 },
}

impl Input {
    /// Reads `PORT=FILE`.
    pub fn open(argument: &str) -> Result<Self, CaptureError> {
        let (port, path) = argument.split_once('=').ok_or_else(|| CaptureError::Form(argument.into()))?;
        Ok(Self { port: port.into(), records: read(Path::new(path))? })
    }
}

fn read(path: &Path) -> Result<Vec<Record>, CaptureError> {
    let open = |error| CaptureError::Open { path: path.into(), error };
    let mut file = BufReader::new(File::open(path).map_err(open)?);
    if file.fill_buf().map_err(open)?.starts_with(&PCAPNG) {
        return Err(CaptureError::Pcapng(path.into()));
    }
    read_pcap(path, file)
}

fn read_pcap(path: &Path, file: impl Read) -> Result<Vec<Record>, CaptureError> {
    let record_error = |record, error| CaptureError::Record { path: path.into(), record, error };
    let mut reader =
        PcapReader::new(file).map_err(|error| CaptureError::Header { path: path.into(), error })?;
    let link = reader.header().datalink;
    if link != DataLink::ETHERNET {
        return Err(CaptureError::LinkType { path: path.into(), link });
    }
    let mut records = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let record = records.len();
        let packet = packet.map_err(|error| record_error(record, error))?;
        if packet.orig_len as usize != packet.data.len() {
            let (captured, length) = (packet.data.len(), packet.orig_len);
            return Err(CaptureError::Cut { path: path.into(), record, captured, length });
        }
        records.push(Record { time: packet.timestamp, bytes: packet.data.into_owned() });
    }
    Ok(records)
}
