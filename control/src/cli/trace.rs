//! `margay trace`: the next packets that match, step by step through a running gateway.

use std::process::ExitCode;

use margay_control::tap::CaptureRequest;
use margay_control::trace::{TraceLine, text};

use super::following::{self, Limits};
use super::{Output, Socket, until_gone};

/// Show the next packets that match, step by step through a running gateway
///
/// FILTER is in tcpdump's language (pcap-filter(7)), held against packets as `margay capture` does. -o json writes a line
/// for each packet, with what policy says of it tier by tier.
#[derive(Debug, clap::Args)]
pub(crate) struct Trace {
    /// Packets.
    #[arg(short, long, value_name = "PACKETS", default_value_t = 1)]
    count: u64,
    #[command(flatten)]
    limits: Limits,
    /// Only packets that are dropped.
    #[arg(long)]
    dropped: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    socket: Socket,
}

impl Trace {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let request = CaptureRequest { count: self.count, dropped: self.dropped, ..self.limits.request()? };
        let mut held = Vec::new();
        following::follow(&self.socket.path()?, "/v1/traces", &request, |bytes| {
            held.extend_from_slice(bytes);
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                if !self.show(&line)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// False where the reader has gone.
    fn show(&self, line: &[u8]) -> anyhow::Result<bool> {
        match (serde_json::from_slice(line)?, self.output) {
            (TraceLine::Packet(_), Output::Json) => until_gone(&String::from_utf8_lossy(line)),
            (TraceLine::Packet(traced), Output::Table) => until_gone(&text(&traced)),
            (TraceLine::Ended(ended), _) => {
                if ended.missed > 0 {
                    eprintln!("margay: {} more packets matched and were not copied", ended.missed);
                }
                Ok(true)
            }
        }
    }
}
