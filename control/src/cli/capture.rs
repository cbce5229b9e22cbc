//! `margay capture`: packets of a running gateway, as pcapng.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use margay_control::capture::{Summary, Watch};
use margay_control::tap::CaptureRequest;

use super::following::{self, Limits};
use super::{BAD_INPUT, Socket};

/// Capture what enters, leaves and is dropped by a running gateway, as pcapng for Wireshark, tshark or tcpdump
///
/// FILTER is in tcpdump's language (pcap-filter(7)) and is held against a packet as it comes in, what that carries in a
/// tunnel, and the frame that leaves. Each frame's comment says what became of its packet, why, and by which rules. A
/// gateway that has no time for copies drops those and counts them, not packets.
#[derive(Debug, clap::Args)]
pub(crate) struct Capture {
    /// File to write; `-`: to stdout.
    #[arg(short, long, value_name = "FILE")]
    write: PathBuf,
    #[command(flatten)]
    limits: Limits,
    /// End after so many packets.
    #[arg(short, long, value_name = "PACKETS")]
    count: Option<u64>,
    /// Copy no more than so many bytes of each frame [default: all of it].
    #[arg(short, long, value_name = "BYTES")]
    snap_length: Option<u32>,
    /// End with the packet that makes the capture so long.
    #[arg(long, value_name = "BYTES")]
    bytes: Option<u64>,
    /// Only packets that are dropped.
    #[arg(long)]
    dropped: bool,
    #[command(flatten)]
    socket: Socket,
}

impl Capture {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let is_stdout = self.write.as_os_str() == "-";
        if is_stdout && io::stdout().is_terminal() {
            eprintln!("margay: a capture is not for a terminal: -w FILE, or a pipe (-w - | tshark -r -)");
            return Ok(ExitCode::from(BAD_INPUT));
        }
        let request = CaptureRequest {
            count: self.count.unwrap_or_default(),
            snap: self.snap_length.unwrap_or(CaptureRequest::default().snap),
            bytes: self.bytes.unwrap_or_default(),
            dropped: self.dropped,
            ..self.limits.request()?
        };
        let mut watch = Watch::default();
        let mut output: Option<Box<dyn Write>> = None;
        following::follow(&self.socket.path()?, "/v1/captures", &request, |bytes| {
            watch.take(bytes);
            let output = match &mut output {
                Some(output) => output,
                // Not before the gateway has taken the filter: a file may stand there.
                None if is_stdout => output.insert(Box::new(io::stdout())),
                None => output.insert(Box::new(File::create(&self.write).with_context(|| self.name())?)),
            };
            match output.write_all(bytes).and_then(|()| output.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                written => written.map(|()| true).with_context(|| self.name()),
            }
        })?;
        eprint!("{}", text(&watch.summary()));
        Ok(ExitCode::SUCCESS)
    }

    fn name(&self) -> String {
        format!("cannot write to {}", self.write.display())
    }
}

/// As tcpdump says it.
fn text(summary: &Summary) -> String {
    let Summary { frames, packets, matched, missed } = *summary;
    let (Some(packets), Some(matched), Some(missed)) = (packets, matched, missed) else {
        return format!("margay: {frames} frames captured\n");
    };
    format!(
        "margay: {packets} packets captured, in {frames} frames\n\
         margay: {matched} packets matched by the filter\n\
         margay: {missed} packets and frames not copied by the gateway, for lack of room or time\n"
    )
}
