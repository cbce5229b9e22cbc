//! Policies as lines of text, so that a test says in one line what a rule must be.

use margay_control::selector::Selector;
use margay_control::state::policy::{Icmp, Peer, PortMatch, Rule, Side};

/// Each rule as `INDEX [NAME] ACTION CONDITIONS from SIDE to SIDE`, without what holds for everything.
pub(crate) fn rules(list: Option<&[Rule]>) -> Vec<String> {
    list.expect("the policy is for this direction").iter().map(rule).collect()
}

/// The text with each selector in `<>` in its canonical form.
pub(crate) fn canonical(text: &str) -> String {
    let canonical = |(i, part): (usize, &str)| match i % 2 {
        0 => part.to_owned(),
        _ => format!("<{}>", Selector::parse(part).unwrap()),
    };
    text.split(['<', '>']).enumerate().map(canonical).collect()
}

fn rule(rule: &Rule) -> String {
    let mut words = vec![rule.index.to_string()];
    words.extend(rule.name.clone());
    words.push(format!("{:?}", rule.action));
    words.extend(rule.ip_version.map(|family| family.to_string()));
    words.extend(rule.protocol.map(|protocol| format!("protocol {}", protocol.0)));
    words.extend(rule.not_protocol.map(|protocol| format!("protocol not {}", protocol.0)));
    words.extend(rule.icmp.map(|it| format!("icmp {}", icmp(it))));
    words.extend(rule.not_icmp.map(|it| format!("icmp not {}", icmp(it))));
    for (word, side) in [("from", &rule.source), ("to", &rule.destination)] {
        if *side != Side::default() {
            words.push(format!("{word} {}", self::side(side)));
        }
    }
    words.join(" ")
}

fn icmp(icmp: Icmp) -> String {
    let octet = |octet: Option<u8>| octet.map_or("any".to_owned(), |octet| octet.to_string());
    format!("{}/{}", octet(icmp.kind), octet(icmp.code))
}

fn side(side: &Side) -> String {
    let one_of = |peers: &Vec<Peer>| format!("[{}]", peers.iter().map(peer).collect::<Vec<_>>().join(", "));
    let mut words: Vec<_> = side.all_of.iter().map(one_of).collect();
    words.extend(side.none_of.iter().map(|it| format!("not {}", peer(it))));
    for (word, ports) in [("ports", &side.ports), ("notPorts", &side.not_ports)] {
        if !ports.is_empty() {
            words.push(format!("{word} {}", ports.iter().map(port).collect::<Vec<_>>().join(",")));
        }
    }
    words.join(" ")
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Selected(selector) => format!("<{selector}>"),
        Peer::Block { cidr, except } if except.is_empty() => cidr.to_string(),
        Peer::Block { cidr, except } => format!("{cidr} except {except:?}"),
        Peer::Nodes(selector) => format!("nodes <{selector}>"),
        Peer::Service(name) => format!("service {name}"),
    }
}

fn port(port: &PortMatch) -> String {
    match port {
        PortMatch::Range(range) if range.start() == range.end() => range.start().to_string(),
        PortMatch::Range(range) => format!("{}-{}", range.start(), range.end()),
        PortMatch::Name(name) => name.clone(),
        PortMatch::Service(name) => format!("service {name}"),
    }
}
