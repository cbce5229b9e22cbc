//! Probes: who would reach whom, in the one file form that `margay check` and `margay lab probe` read.
//!
//! A file is a YAML list of `{from, to, proto, port, expect}`, with optional `sport`, `icmp_type`, `icmp_code`, `family`.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::manifest::yaml;
use crate::manifest::{FieldPath, Invalid, Step};
use crate::state::{Name, Protocol};

mod resolve;

pub use resolve::{Packet, Unresolved};

/// One line of a probe file.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub from: End,
    pub to: End,
    pub protocol: Protocol,
    /// Destination port; `None` for protocols without ports.
    pub port: Option<u16>,
    pub sport: Option<u16>,
    /// Type and code of an ICMP or ICMPv6 message; an echo request where the file names none.
    pub icmp: (u8, u8),
    /// IPv6 where the file names none for ICMPv6.
    pub family: Option<Family>,
    pub expect: Option<Expect>,
    /// `from`, `to`, `proto` and `port` as the file has them, for reports.
    pub given: Given,
    /// Line in the file, from 1.
    pub line: usize,
}

/// One end of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Pod(Name),
    Address(IpAddr),
    Node(String),
    /// Only as the destination.
    Service(Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    Allow,
    Deny,
}

/// What comes back as it was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Given {
    pub from: String,
    pub to: String,
    pub proto: Value,
    pub port: Value,
}

/// A probe file that cannot be used. Displays as `FILE:LINE: reason`.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFileError {
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("{}:{line}: {why}", file.display())]
    Wrong { file: PathBuf, line: usize, why: String },
}

/// Reads a probe file.
pub fn load(file: &Path) -> Result<Vec<Probe>, ProbeFileError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ProbeFileError::Unreadable { file: file.to_owned(), error })?;
    parse(&text).map_err(|(line, why)| ProbeFileError::Wrong { file: file.to_owned(), line, why })
}

/// Reads probes from text; an error is a line and what is wrong there.
fn parse(text: &str) -> Result<Vec<Probe>, (usize, String)> {
    let documents =
        yaml::documents(text).map_err(|error| (error.line, format!("is not valid YAML: {}", error.why)))?;
    let mut probes = Vec::new();
    for document in documents.nodes() {
        let Some(items) = document.items() else {
            return Err((document.line(), "is not a list of probes (`- {from: ..., to: ..., ...}`)".into()));
        };
        for item in items {
            let probe = item.read().and_then(|written| read(written, item.line()));
            probes.push(probe.map_err(|invalid| (item.line_of(&invalid.field), invalid.to_string()))?);
        }
    }
    Ok(probes)
}

/// A probe as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub from: String,
    pub to: String,
    pub proto: Value,
    #[serde(default)]
    pub port: Value,
    pub sport: Option<u16>,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
    pub family: Option<u8>,
    pub expect: Option<Expect>,
}

impl Written {
    /// The probe that it means; `line` is where it stands.
    pub fn read(self, line: usize) -> Result<Probe, Invalid> {
        read(self, line)
    }
}

fn read(written: Written, line: usize) -> Result<Probe, Invalid> {
    let invalid = |field: &str, why: String| Invalid { field: FieldPath(vec![Step::Key(field.into())]), why };
    let end = |field, text: &str| text.parse().map_err(|why: String| invalid(field, why));
    let (from, to) = (end("from", &written.from)?, end("to", &written.to)?);
    if matches!(from, End::Service(_)) {
        return Err(invalid("from", "a service sends nothing: svc: stands in `to` only".into()));
    }
    let protocol = protocol(&written.proto).map_err(|why| invalid("proto", why))?;
    let port = port(&written.port).map_err(|why| invalid("port", why))?;
    if port.is_none() && matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
        return Err(invalid("port", "is missing: TCP, UDP and SCTP need one (1 to 65535)".into()));
    }
    let family = match written.family {
        None if protocol == Protocol::ICMPV6 => Some(Family::V6),
        None => None,
        Some(4) => Some(Family::V4),
        Some(6) => Some(Family::V6),
        Some(other) => return Err(invalid("family", format!("{other} is neither 4 nor 6"))),
    };
    let echo_request = if protocol == Protocol::ICMPV6 { 128 } else { 8 };
    Ok(Probe {
        from,
        to,
        protocol,
        port,
        sport: written.sport,
        icmp: (written.icmp_type.unwrap_or(echo_request), written.icmp_code.unwrap_or(0)),
        family,
        expect: written.expect,
        given: Given { from: written.from, to: written.to, proto: written.proto, port: written.port },
        line,
    })
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = |text: &str| match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Some(Name::new(namespace, name))
            }
            _ => None,
        };
        if let Some(node) = text.strip_prefix("node:").filter(|node| !node.is_empty()) {
            return Ok(Self::Node(node.to_owned()));
        }
        if let Some(service) = text.strip_prefix("svc:").and_then(pair) {
            return Ok(Self::Service(service));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match pair(text) {
            Some(pod) if !text.contains(':') => Ok(Self::Pod(pod)),
            _ => Err(format!(
                "{text:?} is none of NAMESPACE/POD, an IP address, node:NAME, svc:NAMESPACE/NAME"
            )),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(f, "{name}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Service(name) => write!(f, "svc:{name}"),
        }
    }
}

