//! Values inside objects, checked as the API server checks them (k8s.io/apimachinery `util/validation`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::problem::{Field, Invalid};
use crate::state::{Labels, Protocol};

/// A value as an error shows it: quoted, and cut where it is long.
pub(super) fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &value[..end]),
        None => format!("{value:?}"),
    }
}

pub(super) fn address(field: &Field<'_>, value: &str) -> Result<IpAddr, Invalid> {
    parse_address(value).ok_or_else(|| field.invalid(format!("{} is not an IP address", shown(value))))
}

/// A CIDR; host bits may be set, as in the API server's older fields, and are dropped.
pub(super) fn cidr(field: &Field<'_>, value: &str) -> Result<IpNet, Invalid> {
    let parsed = value
        .split_once('/')
        .filter(|(_, length)| length.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|(address, length)| IpNet::new(parse_address(address)?, length.parse().ok()?).ok());
    let not_one = || field.invalid(format!("{} is not a CIDR (such as 10.0.0.0/8)", shown(value)));
    parsed.map(|net| net.trunc()).ok_or_else(not_one)
}

/// Go's `netutils.ParseIPSloppy`: octets of IPv4 may have leading zeros and are decimal all the same.
fn parse_address(value: &str) -> Option<IpAddr> {
    if value.contains(':') {
        return value.parse().ok();
    }
    let octets = value.split('.').map(|octet| match octet.trim_start_matches('0') {
        "" if !octet.is_empty() => "0",
        digits => digits,
    });
    octets.collect::<Vec<_>>().join(".").parse().ok()
}

/// A port's protocol; where it is missing, TCP.
pub(super) fn protocol(field: &Field<'_>, value: Option<&str>) -> Result<Protocol, Invalid> {
    match value {
        None | Some("TCP") => Ok(Protocol::TCP),
        Some("UDP") => Ok(Protocol::UDP),
        Some("SCTP") => Ok(Protocol::SCTP),
        Some(other) => Err(field.invalid(format!("{} is none of TCP, UDP, SCTP", shown(other)))),
    }
}

pub(super) fn port(field: &Field<'_>, value: i32) -> Result<u16, Invalid> {
    match u16::try_from(value) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(field.invalid(format!("{value} is not a port (1 to 65535)"))),
    }
}

/// RFC 6335 service name: 1 to 15 of `a-z0-9-`, a letter among them, no hyphen at an end or beside another.
pub(super) fn port_name(field: &Field<'_>, value: &str) -> Result<(), Invalid> {
    let valid = (1..=15).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && value.bytes().any(|b| b.is_ascii_lowercase())
        && !value.starts_with('-')
        && !value.ends_with('-')
        && !value.contains("--");
    if valid {
        return Ok(());
    }
    let why = "is not a port name (1 to 15 of a-z, 0-9 and '-', with a letter; a number goes without quotes)";
    Err(field.invalid(format!("{} {why}", shown(value))))
}

/// An object's or namespace's name: RFC 1123 subdomain.
pub(super) fn name(field: &Field<'_>, value: &str) -> Result<(), Invalid> {
    if is_subdomain(value) {
        return Ok(());
    }
    let why = "is not a name (lower-case letters, digits, '-' and '.', letter or digit at both ends)";
    Err(field.invalid(format!("{} {why}", shown(value))))
}

pub(super) fn labels(field: &Field<'_>, labels: &Labels) -> Result<(), Invalid> {
    labels.iter().try_for_each(|(key, value)| {
        label_key(field, key)?;
        label_value(&field.key(key), value)
    })
}

/// A qualified name: `[PREFIX/]NAME`, the prefix a subdomain, the name at most 63 characters.
pub(super) fn label_key(field: &Field<'_>, key: &str) -> Result<(), Invalid> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_text(name) {
        return Ok(());
    }
    Err(field.invalid(format!("{} is not a label key ([prefix/]name)", shown(key))))
}

pub(super) fn label_value(field: &Field<'_>, value: &str) -> Result<(), Invalid> {
    if is_label_text(value) {
        return Ok(());
    }
    let why =
        "is not a label value (at most 63 letters, digits, '-', '_' and '.', letter or digit at both ends)";
    Err(field.invalid(format!("{} {why}", shown(value))))
}

fn is_label_text(value: &str) -> bool {
    value.len() <= 63
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && ends_are_alphanumeric(value)
}

fn is_subdomain(value: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && ends_are_alphanumeric(label)
    };
    value.len() <= 253 && value.split('.').all(is_label)
}

fn ends_are_alphanumeric(value: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    is_end(value.as_bytes().first()) && is_end(value.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted<T>(check: impl Fn(&Field<'_>, &str) -> Result<T, Invalid>, good: &[&str], bad: &[&str]) {
        for value in good {
            assert!(check(&Field::Root, value).is_ok(), "{value}");
        }
        for value in bad {
            assert!(check(&Field::Root, value).is_err(), "{value}");
        }
    }

    #[test]
    fn values_are_taken_and_refused_as_by_the_api_server() {
        accepted(
            address,
            &["10.0.0.1", "fd00::1", "010.000.0.01"],
            &["", "10.0.0", "10.0.0.256", "x", "10.0.0.1/32", "1..2.3"],
        );
        accepted(
            cidr,
            &["10.0.0.0/8", "10.1.2.3/8", "0.0.0.0/0", "::/0", "fd00::/64"],
            &["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "::/129", "/8"],
        );
        accepted(
            port_name,
            &["http", "a", "web-1", "0a"],
            &["", "80", "Http", "-a", "a-", "a--b", "abcdefghijklmnop"],
        );
        accepted(label_key, &["app", "a.b/c", "A_1"], &["", "/a", "a/", "a/b/c", "-a", "A.b/c", "a b"]);
        accepted(label_value, &["", "Web_1.x"], &["-", "a b", "a/b"]);
        accepted(name, &["a", "10-65-0-0-26", "a.b"], &["", "A", "a..b", "-a", "a/b"]);
    }

    #[test]
    fn octets_with_leading_zeros_are_decimal() {
        assert_eq!(address(&Field::Root, "010.0.0.011").unwrap(), IpAddr::from([10, 0, 0, 11]));
    }

    #[test]
    fn long_values_are_cut_where_shown() {
        let error = label_value(&Field::Root, &"é".repeat(1_000_000)).unwrap_err();
        assert!(error.to_string().len() < 500);
    }
}
