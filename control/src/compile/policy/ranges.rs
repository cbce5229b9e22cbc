//! Blocks to ranges of addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses of `cidr` that are in none of `except`, as inclusive ranges.
pub(super) fn block_ranges(cidr: IpNet, except: &[IpNet]) -> Vec<(IpAddr, IpAddr)> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let address = |bits: u128| match cidr {
        IpNet::V4(_) => IpAddr::V4((bits as u32).into()),
        IpNet::V6(_) => IpAddr::V6(bits.into()),
    };
    let mut holes: Vec<_> = except.iter().map(|net| (bits(net.network()), bits(net.broadcast()))).collect();
    holes.sort_unstable();
    let mut ranges = Vec::new();
    // First address that no hole has swallowed yet; none once a hole ends at the top of the address space.
    let mut next = Some(bits(cidr.network()));
    for (start, end) in holes {
        let Some(from) = next else { break };
        if start > from {
            ranges.push((address(from), address(start - 1)));
        }
        next = if end >= from { end.checked_add(1) } else { next };
    }
    let last = bits(cidr.broadcast());
    if let Some(from) = next.filter(|from| *from <= last) {
        ranges.push((address(from), address(last)));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use margay_flowtable::AddressSet;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holes_at_the_edges_of_the_address_space() {
        for (cidr, except, expected) in [
            ("0.0.0.0/0", vec!["128.0.0.0/1"], vec![("0.0.0.0", "127.255.255.255")]),
            ("0.0.0.0/0", vec!["0.0.0.0/1"], vec![("128.0.0.0", "255.255.255.255")]),
            ("::/0", vec!["8000::/1"], vec![("::", "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]),
            ("0.0.0.0/0", vec!["0.0.0.0/1", "128.0.0.0/1"], vec![]),
            ("::/0", vec!["::/1", "8000::/1"], vec![]),
            (
                "10.0.0.0/30",
                vec!["10.0.0.1/32", "10.0.0.1/32"],
                vec![("10.0.0.0", "10.0.0.0"), ("10.0.0.2", "10.0.0.3")],
            ),
        ] {
            let except: Vec<IpNet> = except.iter().map(|net| net.parse().unwrap()).collect();
            let expected: Vec<(IpAddr, IpAddr)> =
                expected.iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).collect();
            assert_eq!(block_ranges(cidr.parse().unwrap(), &except), expected, "{cidr} {except:?}");
        }
    }

    fn net4(min: u8) -> impl Strategy<Value = IpNet> {
        // Few bits vary, so that blocks nest.
        (0u32..64, min..=32u8).prop_map(|(low, length)| {
            IpNet::new(IpAddr::V4((0x0a00_0000 | low).into()), length).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn ranges_hold_what_the_block_holds_without_its_holes(
            cidr in net4(26),
            except in prop::collection::vec(net4(27), 0..6),
        ) {
            let except: Vec<_> = except.into_iter().filter(|net| cidr.contains(net) && *net != cidr).collect();
            let set = AddressSet::new([], block_ranges(cidr, &except));
            for low in 0u32..80 {
                let address = IpAddr::V4((0x0a00_0000 | low).into());
                let inside = cidr.contains(&address) && !except.iter().any(|net| net.contains(&address));
                prop_assert_eq!(set.contains_address(address), inside, "{}", address);
            }
        }
    }
}
