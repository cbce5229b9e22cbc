"""IPv4 options: passed on as they are, but for source routes and what is malformed (RFC 7126)."""

from scapy.layers.inet import (
    ICMP,
    TCP,
    UDP,
    IPOption_LSRR,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_Security,
    IPOption_SSRR,
    IPOption_Timestamp,
)
from scapy.packet import Raw

from case import Case
from checksums import left_to_device
from mtu import split
from world import (
    BY_IPIP,
    BY_VXLAN,
    IP,
    OPEN,
    STRANGER,
    UPLINK,
    WAYS,
    WEB,
    data,
    error,
    ether,
    hop,
    ipip_in,
    refreshed,
    to_pod,
    vxlan_in,
)

RECORD_ROUTE = IPOption_RR(length=11, routers=["0.0.0.0", "0.0.0.0"])
TIMESTAMP = IPOption_Timestamp(length=8, pointer=5, flg=0, oflw=0, timestamp=0)
ALERT = IPOption_Router_Alert()
ONES = [
    ("record_route", [RECORD_ROUTE]),
    ("timestamp", [TIMESTAMP]),
    ("router_alert", [ALERT]),
    ("security", [IPOption_Security(security=1)]),
]


def with_bytes(ip, options):
    """A packet with these bytes for options."""
    raw = bytes(ip)
    ihl = 5 + len(options) // 4
    packet = bytearray(bytes([0x40 | ihl]) + raw[1:20] + options + raw[20:])
    packet[2:4] = len(packet).to_bytes(2, "big")
    return refreshed(packet)


def define():
    passed()
    tunnels()
    errors()
    fragments()
    refused()


def passed():
    for name, options in ONES:
        case = Case(f"options_{name}", "The option leaves and comes back with its packet, untouched, in tunnels too.")
        for way in WAYS:
            packet = way.ip(options=options) / UDP(sport=1, dport=2) / data()
            case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
            back = way.back(options=options) / UDP(sport=2, dport=1) / data()
            case.forwards(UPLINK, way.into(back), way.here, to_pod(way.here, hop(back)))
    case = Case(
        "options_soup", "Forty bytes of options, unknown ones, no-operations and what follows an end are passed on."
    )
    for options in (
        b"\x01" * 40,
        b"\x00" * 40,
        b"\x5e\x02" * 20,
        b"\x9e\x28" + bytes(range(38)),
        b"\x01\x07\x03\x00\x94\x04\x00\x00\x00\x83\x00\x01",
        b"\xde\x03\x09\x01",
    ):
        packet = with_bytes(BY_VXLAN.ip() / UDP(sport=1, dport=2) / data(), options)
        case.forwards(OPEN, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))
    case = Case(
        "options_and_policy", "Policy reads the ports behind the options: web may open connections, and nobody to it."
    )
    packet = IP(src="10.65.10.5", dst=BY_VXLAN.peer, options=[ALERT]) / TCP(sport=4000, dport=80, flags="S")
    case.forwards(WEB, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))
    back = IP(src=BY_VXLAN.peer, dst="10.65.10.5", options=[RECORD_ROUTE])
    answer = back / TCP(sport=80, dport=4000, flags="SA")
    case.forwards(UPLINK, vxlan_in(answer), WEB, to_pod(WEB, hop(answer)))
    case.drops(UPLINK, vxlan_in(back / TCP(sport=80, dport=4001, flags="S")), "policy-deny")
    case = Case(
        "options_and_checksums_left_to_device", "What is left to the device is summed up from behind the options."
    )
    packet = BY_VXLAN.ip(options=[ALERT]) / UDP(sport=1, dport=2) / data()
    case.forwards(OPEN, ether(left_to_device(packet, UDP)), UPLINK, BY_VXLAN.out(hop(packet)))


def tunnels():
    case = Case(
        "options_of_an_outer_header",
        "A tunnel's end takes packets whose outer header has options, and these end there.",
    )
    for options in ([ALERT], [RECORD_ROUTE, TIMESTAMP]):
        packet = BY_VXLAN.back() / UDP(sport=1, dport=2) / data()
        case.forwards(UPLINK, vxlan_in(packet, options=options), OPEN, to_pod(OPEN, hop(packet)))
        packet = BY_IPIP.back() / UDP(sport=1, dport=2) / data()
        case.forwards(UPLINK, ipip_in(packet, options=options), BY_IPIP.here, to_pod(BY_IPIP.here, hop(packet)))
    case.drops(UPLINK, vxlan_in(BY_VXLAN.back() / UDP(), src=STRANGER, options=[ALERT]), "unknown-tunnel-source")
    case.drops(
        UPLINK, vxlan_in(BY_VXLAN.back() / UDP(), options=[IPOption_LSRR(routers=["192.0.2.1"])]), "source-route"
    )
    case = Case(
        "options_in_and_out_of_the_tunnel",
        "Outer and inner options, and a congestion mark on the outer header, at once.",
    )
    packet = BY_VXLAN.back(options=[RECORD_ROUTE], tos=2) / UDP(sport=1, dport=2) / data()
    marked = refreshed(bytes(packet)[:1] + b"\x03" + bytes(packet)[2:])
    case.forwards(UPLINK, vxlan_in(packet, options=[ALERT], tos=3), OPEN, to_pod(OPEN, hop(marked)))


