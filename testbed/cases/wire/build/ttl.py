"""Time to live: what it is when a packet leaves, and who is told when it has run out."""

from scapy.layers.inet import ICMP, TCP, UDP

from case import Case
from world import (
    BY_IPIP,
    BY_VXLAN,
    DIRECT,
    GATEWAY,
    IPIP_ADDRESS,
    OPEN,
    UPLINK,
    VXLAN_ADDRESS,
    data,
    error,
    ether,
    hop,
    to_pod,
)

TIME_EXCEEDED = 11


def define():
    for way in (DIRECT, BY_VXLAN, BY_IPIP):
        case = Case(f"ttl_out_{way.name}", "TTL 255 and 2 leave one less; at 1 and 0 the pod is told (RFC 1812 5.3.1).")
        for ttl in (255, 2):
            packet = way.ip(ttl=ttl) / UDP(sport=1, dport=2) / data()
            case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
        for ttl in (1, 0):
            packet = way.ip(ttl=ttl) / UDP(sport=1, dport=2) / data()
            answer = to_pod(way.here, error(packet, TIME_EXCEEDED))
            case.drops(way.here, ether(packet), "ttl-exceeded", (way.here, answer))
    for way, address in ((DIRECT, GATEWAY), (BY_VXLAN, VXLAN_ADDRESS), (BY_IPIP, IPIP_ADDRESS)):
        case = Case(
            f"ttl_in_{way.name}",
            "TTL 255 and 2 reach the pod one less; at 1 and 0 the sender is told, by the way that it came,"
            " from our address there.",
        )
        for ttl in (255, 2):
            packet = way.back(ttl=ttl) / UDP(sport=1, dport=2) / data()
            case.forwards(UPLINK, way.into(packet, ttl=3), way.here, to_pod(way.here, hop(packet)))
        for ttl in (1, 0):
            packet = way.back(ttl=ttl) / UDP(sport=1, dport=2) / data()
            answer = error(packet, TIME_EXCEEDED, src=address)
            case.drops(UPLINK, way.into(packet, ttl=3), "ttl-exceeded", (UPLINK, way.out(answer, tos=0, flags=0)))
    case = Case(
        "ttl_answers_quote_548_bytes", "A long packet is quoted so that the answer has 576 bytes (RFC 1812 4.3.2.3)."
    )
    packet = BY_VXLAN.ip(ttl=1) / TCP(sport=1, dport=2) / data(1000)
    case.drops(OPEN, ether(packet), "ttl-exceeded", (OPEN, to_pod(OPEN, error(packet, TIME_EXCEEDED))))
    case = Case(
        "ttl_of_icmp_errors", "No error is sent about an ICMP error, but one about an echo request (RFC 1122 3.2.2)."
    )
    quoted = BY_VXLAN.back() / UDP(sport=1, dport=2)
    for kind in (3, 5, 11, 12):
        case.drops(OPEN, ether(BY_VXLAN.ip(ttl=1) / ICMP(type=kind) / quoted), "ttl-exceeded")
    packet = BY_VXLAN.ip(ttl=1) / ICMP(type=8, id=1)
    case.drops(OPEN, ether(packet), "ttl-exceeded", (OPEN, to_pod(OPEN, error(packet, TIME_EXCEEDED))))
    case = Case("ttl_of_later_fragments", "An error is sent about the first fragment alone (RFC 1122 3.2.2).")
    first = BY_VXLAN.ip(ttl=1, id=5, flags="MF") / UDP(sport=1, dport=2, len=48) / data(16)
    case.drops(OPEN, ether(first), "ttl-exceeded", (OPEN, to_pod(OPEN, error(first, TIME_EXCEEDED))))
    case.drops(OPEN, ether(BY_VXLAN.ip(ttl=1, id=5, frag=3, proto=17) / data(24)), "ttl-exceeded")
    case = Case(
        "ttl_answers_are_limited", "Errors come fifty at once at most, and then a thousand a second (RFC 1812 4.3.2.8)."
    )
    packet = BY_VXLAN.ip(ttl=1) / UDP(sport=1, dport=2)
    answer = (OPEN, to_pod(OPEN, error(packet, TIME_EXCEEDED)))
    case.step = 0
    for count in range(60):
        case.drops(OPEN, ether(packet), "ttl-exceeded", *([answer] if count < 50 else []))
    case.after(0.003)
    for count in range(5):
        case.drops(OPEN, ether(packet), "ttl-exceeded", *([answer] if count < 3 else []))
