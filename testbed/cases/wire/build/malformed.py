"""Packets that are not sound, from a pod and out of a tunnel: each has the reason of the first thing that is wrong."""

from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from case import Case
from protocols import UDP_LITE
from tunnels import changed
from world import BY_VXLAN, OPEN, UPLINK, data, ether, hop, vxlan_in

DCCP = 33


def both(case, payload, reason, **fields):
    """A packet from the pod and one to it."""
    for ip, port, frame in ((BY_VXLAN.ip, OPEN, ether), (BY_VXLAN.back, UPLINK, vxlan_in)):
        case.drops(port, frame(ip(**fields) / payload), reason)


def define():
    headers()
    transports()
    flags()


def headers():
    case = Case("malformed_header_lengths", "An IHL below 5, or one that the frame has no room for, is no header.")
    good = bytes(BY_VXLAN.ip() / UDP(sport=1, dport=2))
    for ihl in range(5):
        case.drops(OPEN, ether(Raw(bytes([0x40 | ihl]) + good[1:])), "bad-header-length")
    for ihl in (8, 15):
        case.drops(OPEN, ether(Raw(bytes([0x40 | ihl]) + good[1:])), "bad-header-length")
    case = Case("malformed_versions", "Behind the EtherType of IPv4 stands version 4, and nothing else.")
    for version in (0, 1, 3, 5, 6, 7, 15):
        case.drops(OPEN, ether(changed(bytearray(bytes([version << 4 | 5]) + good[1:]))), "bad-version")
    case = Case(
        "malformed_total_lengths",
        "A total length below the header's or beyond the frame is wrong; one short of the frame is padding.",
    )
    for length in (0, 1, 19, 29, 1500, 65535):
        packet = bytearray(good)
        packet[2:4] = length.to_bytes(2, "big")
        case.drops(OPEN, ether(changed(packet)), "bad-total-length")
    packet = BY_VXLAN.ip() / UDP(sport=1, dport=2)
    case.forwards(OPEN, ether(Raw(bytes(packet) + b"\xee" * 18)), UPLINK, BY_VXLAN.out(hop(packet)))
    case = Case(
        "malformed_header_checksums",
        "Every single bit of a header that is wrong is seen by its checksum (RFC 1812 5.2.2).",
    )
    # Version, IHL and lengths are looked at before it.
    for at in (1, *range(4, 20)):
        for bit in range(8):
            packet = bytearray(good)
            packet[at] ^= 1 << bit
            case.drops(OPEN, ether(Raw(bytes(packet))), "bad-header-checksum")
    case = Case("malformed_nothing", "An Ethernet header and nothing, or a few bytes, behind it.")
    for length in (0, 1, 8, 19):
        case.drops(OPEN, ether(Raw(good[:length])), "bad-header-length")
        case.drops(UPLINK, vxlan_in(Raw(good[:length])), "bad-header-length")


def transports():
    case = Case("malformed_transport_headers", "A transport header that is cut off tells no flow.")
    for protocol, header in (
        (6, TCP()),
        (17, UDP(len=8)),
        (1, ICMP()),
        (132, SCTP()),
        (UDP_LITE, UDP(len=8)),
        (DCCP, Raw(b"\0\1\0\2\3" + bytes(7))),
    ):
        whole = bytes(BY_VXLAN.ip() / header)[20:]
        both(case, Raw(whole[:-1]), "truncated-transport", proto=protocol)
        both(case, Raw(b""), "truncated-transport", proto=protocol)
    case = Case(
        "malformed_udp_lengths",
        "UDP's length is at least 8 and at most what the packet holds; less is padding of its own.",
    )
    for length in (0, 7, 27, 65535):
        both(case, UDP(sport=1, dport=2, len=length, chksum=0) / data(18), "truncated-transport")
    for length in (8, 25, 26):
        packet = BY_VXLAN.ip() / UDP(sport=1, dport=2, len=length, chksum=0) / data(18)
        case.forwards(OPEN, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))
    case = Case("malformed_tcp_offsets", "TCP's data offset is at least 5 and within the packet.")
    for words in (0, 1, 4, 8, 15):
        both(case, TCP(sport=1, dport=2, dataofs=words) / data(8), "truncated-transport")
    for words in (5, 7):
        packet = BY_VXLAN.ip() / TCP(sport=words, dport=2, dataofs=words) / data(8)
        case.forwards(OPEN, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))


def flags():
    case = Case(
        "tcp_flags_of_all_kinds",
        "Any combination of TCP's flags is forwarded as policy says: what it means is the ends' affair.",
    )
    for port, flags in enumerate(("", "FPU", "SF", "SR", "FSRPAUEC", "U", "SEC", "FA"), 1):
        packet = BY_VXLAN.ip() / TCP(sport=port, dport=80, flags=flags, urgptr=9, reserved=5)
        case.forwards(OPEN, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))
    case = Case(
        "tcp_option_soup",
        "TCP options of no sense are the ends' affair, also where the MSS is clamped.",
        config="[tcp]\nclamp_mss = true",
    )
    for port, options in enumerate(
        (
            b"\x02\x00\x05\xb4",
            b"\x02\x04\x05\xb4"[:3] + b"\x00",
            b"\x02\x03\x05\x00",
            b"\xff" * 4,
            b"\x01\x01\x01\x02",
            b"\x05\xff\x00\x00",
            b"\x00\x02\x04\xff\xff\x00\x00\x00",
        ),
        1,
    ):
        segment = TCP(sport=port, dport=80, flags="S", dataofs=5 + len(options) // 4) / Raw(options)
        packet = BY_VXLAN.ip() / segment
        case.forwards(OPEN, ether(packet), UPLINK, BY_VXLAN.out(hop(packet)))