fn protocol(value: &Value) -> Result<Protocol, String> {
    let number = match value {
        Value::Number(number) => number.as_u64().and_then(|number| u8::try_from(number).ok()).map(Protocol),
        Value::String(name) => match name.to_ascii_uppercase().as_str() {
            "TCP" => Some(Protocol::TCP),
            "UDP" => Some(Protocol::UDP),
            "SCTP" => Some(Protocol::SCTP),
            "ICMP" => Some(Protocol::ICMP),
            "ICMPV6" => Some(Protocol::ICMPV6),
            number => number.parse().ok().map(Protocol),
        },
        _ => None,
    };
    number.ok_or_else(|| format!("{value} is none of TCP, UDP, SCTP, ICMP, ICMPv6, or a number (0 to 255)"))
}

/// A port, or none where the file has none or 0.
fn port(value: &Value) -> Result<Option<u16>, String> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(number) => number.parse().ok(),
        _ => None,
    };
    match number {
        Some(0) => Ok(None),
        Some(port) => Ok(Some(port)),
        None => Err(format!("{value} is not a port (1 to 65535)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_with_every_field() {
        let text = "- {from: x/a, to: 'svc:y/s', proto: udp, port: 53, sport: 1000, family: 6, expect: deny}\n\
                    - from: node:n1\n  to: fd00::1\n  proto: 47\n";
        let probes = parse(text).unwrap();
        let service = End::Service(Name::new("y", "s"));
        assert_eq!((&probes[0].from, &probes[0].to), (&End::Pod(Name::new("x", "a")), &service));
        assert_eq!(
            (probes[0].protocol, probes[0].port, probes[0].sport),
            (Protocol::UDP, Some(53), Some(1000))
        );
        assert_eq!((probes[0].family, probes[0].expect), (Some(Family::V6), Some(Expect::Deny)));
        assert_eq!((&probes[1].from, probes[1].protocol), (&End::Node("n1".into()), Protocol(47)));
        assert_eq!((&probes[1].to, probes[1].line), (&End::Address("fd00::1".parse().unwrap()), 2));
        assert_eq!((probes[1].port, probes[1].expect), (None, None));
        assert_eq!(probes[0].given.proto, "udp");
    }

    #[test]
    fn icmp_is_an_echo_request_unless_said() {
        let text = "- {from: x/a, to: x/b, proto: ICMP}\n- {from: x/a, to: x/b, proto: ICMPv6}\n\
                    - {from: x/a, to: x/b, proto: ICMP, icmp_type: 3, icmp_code: 4}\n";
        let icmp: Vec<_> = parse(text).unwrap().iter().map(|probe| probe.icmp).collect();
        assert_eq!(icmp, [(8, 0), (128, 0), (3, 4)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = "- {from: x/a, to: x/b, proto: TCP, port: 80}\n";
        for (wrong, expected) in [
            ("- {from: x, to: x/b, proto: TCP, port: 80}", "from: \"x\" is none of NAMESPACE/POD"),
            ("- {from: 'svc:x/a', to: x/b, proto: TCP, port: 80}", "from: a service sends nothing"),
            ("- {from: x/a, to: x/b, proto: TCP}", "port: is missing"),
            ("- {from: x/a, to: x/b, proto: TCP, port: 65536}", "port: 65536 is not a port"),
            ("- {from: x/a, to: x/b, proto: FOO, port: 1}", "proto: \"FOO\" is none of"),
            ("- {from: x/a, to: x/b, proto: TCP, port: 1, family: 5}", "family: 5 is neither"),
            ("- {from: x/a, to: x/b, proto: TCP, port: 1, expect: maybe}", "expect: unknown variant `maybe`"),
            ("- {from: x/a, to: x/b, proto: TCP, port: 1, expct: deny}", "unknown field `expct`"),
            ("- {to: x/b, proto: TCP, port: 1}", "missing field `from`"),
            ("- x/a", "invalid type"),
            ("a: [", "not valid YAML"),
        ] {
            let (line, why) = parse(&format!("{good}{wrong}\n")).unwrap_err();
            assert!(why.contains(expected), "{wrong}: {why}");
            assert!((2..=3).contains(&line), "{wrong}: line {line}");
        }
        assert!(parse("from: x/a\n").unwrap_err().1.contains("not a list"));
    }
}