def errors():
    case = Case("options_quoted", "An error finds its flow behind the options of what it quotes, and behind its own.")
    packet = IP(src="10.65.10.5", dst=BY_VXLAN.peer, options=[RECORD_ROUTE]) / UDP(sport=4000, dport=53) / data()
    case.forwards(WEB, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))
    for own in ([], [ALERT]):
        answer = IP(src=BY_VXLAN.peer, dst="10.65.10.5", options=own) / ICMP(type=3, code=3) / hop(packet)
        case.forwards(UPLINK, vxlan_in(answer), WEB, to_pod(WEB, hop(answer)))
    case = Case("options_in_answers", "What an error of ours quotes has its options; the error has none.")
    packet = BY_VXLAN.ip(options=[RECORD_ROUTE], ttl=1) / UDP(sport=4000, dport=53) / data()
    case.drops(OPEN, ether(packet), "ttl-exceeded", (OPEN, to_pod(OPEN, error(packet, 11))))
    packet = BY_VXLAN.ip(options=[RECORD_ROUTE], flags="DF") / UDP(sport=4000, dport=53) / data(1460)
    case.drops(OPEN, ether(packet), "fragmentation-needed", (OPEN, to_pod(OPEN, error(packet, 3, 4, mtu=1450))))


def fragments():
    case = Case(
        "options_of_what_is_split",
        "The first fragment has all options, the others those that are copied and no-operations for the rest"
        " (RFC 791 3.1).",
    )
    packet = BY_VXLAN.ip(id=6, options=[ALERT, RECORD_ROUTE]) / UDP(sport=1, dport=2) / data(3000)
    pieces = list(split(hop(packet), 1450))
    assert len(pieces) == 3
    for at in (1, 2):
        raw = bytearray(bytes(pieces[at]))
        raw[24:35] = b"\x01" * 11
        pieces[at] = refreshed(raw)
    case.forwards(OPEN, ether(packet), UPLINK, *(BY_VXLAN.out(piece) for piece in pieces))
    case = Case("options_of_fragments", "Fragments with options, each with others, go the way of their first one.")
    payload = bytes(UDP(sport=1, dport=2, len=1024, chksum=0) / data(1016))
    for at, options in ((0, [RECORD_ROUTE]), (64, []), (80, [ALERT])):
        end = {0: 512, 64: 640, 80: 1024}[at]
        piece = BY_VXLAN.ip(id=8, proto=17, frag=at, flags="MF" if end < 1024 else 0, options=options) / Raw(
            payload[at * 8 : end]
        )
        case.forwards(OPEN, ether(piece), UPLINK, BY_VXLAN.out(hop(piece)))


def refused():
    case = Case(
        "options_source_routes",
        "Source routes are not forwarded, nor where their way has come to its end (RFC 7126 4.3).",
    )
    for option in (
        IPOption_LSRR(routers=["192.0.2.1"]),
        IPOption_SSRR(routers=["192.0.2.1"]),
        IPOption_LSRR(pointer=8, routers=["192.0.2.1"]),
    ):
        case.drops(OPEN, ether(BY_VXLAN.ip(options=[option]) / UDP()), "source-route")
        case.drops(OPEN, ether(BY_VXLAN.ip(options=[ALERT, option]) / ICMP()), "source-route")
        case.drops(UPLINK, vxlan_in(BY_VXLAN.back(options=[option]) / UDP()), "source-route")
    case = Case("options_malformed", "Options of length 0 or 1, or that run past the header, are not forwarded.")
    for options in (
        b"\x07\x00\x04\x00",
        b"\x94\x01\x00\x00",
        b"\x07\x05\x04\x00",
        b"\x01\x01\x01\x44",
        b"\x44\xff\x05\x00",
        b"\x94\x04\x00\x00\x07\x09\x04\x00\x00\x00\x00\x00",
    ):
        case.drops(OPEN, ether(with_bytes(BY_VXLAN.ip() / UDP(), options)), "bad-options")
        case.drops(UPLINK, vxlan_in(with_bytes(BY_VXLAN.back() / UDP(), options)), "bad-options")
    case = Case("options_and_lengths", "A header with options has to be in the packet, and its checksum covers them.")
    packet = with_bytes(BY_VXLAN.ip() / UDP(sport=1, dport=2) / data(), b"\x01" * 40)
    wrong = bytearray(bytes(packet))
    wrong[30] ^= 1
    case.drops(OPEN, ether(Raw(bytes(wrong))), "bad-header-checksum")
    short = bytearray(bytes(packet))
    short[2:4] = b"\x00\x3b"
    case.drops(OPEN, ether(refreshed(short)), "bad-total-length")
    case.drops(OPEN, ether(Raw(bytes(packet)[:59])), "bad-header-length")
    case.drops(OPEN, ether(Raw(bytes(packet)[:60])), "bad-total-length")
