//! Filters as people write them for tcpdump, compiled by libpcap.

use pcap::{Capture, Linktype};

use super::Instruction;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("filter {expression:?}: {error} (pcap-filter(7) says how filters are written)")]
    Syntax { expression: String, error: pcap::Error },
    #[error("libpcap compiles no filters: {0}")]
    Library(pcap::Error),
    #[error("libpcap says an instruction as {0:?}")]
    Instruction(String),
}

/// A filter's program; none matches every packet.
pub type Compiled = Vec<Instruction>;

/// Compiles a filter for frames of Ethernet. An empty one matches every packet.
pub fn compile(expression: &str) -> Result<Compiled, Error> {
    if expression.trim().is_empty() {
        return Ok(Vec::new());
    }
    let dead = Capture::dead(Linktype::ETHERNET).map_err(Error::Library)?;
    let program = dead
        .compile(expression, true)
        .map_err(|error| Error::Syntax { expression: expression.to_owned(), error })?;
    program.get_instructions().iter().map(|instruction| read(&instruction.to_string())).collect()
}

/// An instruction as libpcap's wrapper prints it: four numbers.
fn read(text: &str) -> Result<Instruction, Error> {
    let mut numbers = text.split_whitespace().map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    let instruction = || {
        Some(Instruction {
            code: next()?.try_into().ok()?,
            jt: next()?.try_into().ok()?,
            jf: next()?.try_into().ok()?,
            k: next()?,
        })
    };
    let mut instruction = instruction;
    instruction().ok_or_else(|| Error::Instruction(text.to_owned()))
}
