"""ICMP errors, which belong to the flow of the packet that they quote, and queries."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.sctp import SCTP
from scapy.packet import Raw
from scapy.utils import checksum

from case import Case
from protocols import UDP_LITE, udp_lite
from world import BY_VXLAN, NODES, OPEN, PODS, UPLINK, WAYS, WEB, data, ether, hop, ipip_in, to_pod, vxlan_in, vxlan_out

UNREACHABLE, QUENCH, REDIRECT, EXCEEDED, PARAMETER = 3, 4, 5, 11, 12
# Policy lets nobody open a connection to this pod: what comes is part of what it has begun, or does not.
SRC, PEER = PODS[WEB], BY_VXLAN.peer


def opened(case, payload, **fields):
    """A packet of web's that has left for its peer: as it is out there, where errors quote it."""
    packet = IP(src=SRC, dst=PEER, **fields) / payload
    case.forwards(WEB, ether(packet), UPLINK, vxlan_out(hop(packet)))
    return hop(packet)


def about(quote, kind=UNREACHABLE, code=3, src=PEER, **fields):
    """An error from the other end about what web sent."""
    return IP(src=src, dst=SRC) / ICMP(type=kind, code=code, **fields) / Raw(bytes(quote))


def reaches_web(case, packet, node="b1"):
    case.forwards(UPLINK, vxlan_in(packet, node), WEB, to_pod(WEB, hop(packet)))


def define():
    of_every_type()
    of_every_protocol()
    quotes()
    either_direction()
    queries()


def of_every_type():
    case = Case(
        "icmp_unreachable_of_every_code",
        "Errors of every code of Destination Unreachable pass with the flow that they quote.",
    )
    sent = opened(case, UDP(sport=4000, dport=53) / data())
    for code in range(16):
        reaches_web(case, about(sent, code=code))
    case = Case(
        "icmp_fragmentation_needed_of_a_flow",
        "What a router beyond the tunnel says of its MTU reaches the pod as it said it.",
    )
    sent = opened(case, TCP(sport=4000, dport=80, flags="S"), flags="DF")
    for mtu in (68, 1280, 1400, 1450):
        reaches_web(case, about(sent, code=4, nexthopmtu=mtu, src=NODES["b1"]))
    case = Case(
        "icmp_errors_of_other_types",
        "Time exceeded, parameter problem, source quench and redirect pass with the flow that they quote; other types"
        " are no errors.",
    )
    sent = opened(case, UDP(sport=4000, dport=53) / data())
    for kind, code in ((EXCEEDED, 0), (EXCEEDED, 1), (PARAMETER, 0), (PARAMETER, 2), (QUENCH, 0), (REDIRECT, 1)):
        reaches_web(case, about(sent, kind, code))
    for kind in (6, 9, 10, 40, 255):
        case.drops(UPLINK, vxlan_in(about(sent, kind, 0)), "policy-deny")
    case = Case(
        "icmp_errors_from_routers", "Who sends the error need not be who the flow is with: a node does, of its own."
    )
    sent = opened(case, UDP(sport=4000, dport=53) / data())
    reaches_web(case, about(sent, EXCEEDED, 0, src=NODES["b1"]))
    reaches_web(case, about(sent, EXCEEDED, 0, src="10.65.21.1"))
    case.drops(UPLINK, vxlan_in(about(sent, EXCEEDED, 0, src="192.0.2.1")), "inner-source")
    case.drops(UPLINK, vxlan_in(about(sent, EXCEEDED, 0, src="127.0.0.1")), "martian-source")


def of_every_protocol():
    case = Case(
        "icmp_errors_of_every_protocol",
        "The quote's first eight bytes tell the flow: ports, an identifier, or the protocol alone.",
    )
    for payload, fields in (
        (TCP(sport=4001, dport=80, flags="S"), {}),
        (UDP(sport=4002, dport=53), {}),
        (ICMP(type=8, id=4003), {}),
        (SCTP(sport=4004, dport=7000), {}),
        (udp_lite(4005, 53), {"proto": UDP_LITE}),
        (data(8), {"proto": 50}),
    ):
        sent = opened(case, payload, **fields)
        reaches_web(case, about(bytes(sent)[:28]))
    case = Case(
        "icmp_errors_of_no_flow",
        "An error about what web has not sent is a packet that policy judges: another port, protocol or end.",
    )
    sent = opened(case, UDP(sport=4000, dport=53) / data())
    for packet in (
        IP(src=SRC, dst=PEER) / UDP(sport=4000, dport=54),
        IP(src=SRC, dst=PEER) / TCP(sport=4000, dport=53),
        IP(src=SRC, dst="10.65.21.6") / UDP(sport=4000, dport=53),
        IP(src=PEER, dst=SRC) / UDP(sport=53, dport=4000),
    ):
        case.drops(UPLINK, vxlan_in(about(packet)), "policy-deny")
    reaches_web(case, about(sent))


