//! Values in Calico's rules: actions, protocols, ports, networks.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate::{self, shown};
use crate::state::Protocol;
use crate::state::policy::{PortMatch, RuleAction};

/// Older versions of the API wrote actions and protocols in lower case, and Felix takes either.
pub(super) fn action(field: &Field<'_>, text: &str) -> Result<RuleAction, Invalid> {
    const ACTIONS: [(&str, RuleAction); 4] = [
        ("Allow", RuleAction::Allow),
        ("Deny", RuleAction::Deny),
        ("Log", RuleAction::Log),
        ("Pass", RuleAction::Pass),
    ];
    let named = ACTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    named
        .map(|(_, action)| *action)
        .ok_or_else(|| field.invalid(format!("{} is none of Allow, Deny, Log, Pass", shown(text))))
}

pub(super) fn protocol(field: &Field<'_>, written: &IntOrString) -> Result<Protocol, Invalid> {
    const NAMES: [(&str, Protocol); 6] = [
        ("TCP", Protocol::TCP),
        ("UDP", Protocol::UDP),
        ("ICMP", Protocol::ICMP),
        ("ICMPv6", Protocol::ICMPV6),
        ("SCTP", Protocol::SCTP),
        ("UDPLite", Protocol::UDP_LITE),
    ];
    let number = match written {
        IntOrString::Int(number) => u8::try_from(*number).ok(),
        IntOrString::String(text) => match NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            Some((_, protocol)) => return Ok(*protocol),
            None => text.parse().ok(),
        },
    };
    number.filter(|number| *number > 0).map(Protocol).ok_or_else(|| {
        let why = "is no protocol (TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, or a number from 1 to 255)";
        field.invalid(format!("{} {why}", text_of(written)))
    })
}

fn text_of(written: &IntOrString) -> String {
    match written {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => shown(text),
    }
}

/// A number, `FROM:TO`, or a name.
pub(super) fn port(field: &Field<'_>, written: &IntOrString) -> Result<PortMatch, Invalid> {
    let text = match written {
        IntOrString::Int(number) => {
            let port = validate::port(field, *number)?;
            return Ok(PortMatch::Range(port..=port));
        }
        IntOrString::String(text) => text.as_str(),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(field.invalid(format!("{} is not a port (1 to 65535)", shown(text)))),
    };
    if is_number(text) {
        let port = number(text)?;
        return Ok(PortMatch::Range(port..=port));
    }
    if let Some((from, to)) = text.split_once(':').filter(|(from, to)| is_number(from) && is_number(to)) {
        let (from, to) = (number(from)?, number(to)?);
        if to < from {
            return Err(field.invalid(format!("{} ends below its beginning", shown(text))));
        }
        return Ok(PortMatch::Range(from..=to));
    }
    let is_name = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if is_name {
        return Ok(PortMatch::Name(text.to_owned()));
    }
    Err(field.invalid(format!("{} is neither a port, nor a range FROM:TO, nor a port's name", shown(text))))
}

/// A CIDR, or one address.
pub(super) fn net(field: &Field<'_>, text: &str) -> Result<IpNet, Invalid> {
    if text.contains('/') {
        return validate::cidr(field, text);
    }
    let not_one = |_| field.invalid(format!("{} is neither a CIDR nor an IP address", shown(text)));
    let address: IpAddr = validate::address(field, text).map_err(not_one)?;
    Ok(address.into())
}

pub(super) fn nets(field: &Field<'_>, list: Option<&[String]>) -> Result<Vec<IpNet>, Invalid> {
    let list = list.unwrap_or_default().iter().enumerate();
    list.map(|(i, text)| net(&field.index(i), text)).collect()
}
