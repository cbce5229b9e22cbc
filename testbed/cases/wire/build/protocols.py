"""Every protocol, there and back, by every way."""

from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE
from scapy.layers.sctp import SCTP, SCTPChunkHeartbeatReq
from scapy.packet import Raw

from case import Case
from world import (
    BY_VXLAN,
    GATEWAY,
    NODES,
    OPEN,
    PLAIN,
    PODS,
    PODS6,
    UPLINK,
    WAYS,
    data,
    ether,
    hop,
    to_node,
    to_pod,
    vxlan_out,
)

UDP_LITE, ESP, UNKNOWN = 136, 50, 253
HANDSHAKE = [("MSS", 1400), ("SAckOK", b""), ("Timestamp", (9, 0)), ("NOP", None), ("WScale", 7)]


def ports(sport, dport):
    return sport.to_bytes(2, "big") + dport.to_bytes(2, "big")


def udp_lite(sport, dport):
    # Coverage of the header alone, and some checksum.
    return Raw(ports(sport, dport) + b"\x00\x08\xab\xcd" + bytes(data()))


def esp(spi):
    return Raw(spi.to_bytes(4, "big") + b"\0\0\0\1" + bytes(data(32)))


# A name, what it is in words, and the fields of the IP header and what follows it, there and back.
PROTOCOLS = [
    (
        "tcp",
        "TCP, its options and checksum untouched,",
        {},
        TCP(sport=40000, dport=80, flags="S", seq=1, options=HANDSHAKE),
        TCP(sport=80, dport=40000, flags="SA", seq=9, ack=2, options=HANDSHAKE),
    ),
    ("udp", "UDP", {}, UDP(sport=40000, dport=53) / data(), UDP(sport=53, dport=40000) / data(40)),
    (
        "udp_without_checksum",
        "UDP without a checksum",
        {},
        UDP(sport=40001, dport=53, chksum=0) / data(),
        UDP(sport=53, dport=40001, chksum=0) / data(),
    ),
    ("icmp", "An echo request", {}, ICMP(type=8, id=77, seq=1) / data(), ICMP(type=0, id=77, seq=1) / data()),
    (
        "sctp",
        "SCTP",
        {},
        SCTP(sport=5000, dport=7000, tag=1) / SCTPChunkHeartbeatReq(),
        SCTP(sport=7000, dport=5000, tag=2) / SCTPChunkHeartbeatReq(),
    ),
    ("udp_lite", "UDP-Lite", {"proto": UDP_LITE}, udp_lite(40000, 53), udp_lite(53, 40000)),
    ("gre", "GRE, of which no tunnel is ours,", {}, GRE(proto=0x88BE) / data(), GRE(proto=0x88BE) / data(30)),
    ("esp", "ESP", {"proto": ESP}, esp(0x1000), esp(0x2000)),
    ("unknown", "A protocol that nobody knows", {"proto": UNKNOWN}, data(1), Raw(b"")),
]


def define():
    for way in WAYS:
        by = {"direct": "in no tunnel", "vxlan": "in VXLAN", "ipip": "in IP-in-IP"}[way.name]
        for name, words, fields, there, back in PROTOCOLS:
            case = Case(
                f"{name}_there_and_back_{way.name}", f"{words} leaves {by}, and what comes back reaches the pod."
            )
            packet = way.ip(id=0x1234, flags="DF", **fields) / there
            case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
            answer = way.back(id=0x4321, **fields) / back
            case.forwards(UPLINK, way.into(answer), way.here, to_pod(way.here, hop(answer)))
    ipv6()
    between_pods()
    other_tunnels()


def ipv6():
    for name, words, fields, there, back in PROTOCOLS:
        if name == "udp_without_checksum":
            continue
        fields = {"nh": fields["proto"]} if fields else {}
        if name == "icmp":
            there, back = ICMPv6EchoRequest(id=77, data=b"ping"), ICMPv6EchoReply(id=77, data=b"ping")
        case = Case(
            f"ipv6_{name}_there_and_back",
            f"{words} over IPv6 leaves, and what comes back reaches the pod.",
            manifests="manifests6",
        )
        packet = IPv6(src=PODS6[OPEN], dst=PODS6["b"], tc=0xB8, fl=0x12345, **fields) / there
        case.forwards(OPEN, ether(packet), UPLINK, to_node("b1", hop(packet)))
        answer = IPv6(src=PODS6["b"], dst=PODS6[OPEN], **fields) / back
        case.forwards(UPLINK, ether(answer), OPEN, to_pod(OPEN, hop(answer)))


def between_pods():
    case = Case(
        "between_pods_of_the_node", "Two pods of the gateway reach each other in no tunnel, whatever their pools say."
    )
    for payload in (TCP(sport=1, dport=2, flags="S"), UDP(sport=3, dport=4) / data(), ICMP(type=8, id=5)):
        packet = IP(src=PODS[OPEN], dst=PODS[PLAIN]) / payload
        case.forwards(OPEN, ether(packet), PLAIN, to_pod(PLAIN, hop(packet)))


def other_tunnels():
    case = Case(
        "tunnels_that_are_not_ours",
        "VXLAN to another port, GENEVE, GRE and IPv6-in-IPv4 between pods are payload like any.",
    )
    inner = BY_VXLAN.back() / UDP(sport=1, dport=2)
    for payload, fields in (
        (UDP(sport=9, dport=8472) / Raw(bytes(ether(inner))), {}),
        (UDP(sport=9, dport=6081) / GENEVE(vni=1) / Raw(bytes(ether(inner))), {}),
        (GRE(proto=0x0800) / Raw(bytes(inner)), {}),
        (Raw(bytes(IPv6(src="fd00::1", dst="fd00::2") / data())), {"proto": 41}),
    ):
        packet = BY_VXLAN.ip(**fields) / payload
        case.forwards(OPEN, ether(packet), UPLINK, vxlan_out(hop(packet)))
    case = Case(
        "vxlan_between_pods",
        "A pod may have VXLAN and IP-in-IP of its own with another pod: no node takes it for its own.",
    )
    for payload, fields in (
        (UDP(sport=9, dport=4789) / Raw(b"\x08" + bytes(7) + bytes(ether(inner))), {}),
        (Raw(bytes(inner)), {"proto": 4}),
    ):
        packet = BY_VXLAN.ip(**fields) / payload
        case.forwards(OPEN, ether(packet), UPLINK, vxlan_out(hop(packet)))
    case = Case(
        "ipv6_in_ipv4_to_the_node", "IPv6-in-IPv4 (protocol 41), GRE and ESP to the node itself are its kernel's."
    )
    for protocol in (41, 47, 50):
        case.passes(UPLINK, ether(IP(src=NODES["b1"], dst=GATEWAY, proto=protocol) / data(60)))
