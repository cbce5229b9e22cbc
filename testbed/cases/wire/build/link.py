"""What the link has to do with it: padding, MAC addresses, EtherTypes."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1Q, Ether
from scapy.packet import Raw

from case import Case
from world import BY_VXLAN, DIRECT, GATEWAY, OPEN, PODS, UPLINK, WAYS, data, ether, hop, mac, to_pod, vxlan_in

MAC = "02:00:00:00:00:99"


def define():
    packet = DIRECT.ip() / UDP(sport=1, dport=2)
    case = Case("link_padding", "What pads a frame to sixty bytes leaves with no packet (RFC 1812 4.2.2.1).")
    for way in WAYS:
        for payload in (UDP(sport=1, dport=2), TCP(sport=1, dport=2, flags="S"), ICMP(type=8, id=1)):
            out, back = way.ip() / payload, way.back() / payload
            case.forwards(way.here, Raw(bytes(ether(out)).ljust(60, b"\0")), UPLINK, way.out(hop(out)))
            frame = bytes(way.into(back)).ljust(60, b"\0") + b"\xfc" * 4
            case.forwards(UPLINK, Raw(frame), way.here, to_pod(way.here, hop(back)))
    case = Case(
        "link_groups", "What the link delivers to many is not forwarded (RFC 1812 5.3.4); an uplink's kernel has it."
    )
    for group in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "03:00:00:00:00:01"):
        case.drops(OPEN, ether(packet, dst=group), "multicast")
        back = DIRECT.back() / UDP(sport=1, dport=2)
        case.passes(UPLINK, ether(back, dst=group))
    case = Case(
        "link_other_ethertypes", "ARP, LLDP, MPLS, PPPoE and frames of 802.3 are the kernel's, from pods and uplinks."
    )
    frames = [
        Ether(dst=MAC, src=MAC) / ARP(hwsrc=MAC, psrc=PODS[OPEN], pdst="169.254.1.1"),
        *(Ether(dst=MAC, src=MAC, type=kind) / packet for kind in (0x88CC, 0x8847, 0x8864, 0x0801, 0x05DC, 46)),
        Ether(dst=MAC, src=MAC, type=46) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=0x0800) / packet,
    ]
    for frame in frames:
        case.passes(OPEN, frame)
        case.passes(UPLINK, frame)
    case = Case("link_tags_of_pods", "A pod's tagged frames are dropped: none goes round policy behind a tag.")
    for vlan in (0, 1, 4095):
        case.drops(OPEN, Ether(dst=MAC, src=MAC) / Dot1Q(vlan=vlan, type=0x0800) / packet, "vlan")
    case.drops(OPEN, Ether(dst=MAC, src=MAC, type=0x88A8) / Raw(b"\0\1\x81\0\0\2\x08\0" + bytes(packet)), "vlan")
    case = Case(
        "link_any_mac_of_a_pod",
        "A pod's packet is taken whatever unicast MAC it is for: policy is not gone round by one.",
    )
    for dst in (MAC, mac("gw-a"), "00:00:00:00:00:00", "fe:ff:ff:ff:ff:ff"):
        case.forwards(OPEN, ether(packet, dst=dst, src="02:70:6f:64:66:66"), UPLINK, DIRECT.out(hop(packet)))
    case = Case("link_runts", "What is shorter than an Ethernet header is no frame: the kernel has it.")
    for length in (0, 1, 12, 13):
        case.passes(OPEN, Raw(bytes(ether(packet))[:length]))
        case.passes(UPLINK, Raw(bytes(ether(packet))[:length]))
    case = Case("link_of_the_node", "What is for the node and no tunnel packet is its kernel's.")
    for payload in (
        TCP(sport=1, dport=22, flags="S"),
        TCP(sport=1, dport=179, flags="S"),
        UDP(sport=1, dport=4790),
        ICMP(type=8),
    ):
        case.passes(UPLINK, ether(IP(src="172.20.1.11", dst=GATEWAY) / payload))
        case.passes(OPEN, ether(IP(src=PODS[OPEN], dst=GATEWAY) / payload))
    case.drops(UPLINK, vxlan_in(IP(src=BY_VXLAN.peer, dst=GATEWAY) / UDP(sport=1, dport=53) / data()), "host-bound")
