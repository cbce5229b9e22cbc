//! The policies of a case as nftables' rules.

use std::fmt::Write as _;

use crate::lab::case::{Case, Job};
use crate::lab::dataplane::cluster::{self, Allowed};
use crate::lab::world::{POD, VXLAN_PORT};

/// The ruleset. Packets of known connections leave it first; a tunnel's own packets are not tracked, as Calico has it.
/// What is neither to nor from the pod, as policy sees it, passes.
pub(super) fn text(case: &Case) -> String {
    let (pod, peer) = match case.job.way() {
        Job::VxlanDecap => ("daddr", "saddr"),
        _ => ("saddr", "daddr"),
    };
    let mut text = format!(
        "table ip lab {{\n\
         counter invalid {{}}\n\
         counter denied {{}}\n\
         chain untracked-in {{ type filter hook prerouting priority raw; udp dport {VXLAN_PORT} notrack; }}\n\
         chain untracked-out {{ type filter hook output priority raw; udp dport {VXLAN_PORT} notrack; }}\n\
         chain policies {{\n"
    );
    for Allowed { peer: net, port } in cluster::allowed(case.policies) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "ip {peer} {net} th dport {port} accept");
    }
    let _ = write!(
        text,
        "counter name denied drop\n\
         }}\n\
         chain forward {{\n\
         type filter hook forward priority filter; policy accept;\n\
         ct state established,related accept\n\
         ct state invalid counter name invalid drop\n\
         ip {pod} {POD} meta l4proto {{ tcp, udp }} jump policies\n\
         ip {pod} {POD} counter name denied drop\n\
         }}\n\
         }}\n"
    );
    text
}

/// What the counters say that `nft list counters` prints.
pub(super) fn drops(listed: &str) -> Vec<(String, u64)> {
    let mut drops = Vec::new();
    let mut name = None;
    for line in listed.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("counter ") {
            name = rest.split_whitespace().next();
        } else if let (Some(of), Some(rest)) = (name, line.strip_prefix("packets ")) {
            let count = rest.split_whitespace().next().and_then(|count| count.parse().ok()).unwrap_or(0);
            drops.extend((count > 0).then(|| (of.to_owned(), count)));
        }
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_nft_lists_them() {
        let listed = "table ip lab {\n\tcounter invalid {\n\t\tpackets 0 bytes 0\n\t}\n\
                      \tcounter policy {\n\t\tpackets 3 bytes 138\n\t}\n}\n";
        assert_eq!(drops(listed), [("policy".to_owned(), 3)]);
    }
}
