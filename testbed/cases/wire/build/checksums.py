"""Checksums that a pod has left to its device, and wrong ones, which are for who receives the packet."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkHeartbeatReq
from scapy.utils import checksum

from case import Case
from mtu import split
from world import BY_VXLAN, DIRECT, OPEN, PLAIN, PODS, PODS6, UPLINK, WAYS, data, ether, hop, to_node, to_pod, vxlan_in


def left_to_device(packet, transport):
    """The packet with the pseudo header's sum where the checksum goes (`CHECKSUM_PARTIAL`)."""
    length = len(bytes(packet[transport]))
    ends = bytes(packet)[8:40] if isinstance(packet, IPv6) else bytes(packet)[12:20]
    number = 6 if transport is TCP else 17
    partial = packet.copy()
    partial[transport].chksum = checksum(ends + number.to_bytes(2, "big") + length.to_bytes(2, "big")) ^ 0xFFFF
    return partial


def define():
    for way in WAYS:
        case = Case(
            f"checksum_left_to_device_{way.name}",
            "What a pod's kernel leaves of TCP and UDP to its device is summed up.",
        )
        for transport, payload in (
            (TCP, TCP(sport=1, dport=2, flags="S") / data(33)),
            (UDP, UDP(sport=1, dport=2) / data(33)),
        ):
            packet = way.ip() / payload
            case.forwards(way.here, ether(left_to_device(packet, transport)), UPLINK, way.out(hop(packet)))
    case = Case(
        "checksum_left_to_device_between_pods",
        "What a pod leaves to its device is summed up on the way to another pod too, established or not.",
    )
    packet = IP(src=PODS[OPEN], dst=PODS[PLAIN]) / UDP(sport=1, dport=2) / data(5)
    for _ in range(3):
        case.forwards(OPEN, ether(left_to_device(packet, UDP)), PLAIN, to_pod(PLAIN, hop(packet)))
    case = Case(
        "checksum_left_to_device_of_what_is_split",
        "What a pod leaves to its device is summed up before the packet is split: no fragment can do it after.",
    )
    packet = BY_VXLAN.ip(id=5) / UDP(sport=1, dport=2) / data(1600)
    pieces = [BY_VXLAN.out(piece) for piece in split(hop(packet), 1450)]
    case.forwards(OPEN, ether(left_to_device(packet, UDP)), UPLINK, *pieces)
    case = Case(
        "checksum_left_to_device_of_sctp", "An SCTP checksum of 0, which Linux leaves to the device, is filled in."
    )
    packet = BY_VXLAN.ip() / SCTP(sport=1, dport=2, tag=7) / SCTPChunkHeartbeatReq()
    empty = packet.copy()
    empty[SCTP].chksum = 0
    case.forwards(OPEN, ether(empty), UPLINK, BY_VXLAN.out(hop(packet)))
    case = Case(
        "ipv6_checksum_left_to_device_of_tcp",
        "What a pod leaves of TCP over IPv6 to its device is summed up.",
        manifests="manifests6",
    )
    packet = IPv6(src=PODS6[OPEN], dst=PODS6["b"]) / TCP(sport=1, dport=2, flags="S") / data(9)
    case.forwards(OPEN, ether(left_to_device(packet, TCP)), UPLINK, to_node("b1", hop(packet)))
    wrong()


def wrong():
    case = Case(
        "checksum_of_transports_wrong", "A router does not look at the transport's checksum: what is wrong stays wrong."
    )
    for payload in (
        TCP(sport=1, dport=2, flags="S", chksum=0xBAD),
        UDP(sport=1, dport=2, chksum=0xBAD) / data(),
        ICMP(type=8, id=1, chksum=0xBAD),
        SCTP(sport=1, dport=2, chksum=0xBAD) / SCTPChunkHeartbeatReq(),
    ):
        packet = BY_VXLAN.ip() / payload
        case.forwards(OPEN, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))
        back = BY_VXLAN.back() / payload
        case.forwards(UPLINK, BY_VXLAN.into(back), OPEN, to_pod(OPEN, hop(back)))
    case = Case(
        "checksum_of_outer_udp",
        "The outer UDP checksum may be 0, right or wrong: the inner packet has its own (RFC 7348 4.1).",
    )
    packet = BY_VXLAN.back() / UDP(sport=1, dport=2) / data()
    for udp in ({"chksum": 0}, {}, {"chksum": 0xBAD}):
        case.forwards(UPLINK, vxlan_in(packet, udp={"chksum": None, **udp}), OPEN, to_pod(OPEN, hop(packet)))
    case = Case(
        "checksum_zero_after_the_ttl",
        "A header checksum of 0xfeff becomes 0xffff, and goes on to 0x0100: no zero is lost (RFC 1624 3).",
    )
    for wanted in (0xFEFF, 0xFFFE, 0xFE00, 0x0000):
        packet = DIRECT.ip(id=ident_for(wanted)) / UDP(sport=1, dport=2)
        assert IP(bytes(packet)).chksum == wanted, hex(IP(bytes(packet)).chksum)
        case.forwards(OPEN, ether(packet), UPLINK, DIRECT.out(hop(packet)))


def ident_for(wanted):
    """The identification that gives such a packet this header checksum."""
    raw = bytes(DIRECT.ip(id=0, chksum=wanted) / UDP(sport=1, dport=2))
    return checksum(raw[:20])