def quotes():
    case = Case(
        "icmp_quotes_cut_short",
        "A quote of a header and eight bytes is enough (RFC 792), and one of fewer says nothing.",
    )
    sent = opened(case, TCP(sport=4000, dport=80, flags="S"))
    for length in (28, 29, 40):
        reaches_web(case, about(bytes(sent)[:length]))
    for length in (27, 20, 19, 1, 0):
        case.drops(UPLINK, vxlan_in(about(bytes(sent)[:length])), "policy-deny")
    case = Case(
        "icmp_quotes_changed_on_the_way",
        "Of the quote TTL, TOS, length, identification and checksum may be any: routers have changed them.",
    )
    sent = opened(case, UDP(sport=4000, dport=53) / data(), id=7)
    for at in (1, 2, 4, 8, 10):
        raw = bytearray(bytes(sent))
        raw[at] ^= 0x5A
        reaches_web(case, about(raw))
    # Neither another version, nor a header that is too short, nor a later fragment names a flow.
    for at, value in ((0, 0x65), (0, 0x44), (7, 0x09)):
        raw = bytearray(bytes(sent))
        raw[at] = value
        case.drops(UPLINK, vxlan_in(about(raw)), "policy-deny")
    case = Case(
        "icmp_quotes_of_icmp",
        "An error about an echo request belongs to its exchange; none is about an error (RFC 1122 3.2.2).",
    )
    sent = opened(case, ICMP(type=8, id=99, seq=3) / data())
    reaches_web(case, about(sent, EXCEEDED, 0))
    for kind in (UNREACHABLE, EXCEEDED, PARAMETER, 40):
        packet = IP(src=SRC, dst=PEER) / ICMP(type=kind) / Raw(bytes(sent))
        case.drops(UPLINK, vxlan_in(about(packet)), "policy-deny")
    case = Case("icmp_checksum_wrong", "A router does not look at the checksum of an error, nor of its quote.")
    sent = opened(case, UDP(sport=4000, dport=53, chksum=0xBAD) / data())
    reaches_web(case, about(sent, chksum=0xBAD))


def either_direction():
    case = Case(
        "icmp_errors_sent_by_pods",
        "What our pod says of a packet that came in leaves with that packet's flow, by each way.",
    )
    for way in WAYS:
        query = way.back() / UDP(sport=53, dport=33434) / data()
        case.forwards(UPLINK, way.into(query), way.here, to_pod(way.here, hop(query)))
        answer = way.ip() / ICMP(type=UNREACHABLE, code=3) / hop(query)
        case.forwards(way.here, ether(answer), UPLINK, way.out(hop(answer)))
    case = Case("icmp_errors_in_every_tunnel", "Errors come back by the way that their flow went, or by another.")
    for way in WAYS:
        query = way.ip() / UDP(sport=4000, dport=33434) / data()
        case.forwards(way.here, ether(query), UPLINK, way.out(hop(query)))
        answer = way.back() / ICMP(type=UNREACHABLE, code=3) / hop(query)
        case.forwards(UPLINK, way.into(answer), way.here, to_pod(way.here, hop(answer)))
    answer = (
        BY_VXLAN.back() / ICMP(type=UNREACHABLE, code=3) / hop(BY_VXLAN.ip() / UDP(sport=4000, dport=33434) / data())
    )
    case.forwards(UPLINK, ipip_in(answer), OPEN, to_pod(OPEN, hop(answer)))
    case = Case(
        "icmp_errors_about_outer_packets", "An error about a tunnel packet of ours is for our node: its kernel has it."
    )
    outer = IP(bytes(vxlan_out(BY_VXLAN.ip() / UDP(sport=1, dport=2)))[14:])
    for kind, code in ((UNREACHABLE, 4), (UNREACHABLE, 3), (EXCEEDED, 0)):
        case.passes(UPLINK, ether(IP(src="172.20.1.1", dst=outer.src) / ICMP(type=kind, code=code) / outer))


def queries():
    case = Case(
        "icmp_queries",
        "Echo, timestamp, information, mask and extended echo: a reply is part of what its request has begun.",
    )
    for identifier, (request, reply) in enumerate(((8, 0), (13, 14), (15, 16), (17, 18), (42, 43)), 100):
        ask = IP(src=SRC, dst=PEER, proto=1) / icmp(request, identifier)
        case.forwards(WEB, ether(ask), UPLINK, vxlan_out(hop(ask)))
        answer = IP(src=PEER, dst=SRC, proto=1) / icmp(reply, identifier)
        reaches_web(case, answer)
        case.drops(UPLINK, vxlan_in(IP(src=PEER, dst=SRC, proto=1) / icmp(reply, identifier + 50)), "policy-deny")
    case.drops(UPLINK, vxlan_in(IP(src=PEER, dst=SRC, proto=1) / icmp(8, 300)), "policy-deny")


def icmp(kind, identifier):
    """A query or reply with an identifier, and twelve bytes more."""
    message = bytearray(bytes([kind, 0, 0, 0]) + identifier.to_bytes(2, "big") + b"\0\1" + bytes(data(12)))
    message[2:4] = checksum(bytes(message)).to_bytes(2, "big")
    return Raw(bytes(message))
