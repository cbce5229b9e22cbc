"""What does not fit: one byte less, as much and one more, with DF and without, by every way."""

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from case import Case
from world import (
    BY_IPIP,
    BY_VXLAN,
    DIRECT,
    IPIP_ADDRESS,
    OPEN,
    PODS6,
    UPLINK,
    VXLAN_ADDRESS,
    WAYS,
    data,
    error,
    ether,
    hop,
    refreshed,
    to_node,
    to_pod,
)

OVERHEAD = {"direct": 0, "vxlan": 50, "ipip": 20}
UNREACHABLE, NEEDED = 3, 4


def udp(ip, length):
    """A packet of so many bytes."""
    return ip / UDP(sport=1, dport=2) / data(length - 28)


def split(packet, mtu):
    """The packet in fragments of at most `mtu` bytes (RFC 791 3.2)."""
    raw = bytes(packet)
    header = (raw[0] & 15) * 4
    step = (mtu - header) // 8 * 8
    offset, more = packet.frag, packet.flags.MF
    for start in range(0, len(raw) - header, step):
        part = raw[header + start :][:step]
        is_last = header + start + len(part) == len(raw)
        piece = IP(raw[:header] + part)
        piece.len, piece.frag = header + len(part), offset + start // 8
        piece.flags = "MF" if more or not is_last else 0
        yield refreshed(piece)


def define():
    for way in WAYS:
        fits = 1500 - OVERHEAD[way.name]
        case = Case(
            f"mtu_out_{way.name}_with_df",
            f"With DF {fits} bytes leave whole, and of one more the pod is told that {fits} do (RFC 1191 4).",
        )
        for length in (fits - 1, fits):
            packet = udp(way.ip(flags="DF", id=length), length)
            case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
        packet = udp(way.ip(flags="DF", id=1), fits + 1)
        answer = to_pod(way.here, error(packet, UNREACHABLE, NEEDED, mtu=fits))
        case.drops(way.here, ether(packet), "fragmentation-needed", (way.here, answer))
        case = Case(
            f"mtu_out_{way.name}_without_df",
            f"Without DF {fits} bytes leave whole, one more in two fragments, each in a header of its own.",
        )
        for length in (fits - 1, fits):
            packet = udp(way.ip(id=length), length)
            case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
        packet = udp(way.ip(id=1), fits + 1)
        pieces = [way.out(piece) for piece in split(hop(packet), fits)]
        case.forwards(way.here, ether(packet), UPLINK, *pieces)
    into_pods()
    configured()
    of_fragments()


def into_pods():
    for way, address in ((DIRECT, None), (BY_VXLAN, VXLAN_ADDRESS), (BY_IPIP, IPIP_ADDRESS)):
        case = Case(
            f"mtu_in_{way.name}",
            "What a pod's port does not take is split without DF; with it the sender is told, by the way that it came.",
            config="[pods]\nmtu = 1400",
        )
        packet = udp(way.back(id=1, flags="DF"), 1400)
        case.forwards(UPLINK, way.into(packet), way.here, to_pod(way.here, hop(packet)))
        packet = udp(way.back(id=2), 1401)
        case.forwards(
            UPLINK, way.into(packet), way.here, *(to_pod(way.here, piece) for piece in split(hop(packet), 1400))
        )
        packet = udp(way.back(id=3, flags="DF"), 1401)
        answer = error(packet, UNREACHABLE, NEEDED, mtu=1400, **({"src": address} if address else {}))
        case.drops(UPLINK, way.into(packet), "fragmentation-needed", (UPLINK, way.out(answer, tos=0, flags=0)))


