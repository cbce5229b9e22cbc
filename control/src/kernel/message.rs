//! What rtnetlink messages say, in the terms of `state::Kernel`. `None`: nothing that the mirror keeps.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType,
    RouteVia,
};

use super::NeighbourKey;
use crate::state::{Link, Neighbour, Route, Vlan};

/// A link and its index. Messages of the family `AF_BRIDGE` are about a bridge's port, not about the link.
pub(super) fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        rx_queues: 1,
        tx_queues: 1,
        vlan: vlan(&message.attributes),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::NumRxQueues(count) => link.rx_queues = *count,
            LinkAttribute::NumTxQueues(count) => link.tx_queues = *count,
            _ => {}
        }
    }
    Some((message.header.index, link))
}

/// The tag of an interface of a VLAN, with the device below. That of one whose device is in another namespace is nothing
/// here, nor is one of 802.1ad.
fn vlan(attributes: &[LinkAttribute]) -> Option<Vlan> {
    let (mut device, mut id) = (None, None);
    for attribute in attributes {
        match attribute {
            LinkAttribute::Link(index) => device = Some(*index),
            LinkAttribute::LinkNetNsId(_) => return None,
            LinkAttribute::LinkInfo(infos) => id = id.or_else(|| infos.iter().find_map(vlan_id)),
            _ => {}
        }
    }
    Some(Vlan { device: device?, id: id? })
}

fn vlan_id(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vlan(infos)) = info else { return None };
    let is_other = |info: &InfoVlan| matches!(info, InfoVlan::Protocol(protocol) if *protocol != VlanProtocol::Ieee8021Q);
    if infos.iter().any(is_other) {
        return None;
    }
    infos.iter().find_map(|info| match info {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

/// An address of ours with the index of its link. On a point-to-point link `IFA_ADDRESS` is the other end's.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let mut ours = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => ours = Some(*address),
            AddressAttribute::Address(address) => ours = ours.or(Some(*address)),
            _ => {}
        }
    }
    Some((message.header.index, IpNet::new(ours?, message.header.prefix_len).ok()?))
}

/// A unicast route of the main table with a device. Of a multipath route, the first next hop that is not dead.
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let mut table = u32::from(header.table);
    let (mut device, mut metric, mut gateway) = (None, 0, gateway_of(&message.attributes));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::MultiPath(hops) => {
                let hop = hops.iter().find(|hop| !hop.flags.contains(RouteNextHopFlags::Dead))?;
                device = Some(hop.interface_index);
                gateway = gateway_of(&hop.attributes);
            }
            _ => {}
        }
    }
    let forwards = header.kind == RouteType::Unicast
        && table == u32::from(RouteHeader::RT_TABLE_MAIN)
        && !header.flags.contains(RouteFlags::Dead);
    let dst = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(Route { dst, gateway, ifindex: device?, metric }).filter(|_| forwards)
}

fn gateway_of(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        // A next hop of the other family: IPv4 over an IPv6 neighbour (RFC 8950).
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The entry that a message is about. Bridge entries, proxies and multicast are no neighbours of ours.
pub(super) fn neighbour_key(message: &NeighbourMessage) -> Option<NeighbourKey> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    })?;
    (!address.is_multicast()).then_some((message.header.ifindex, address))
}

/// A neighbour; one that is not resolved has no MAC (zeros) and is not usable.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    let key = neighbour_key(message)?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    });
    let valid = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    Some((key, Neighbour { mac: mac.unwrap_or_default(), usable: valid && mac.is_some() }))
}

pub(super) fn neighbour_address(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::InfoKind;

    use super::*;

    #[test]
    fn an_interface_of_a_vlan_is_known_by_its_device_and_tag() {
        let of = |protocol, more: &[LinkAttribute]| {
            let mut message = LinkMessage::default();
            let data = vec![InfoVlan::Protocol(protocol), InfoVlan::Id(100)];
            message.header.index = 7;
            message.attributes = vec![
                LinkAttribute::IfName("eth0.100".into()),
                LinkAttribute::Link(2),
                LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Vlan),
                    LinkInfo::Data(InfoData::Vlan(data)),
                ]),
            ];
            message.attributes.extend_from_slice(more);
            link(&message).and_then(|(_, link)| link.vlan)
        };
        assert_eq!(of(VlanProtocol::Ieee8021Q, &[]), Some(Vlan { device: 2, id: 100 }));
        assert_eq!(of(VlanProtocol::Ieee8021Ad, &[]), None);
        // Its number is another device's here.
        assert_eq!(of(VlanProtocol::Ieee8021Q, &[LinkAttribute::LinkNetNsId(0)]), None);
    }
}
