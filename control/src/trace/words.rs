//! Headers in words.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::ethernet::{self, ethertype};
use margay_encap::{Headers, addresses6, parse, parse_ip6, protocol};

/// Control bits of TCP, from the lowest.
const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/// The outermost headers of a frame, or what is wrong with them.
pub(super) fn of_frame(bytes: &[u8]) -> Result<String, String> {
    parsed(bytes).map(|headers| of_headers(bytes, &headers))
}

pub(super) fn parsed(bytes: &[u8]) -> Result<Headers, String> {
    let is_ipv6 =
        bytes.get(12..ethernet::HEADER_LEN).is_some_and(|kind| kind == ethertype::IPV6.to_be_bytes());
    let parsed = if is_ipv6 { parse_ip6(bytes, ethernet::HEADER_LEN as u16) } else { parse(bytes) };
    parsed.map_err(|error| error.to_string())
}

fn of_headers(bytes: &[u8], headers: &Headers) -> String {
    let [src, dst] = addresses(bytes, headers);
    let at = |address: IpAddr, port: u16| match (has_ports(headers), address) {
        (false, _) => address.to_string(),
        (true, IpAddr::V4(_)) => format!("{address}:{port}"),
        (true, IpAddr::V6(_)) => format!("[{address}]:{port}"),
    };
    let fragment = match (headers.is_fragment(), headers.is_later_fragment()) {
        (false, _) => "",
        (true, false) => ", a first fragment",
        (true, true) => ", a later fragment",
    };
    format!(
        "{} {} > {} {}, TTL {}, {} bytes{fragment}",
        if headers.is_ipv6() { "IPv6" } else { "IPv4" },
        at(src, headers.sport()),
        at(dst, headers.dport()),
        transport(headers),
        headers.ttl(),
        headers.total_len(),
    )
}

pub(super) fn addresses(bytes: &[u8], headers: &Headers) -> [IpAddr; 2] {
    if headers.is_ipv6() {
        addresses6(bytes, headers).map(IpAddr::V6)
    } else {
        [headers.src(), headers.dst()].map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
    }
}

fn has_ports(headers: &Headers) -> bool {
    matches!(headers.protocol(), protocol::TCP | protocol::UDP | protocol::SCTP)
        && !headers.is_later_fragment()
}

fn transport(headers: &Headers) -> String {
    let flags = headers.tcp_flags();
    match headers.protocol() {
        protocol::TCP => {
            let set = FLAGS.iter().enumerate().filter(|(bit, _)| flags & 1 << bit != 0);
            let set: Vec<&str> = set.map(|(_, name)| *name).collect();
            format!("tcp {}", set.join("+")).trim_end().to_owned()
        }
        protocol::UDP => "udp".to_owned(),
        protocol::SCTP => "sctp".to_owned(),
        protocol::IPIP => "IP-in-IP".to_owned(),
        _ if headers.has_own_icmp() => {
            format!("icmp type {} code {}", headers.icmp_type(), headers.icmp_code())
        }
        other => format!("protocol {other}"),
    }
}
