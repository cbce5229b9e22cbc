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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::CaptureRequest;

    #[test]
    fn what_is_compiled_may_run_and_what_is_no_filter_says_why() {
        let request = |filter| CaptureRequest { filter, ..CaptureRequest::default() };
        for expression in ["", "tcp port 80 and host 10.65.10.5", "icmp or ip6", "udp[4:2] > 100"] {
            let filter = compile(expression).unwrap();
            assert_eq!(filter.is_empty(), expression.is_empty());
            assert!(request(filter).spec().is_ok(), "{expression}");
        }
        let error = compile("host and and").unwrap_err().to_string();
        assert!(error.contains("\"host and and\"") && error.contains("pcap-filter(7)"), "{error}");
        // A program is checked whoever sends it.
        let hostile = Instruction { code: 0x05, jt: 0, jf: 0, k: u32::MAX };
        let error = request(vec![hostile]).spec().unwrap_err().to_string();
        assert!(error.contains("instruction 0"), "{error}");
    }
}