def configured():
    for way in (BY_VXLAN, BY_IPIP):
        case = Case(
            f"mtu_of_{way.name}_as_configured",
            "A tunnel has the MTU that the configuration gives it.",
            config=f"[tunnel.{way.name}]\nmtu = 1300",
        )
        packet = udp(way.ip(flags="DF"), 1300)
        case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
        packet = udp(way.ip(flags="DF"), 1301)
        answer = to_pod(way.here, error(packet, UNREACHABLE, NEEDED, mtu=1300))
        case.drops(way.here, ether(packet), "fragmentation-needed", (way.here, answer))
    case = Case(
        "mtu_of_the_uplink_as_configured",
        "Tunnels take from the MTU that the uplink is given.",
        config='[[uplink]]\ndevice = "uplink0"\nmtu = 9000',
    )
    for way in (DIRECT, BY_VXLAN):
        packet = udp(way.ip(flags="DF"), 9000 - OVERHEAD[way.name])
        case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
        packet = udp(way.ip(flags="DF"), 9001 - OVERHEAD[way.name])
        answer = to_pod(way.here, error(packet, UNREACHABLE, NEEDED, mtu=9000 - OVERHEAD[way.name]))
        case.drops(way.here, ether(packet), "fragmentation-needed", (way.here, answer))
    case = Case("mtu_of_the_largest_packet", "65,535 bytes without DF leave in as many fragments as it takes.")
    packet = udp(BY_VXLAN.ip(id=9), 65535)
    case.forwards(OPEN, ether(packet), UPLINK, *(BY_VXLAN.out(piece) for piece in split(hop(packet), 1450)))


def of_fragments():
    case = Case(
        "mtu_of_fragments",
        "A fragment that does not fit is split again: offsets go on from its own, and the last alone ends the"
        " datagram.",
    )
    payload = bytes(UDP(sport=1, dport=2, len=2008, chksum=0)) + bytes(data(2000))
    first = BY_VXLAN.ip(id=3, flags="MF", proto=17) / Raw(payload[:1480])
    last = BY_VXLAN.ip(id=3, frag=185, proto=17) / Raw(payload[1480:])
    case.forwards(OPEN, ether(first), UPLINK, *(BY_VXLAN.out(piece) for piece in split(hop(first), 1450)))
    case.forwards(OPEN, ether(last), UPLINK, BY_VXLAN.out(hop(last)))
    case = Case(
        "mss_clamped_out_ipip_and_direct",
        "The MSS of a SYN is lowered to what the narrower of both ways takes.",
        config="[tcp]\nclamp_mss = true\n[pods]\nmtu = 1480",
    )
    for way, mss in ((DIRECT, 1440), (BY_VXLAN, 1410), (BY_IPIP, 1440)):
        clamped(case, way, mss)
    ipv6_clamped()


def clamped(case, way, mss):
    """A SYN and its answer that say too much, and a SYN that does not."""
    for flags, said, told in (("S", 1460, mss), ("SA", 8960, mss), ("S", 900, 900), ("A", 1460, 1460)):
        tcp = {"sport": 40000 + said, "dport": 80, "flags": flags}
        before = way.ip() / TCP(options=[("NOP", None), ("MSS", said), ("EOL", None)], **tcp)
        after = way.ip(ttl=63) / TCP(options=[("NOP", None), ("MSS", told), ("EOL", None)], **tcp)
        case.forwards(way.here, ether(before), UPLINK, way.out(after))


def ipv6_clamped():
    case = Case(
        "ipv6_mss_clamped",
        "Over IPv6 the MSS of a SYN is lowered to what both ways take, less 60 bytes of headers.",
        config="[tcp]\nclamp_mss = true\n[pods]\nmtu = 1400",
        manifests="manifests6",
    )
    for flags, said, told in (
        ("S", 1440, 1340),
        ("SA", 8940, 1340),
        ("S", 1340, 1340),
        ("S", 600, 600),
        ("A", 1440, 1440),
    ):
        there, back = (PODS6[OPEN], PODS6["b"]), (PODS6["b"], PODS6[OPEN])
        for (src, dst), port, to, send in (
            (there, OPEN, UPLINK, lambda packet: to_node("b1", packet)),
            (back, UPLINK, OPEN, lambda packet: to_pod(OPEN, packet)),
        ):
            if flags == "SA" and port == OPEN:
                continue
            tcp = {"sport": 40000 + said, "dport": 80, "flags": flags}
            before = IPv6(src=src, dst=dst) / TCP(options=[("MSS", said)], **tcp)
            after = IPv6(src=src, dst=dst, hlim=63) / TCP(options=[("MSS", told)], **tcp)
            case.forwards(port, ether(before), to, send(after))
