"""Fragments: in tunnels and out of them, of every protocol, more of them than there is room for."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.sctp import SCTP, SCTPChunkHeartbeatReq
from scapy.packet import Raw

from case import Case
from world import (
    BY_IPIP,
    BY_VXLAN,
    DB,
    DIRECT,
    OPEN,
    PODS,
    PODS6,
    UPLINK,
    WAYS,
    WEB,
    data,
    ether,
    hop,
    to_node,
    to_pod,
    vxlan_in,
    vxlan_out,
)

FRAGMENT6 = 44


def pieces(packet, *cuts):
    """The packet cut at these offsets of its payload."""
    raw = bytes(packet)
    payload = raw[20:]
    edges = [0, *cuts, len(payload)]
    for start, end in zip(edges, edges[1:]):
        yield IP(
            src=packet.src,
            dst=packet.dst,
            id=packet.id,
            proto=raw[9],
            frag=start // 8,
            flags="MF" if end < len(payload) else 0,
        ) / Raw(payload[start:end])


def define():
    ways()
    verdicts()
    protocols()
    room()
    ipv6()
    untracked()


def ways():
    for way in WAYS:
        case = Case(
            f"fragments_there_and_back_{way.name}",
            "A datagram in three fragments leaves as three packets, and its answer comes in as three.",
        )
        for ip, ports in ((way.ip(id=7), (1, 2)), (way.back(id=8), (2, 1))):
            for piece in pieces(ip / UDP(sport=ports[0], dport=ports[1]) / data(3000), 1000, 2000):
                if ip.src == way.pod:
                    case.forwards(way.here, ether(piece), UPLINK, way.out(hop(piece)))
                else:
                    case.forwards(UPLINK, way.into(piece), way.here, to_pod(way.here, hop(piece)))
    case = Case(
        "fragments_of_two_datagrams",
        "Fragments of datagrams under way at once, of which one comes backwards, are told apart by identification.",
    )
    one, other = (
        list(pieces(BY_VXLAN.ip(id=ident) / UDP(sport=ident, dport=2) / data(200), 64, 128)) for ident in (21, 22)
    )
    case.forwards(OPEN, ether(one[0]), UPLINK, vxlan_out(hop(one[0])))
    case.waits(OPEN, ether(other[2]))
    case.forwards(OPEN, ether(one[1]), UPLINK, vxlan_out(hop(one[1])))
    case.waits(OPEN, ether(other[1]))
    case.forwards(OPEN, ether(other[0]), UPLINK, *(vxlan_out(hop(other[at])) for at in (0, 2, 1)))
    case.forwards(OPEN, ether(one[2]), UPLINK, vxlan_out(hop(one[2])))
    case = Case(
        "fragments_without_the_last",
        "No fragment waits for a last one; after half a minute the identification is another datagram's.",
    )
    first, middle, _ = pieces(BY_VXLAN.ip(id=31) / UDP(sport=1, dport=2) / data(200), 64, 128)
    for _ in range(2):
        for piece in (first, middle):
            case.forwards(OPEN, ether(piece), UPLINK, vxlan_out(hop(piece)))
        case.drops(OPEN, ether(middle), "fragment-overlap")
        case.after(32)


def verdicts():
    case = Case(
        "fragments_follow_the_verdict",
        "Later fragments share the fate of their first one: db takes UDP 9000, and not 8999, in whatever"
        " order they come.",
    )
    for dport, ident in ((9000, 41), (8999, 42)):
        first, last = pieces(IP(src=PODS["b1"], dst=PODS[DB], id=ident) / UDP(sport=1, dport=dport) / data(200), 128)
        for piece in (first, last):
            if dport == 9000:
                case.forwards(UPLINK, vxlan_in(piece), DB, to_pod(DB, hop(piece)))
            else:
                case.drops(UPLINK, vxlan_in(piece), "policy-deny")
    first, last = pieces(IP(src=PODS["b1"], dst=PODS[DB], id=43) / UDP(sport=1, dport=9001) / data(200), 128)
    case.waits(UPLINK, vxlan_in(last))
    case.forwards(UPLINK, vxlan_in(first), DB, to_pod(DB, hop(first)), to_pod(DB, hop(last)))
    case = Case(
        "fragments_of_icmp_errors",
        "The quote stands in the first fragment of an error; no error is so long that there are others (RFC"
        " 1812 4.3.2.3), and policy judges them as any ICMP.",
    )
    query = IP(src=PODS[WEB], dst=PODS["b1"]) / UDP(sport=4000, dport=53) / data(300)
    case.forwards(WEB, ether(query), UPLINK, vxlan_out(hop(query)))
    answer = IP(src=PODS["b1"], dst=PODS[WEB], id=9) / ICMP(type=3, code=3) / hop(query)
    first, last = pieces(answer, 128)
    case.forwards(UPLINK, vxlan_in(first), WEB, to_pod(WEB, hop(first)))
    case.drops(UPLINK, vxlan_in(last), "policy-deny")
    case = Case("fragments_with_false_sources", "Who sends under a false address spoils no datagram of its owner.")
    first, last = pieces(BY_VXLAN.ip(id=51) / UDP(sport=1, dport=2) / data(200), 128)
    case.drops(WEB, ether(last), "source-spoofed")
    case.drops(UPLINK, ether(last), "source-spoofed")
    case.forwards(OPEN, ether(first), UPLINK, vxlan_out(hop(first)))
    case.forwards(OPEN, ether(last), UPLINK, vxlan_out(hop(last)))


def protocols():
    case = Case(
        "fragments_of_every_protocol",
        "Fragments of TCP, SCTP, UDP-Lite, GRE, ESP and unknown protocols go the way of their first.",
    )
    for ident, (payload, fields) in enumerate(
        (
            (TCP(sport=1, dport=2, flags="S") / data(200), {}),
            (SCTP(sport=1, dport=2) / SCTPChunkHeartbeatReq() / data(200), {}),
            (Raw(b"\0\1\0\2\0\x08\xab\xcd") / data(200), {"proto": 136}),
            (Raw(b"\0\0\x88\xbe") / data(200), {"proto": 47}),
            (data(200), {"proto": 50}),
            (data(200), {"proto": 253}),
        ),
        60,
    ):
        for piece in pieces(BY_VXLAN.ip(id=ident, **fields) / payload, 64, 128):
            case.forwards(OPEN, ether(piece), UPLINK, vxlan_out(hop(piece)))
    case = Case("fragments_to_the_largest_offset", "A datagram may be as long as a packet can, and no longer.")
    first, last = pieces(DIRECT.ip(id=70) / UDP(sport=1, dport=2, len=65515, chksum=0) / data(65507), 65504)
    # As much of the first as fits a link.
    first = DIRECT.ip(id=70, proto=17, flags="MF") / Raw(bytes(first)[20:1220])
    case.forwards(OPEN, ether(first), UPLINK, DIRECT.out(hop(first)))
    case.forwards(OPEN, ether(last), UPLINK, DIRECT.out(hop(last)))
    beyond = DIRECT.ip(id=71, proto=17, frag=8189) / data(4)
    case.drops(OPEN, ether(beyond), "bad-fragment")


def room():
    case = Case("fragments_that_wait_are_bounded", "Sixty-four fragments wait for first ones, and no more.")
    many = list(pieces(BY_VXLAN.ip(id=80) / UDP(sport=1, dport=2) / data(1000), *range(8, 8 * 70, 8)))
    for piece in many[1:65]:
        case.waits(OPEN, ether(piece))
    case.drops(OPEN, ether(many[65]), "fragment-queue-full")
    case.forwards(OPEN, ether(many[0]), UPLINK, *(vxlan_out(hop(piece)) for piece in many[:65]))
    case = Case(
        "fragments_of_one_sender_are_bounded",
        "A quarter of the datagrams that may be under way is one sender's, and no more.",
    )
    for ident in range(16):
        first, _ = pieces(BY_VXLAN.ip(id=100 + ident) / UDP(sport=1, dport=2) / data(200), 128)
        case.forwards(OPEN, ether(first), UPLINK, vxlan_out(hop(first)))
    first, _ = pieces(BY_VXLAN.ip(id=200) / UDP(sport=1, dport=2) / data(200), 128)
    case.drops(OPEN, ether(first), "fragment-table-full")
    way = BY_IPIP
    first, _ = pieces(way.ip(id=200) / UDP(sport=1, dport=2) / data(200), 128)
    case.forwards(way.here, ether(first), UPLINK, way.out(hop(first)))


def pieces6(packet, ident, *cuts):
    """The same of IPv6."""
    raw = bytes(packet)
    payload = raw[40:]
    edges = [0, *cuts, len(payload)]
    for start, end in zip(edges, edges[1:]):
        header = IPv6ExtHdrFragment(nh=raw[6], id=ident, offset=start // 8, m=end < len(payload))
        yield IPv6(src=packet.src, dst=packet.dst) / header / Raw(payload[start:end])


def ipv6():
    here, there = PODS6[OPEN], PODS6["b"]
    case = Case(
        "ipv6_fragments_in_vxlan",
        "Fragments of IPv6 come out of VXLAN over IPv4 and go the way of their first, in whatever order.",
        manifests="manifests6",
    )
    first, middle, last = pieces6(IPv6(src=there, dst=here) / UDP(sport=1, dport=2) / data(300), 7, 104, 208)
    case.forwards(UPLINK, vxlan_in(first), OPEN, to_pod(OPEN, hop(first)))
    case.forwards(UPLINK, vxlan_in(last), OPEN, to_pod(OPEN, hop(last)))
    case.forwards(UPLINK, vxlan_in(middle), OPEN, to_pod(OPEN, hop(middle)))
    first, last = pieces6(IPv6(src=there, dst=here) / UDP(sport=1, dport=2) / data(300), 8, 104)
    case.waits(UPLINK, vxlan_in(last))
    case.forwards(UPLINK, vxlan_in(first), OPEN, to_pod(OPEN, hop(first)), to_pod(OPEN, hop(last)))
    tiny = IPv6(src=there, dst=here) / IPv6ExtHdrFragment(nh=17, id=9, m=1) / Raw(bytes(2))
    case.drops(UPLINK, vxlan_in(tiny), "bad-fragment")
    case.drops(UPLINK, vxlan_in(IPv6(src=there, dst=here, nh=17) / Raw(bytes(7))), "truncated-transport")
    case = Case(
        "ipv6_fragments_and_extension_headers",
        "Extension headers stand before the fragment header; behind it they are not read, and the packet is dropped.",
        manifests="manifests6",
    )
    before, after = IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(id=9, m=1)
    packet = IPv6(src=here, dst=there) / before / after / UDP(sport=1, dport=2, len=108) / data(96)
    case.forwards(OPEN, ether(packet), UPLINK, to_node("b1", hop(packet)))
    packet = (
        IPv6(src=here, dst=there) / IPv6ExtHdrFragment(id=10, m=1) / before / UDP(sport=1, dport=2, len=108) / data(96)
    )
    case.drops(OPEN, ether(packet), "extension-headers")
    atomic = IPv6(src=here, dst=there) / IPv6ExtHdrFragment(id=11) / before / UDP(sport=1, dport=2) / data()
    case.forwards(OPEN, ether(atomic), UPLINK, to_node("b1", hop(atomic)))


def untracked():
    case = Case(
        "fragments_untracked",
        "Of what doNotTrack lets pass later fragments know their ports from the first: they match no"
        " connection, and are denied as it is.",
        manifests="manifests-untracked",
    )
    for dport, ident in ((53, 1), (54, 2), (55, 3)):
        for is_early in (False, True):
            packet = (
                IP(src=PODS["a2"], dst=PODS[OPEN], id=ident + 10 * is_early) / UDP(sport=1, dport=dport) / data(200)
            )
            first, last = pieces(packet, 128)
            if is_early:
                case.waits(UPLINK, ether(last))
            if dport == 54:
                case.drops(UPLINK, ether(first), "policy-deny")
            elif is_early:
                case.forwards(UPLINK, ether(first), OPEN, to_pod(OPEN, hop(first)), to_pod(OPEN, hop(last)))
            else:
                case.forwards(UPLINK, ether(first), OPEN, to_pod(OPEN, hop(first)))
                case.forwards(UPLINK, ether(last), OPEN, to_pod(OPEN, hop(last)))
            if dport == 54 and not is_early:
                case.drops(UPLINK, ether(last), "policy-deny")
    # What web has asked is answered to it where the answer is tracked.
    for dport, passes in ((55, True), (53, False)):
        query = IP(src=PODS[WEB], dst=PODS["a2"]) / UDP(sport=dport, dport=1)
        case.forwards(WEB, ether(query), UPLINK, to_node("a2", hop(query)))
        answer = IP(src=PODS["a2"], dst=PODS[WEB], id=30 + dport) / UDP(sport=1, dport=dport) / data(200)
        for piece in pieces(answer, 128):
            if passes:
                case.forwards(UPLINK, ether(piece), WEB, to_pod(WEB, hop(piece)))
            else:
                case.drops(UPLINK, ether(piece), "policy-deny")
