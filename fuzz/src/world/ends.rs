//! Where packets come from and go to: one address of each kind in each family.

use std::net::IpAddr;

use arbitrary::{Arbitrary, Result, Unstructured};

use margay_flowtable::PortId;

use super::{Hop, NODE, NODE6, PEERS, PEERS6, PODS, Route, UPLINKS, snapshot};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In the net of this number: 10.N.0.0/16 and fd00:N00::/24. Pods are the hosts 1 of nets 1 and 2.
    Net(u8),
    Node,
    Peer,
    /// A known node that nothing lives on.
    OtherPeer,
    Stranger,
    Multicast,
    Broadcast,
    Loopback,
    LinkLocal,
    Unspecified,
}

impl End {
    /// Where most packets come from and go to.
    const USUAL: [Self; 8] = [
        Self::Net(1),
        Self::Net(2),
        Self::Net(64),
        Self::Net(128),
        Self::Net(96),
        Self::Net(1),
        Self::Net(192),
        Self::Net(224),
    ];
    const OTHERS: [Self; 11] = [
        Self::Node,
        Self::Net(3),
        Self::Net(0),
        Self::Stranger,
        Self::Peer,
        Self::OtherPeer,
        Self::Multicast,
        Self::Broadcast,
        Self::Loopback,
        Self::LinkLocal,
        Self::Unspecified,
    ];

    pub fn all() -> impl Iterator<Item = Self> {
        Self::USUAL.into_iter().chain(Self::OTHERS)
    }

    pub fn address(self, is_ipv6: bool) -> IpAddr {
        if is_ipv6 { self.address6().into() } else { self.address4().into() }
    }

    fn address4(self) -> [u8; 4] {
        match self {
            Self::Net(net) => [10, net, 0, 1],
            Self::Node => NODE.octets(),
            Self::Peer => PEERS[0].octets(),
            Self::OtherPeer => PEERS[1].octets(),
            Self::Stranger => [192, 0, 2, 1],
            Self::Multicast => [224, 0, 0, 5],
            Self::Broadcast => [255; 4],
            Self::Loopback => [127, 0, 0, 1],
            Self::LinkLocal => [169, 254, 0, 1],
            Self::Unspecified => [0; 4],
        }
    }

    fn address6(self) -> [u8; 16] {
        let of = |[a, b, c, d]: [u8; 4]| [a, b, c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, d];
        match self {
            Self::Net(net) => of([0xfd, 0, net, 1]),
            Self::Node => NODE6.octets(),
            Self::Peer => PEERS6[0].octets(),
            Self::OtherPeer => PEERS6[1].octets(),
            Self::Stranger => of([0x20, 1, 0x0d, 1]),
            Self::Multicast | Self::Broadcast => of([0xff, 2, 0, 5]),
            Self::Loopback => of([0, 0, 0, 1]),
            Self::LinkLocal => of([0xfe, 0x80, 0, 1]),
            Self::Unspecified => [0; 16],
        }
    }
}

impl<'a> Arbitrary<'a> for End {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        if u.ratio(1, 8)? { u.choose(&Self::OTHERS).copied() } else { u.choose(&Self::USUAL).copied() }
    }
}

/// Of both families, in the same order.
pub fn routes() -> Vec<Route> {
    let nets = [
        (0, Hop::Blackhole),
        (1, Hop::Blackhole),
        (2, Hop::Blackhole),
        (3, Hop::Unresolved),
        (64, Hop::Vxlan),
        (96, Hop::VxlanOverIpv6),
        (128, Hop::Ipip),
        (192, Hop::Uplink),
        (224, Hop::SecondUplink),
    ];
    let hosts = [(End::Net(1), Hop::FirstPod), (End::Net(2), Hop::SecondPod), (End::Node, Hop::Host)];
    let mut routes = Vec::new();
    for is_ipv6 in [false, true] {
        let (net, host) = if is_ipv6 { (24, 128) } else { (16, 32) };
        let route = |(end, length, hop): (End, u8, Hop)| {
            let network = prefix(end.address(is_ipv6), length).expect("no length is beyond its family's");
            Route { network, length, hop }
        };
        routes.extend(nets.map(|(number, hop)| route((End::Net(number), net, hop))));
        routes.extend(hosts.map(|(end, hop)| route((end, host, hop))));
    }
    routes
}

/// Where packets that come in tunnels come from.
pub fn homes() -> impl Iterator<Item = Route> {
    let is_tunnel = |hop| matches!(hop, Hop::Vxlan | Hop::VxlanOverIpv6 | Hop::Ipip);
    routes().into_iter().filter(move |route| is_tunnel(route.hop))
}

/// In what packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    Ipip,
    Vxlan,
    VxlanOverIpv6,
}

/// By which port, and in what, packets from there come in.
pub fn way_in(src: IpAddr) -> (PortId, Option<Around>) {
    if let Some(pod) = PODS.into_iter().find(|pod| snapshot::addresses(*pod).contains(&src)) {
        return (pod, None);
    }
    let home = homes().find(|home| prefix(src, home.length) == Some(home.network));
    match home.map(|home| home.hop) {
        Some(Hop::VxlanOverIpv6) => (UPLINKS[1], Some(Around::VxlanOverIpv6)),
        // IPv6 is not taken out of IP-in-IP.
        Some(Hop::Ipip) if src.is_ipv4() => (UPLINKS[0], Some(Around::Ipip)),
        Some(_) => (UPLINKS[0], Some(Around::Vxlan)),
        None => (UPLINKS[0], None),
    }
}

/// The address without its host bits, if it has so many.
pub fn prefix(address: IpAddr, length: u8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => {
            let host = 32u32.checked_sub(length.into())?;
            let mask = u32::MAX.checked_shl(host).unwrap_or_default();
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let host = 128u32.checked_sub(length.into())?;
            let mask = u128::MAX.checked_shl(host).unwrap_or_default();
            IpAddr::V6((address.to_bits() & mask).into())
        }
    })
}
