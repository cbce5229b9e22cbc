//! Longest-prefix match while compiling: a map from prefix to value that finds the longest prefix around another.
//!
//! Workers look up the [`Fib`](margay_flowtable::Fib); this one is small, ordered, and holds any value.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// Values by prefix; host bits of prefixes are ignored.
#[derive(Clone, Debug)]
pub(super) struct Prefixes<V> {
    by_prefix: BTreeMap<IpNet, V>,
    /// Prefix lengths in use, of both families: a lookup tries only these.
    lengths: BTreeSet<u8>,
}

impl<V> Default for Prefixes<V> {
    fn default() -> Self {
        Self { by_prefix: BTreeMap::new(), lengths: BTreeSet::new() }
    }
}

impl<V> Prefixes<V> {
    /// Sets the value of `prefix` unless it has one.
    pub(super) fn insert_if_absent(&mut self, prefix: IpNet, value: V) {
        self.lengths.insert(prefix.prefix_len());
        self.by_prefix.entry(prefix.trunc()).or_insert(value);
    }

    /// The longest prefix that contains all of `net`, and its value.
    pub(super) fn longest(&self, net: impl Into<IpNet>) -> Option<(&IpNet, &V)> {
        let net = net.into();
        self.lengths.range(..=net.prefix_len()).rev().find_map(|&length| {
            let around = IpNet::new(net.addr(), length).ok()?.trunc();
            self.by_prefix.get_key_value(&around)
        })
    }

    /// The value of this very prefix.
    pub(super) fn get(&self, prefix: IpNet) -> Option<&V> {
        self.by_prefix.get(&prefix.trunc())
    }

    /// In order of family, network and length.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&IpNet, &V)> {
        self.by_prefix.iter()
    }
}

impl<V> FromIterator<(IpNet, V)> for Prefixes<V> {
    /// Of two values for one prefix the first stands.
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(values: I) -> Self {
        let mut prefixes = Self::default();
        for (prefix, value) in values {
            prefixes.insert_if_absent(prefix, value);
        }
        prefixes
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn longest_contains_the_whole_net() {
        let prefixes: Prefixes<&str> = [
            ("10.0.0.0/8", "eight"),
            ("10.1.2.64/26", "block"),
            ("10.1.2.77/32", "host"),
            ("::/0", "default"),
        ]
        .into_iter()
        .map(|(prefix, value)| (prefix.parse().unwrap(), value))
        .collect();
        let cases = [
            ("10.1.2.77/32", Some("host")),
            ("10.1.2.78/32", Some("block")),
            ("10.1.2.64/26", Some("block")),
            ("10.1.2.0/24", Some("eight")),
            ("11.0.0.0/8", None),
            ("0.0.0.0/0", None),
            ("2001:db8::1/128", Some("default")),
        ];
        for (net, expected) in cases {
            let found = prefixes.longest(net.parse::<IpNet>().unwrap()).map(|(_, value)| *value);
            assert_eq!(found, expected, "{net}");
        }
        let address: IpAddr = "10.1.2.77".parse().unwrap();
        assert_eq!(prefixes.longest(address).unwrap().0.to_string(), "10.1.2.77/32");
    }
}
