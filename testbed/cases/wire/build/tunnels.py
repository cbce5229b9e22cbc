"""What tunnels do: ECN and DSCP, TTL and DF of outer headers; and what is wrong in or about a tunnel packet."""

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from case import Case
from world import (
    BY_IPIP,
    BY_VXLAN,
    GATEWAY,
    IPIP_POD,
    NODES,
    OPEN,
    STRANGER,
    TUNNELS,
    UPLINK,
    VNI,
    data,
    ether,
    hop,
    ipip_in,
    refreshed,
    to_pod,
    vtep,
    vxlan_in,
    vxlan_out,
)

NOT_ECT, ECT1, ECT0, CE = range(4)
# RFC 6040 4.2, figure 4: the field that leaves, by the inner and the outer one. None: dropped.
DECAPSULATED = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT0: NOT_ECT, ECT1: NOT_ECT, CE: None},
    ECT0: {NOT_ECT: ECT0, ECT0: ECT0, ECT1: ECT1, CE: CE},
    ECT1: {NOT_ECT: ECT1, ECT0: ECT1, ECT1: ECT1, CE: CE},
    CE: {NOT_ECT: CE, ECT0: CE, ECT1: CE, CE: CE},
}
DSCP = 46 << 2


def define():
    congestion()
    outer_headers()
    vxlan_headers()
    vxlan_payloads()
    vxlan_lengths()
    ip_in_ip()
    nested()


def udp(ip):
    return ip / UDP(sport=1, dport=2) / data()


def congestion():
    for way in TUNNELS:
        case = Case(
            f"ecn_out_of_{way.name}",
            "Inner and outer ECN fields become one by RFC 6040 4.2, figure 4, and the DSCP stays.",
        )
        for inner, row in DECAPSULATED.items():
            for outer, left in row.items():
                packet = udp(way.back(tos=DSCP | inner))
                frame = way.into(packet, tos=outer)
                if left is None:
                    case.drops(UPLINK, frame, "ecn-not-capable")
                else:
                    case.forwards(UPLINK, frame, way.here, to_pod(way.here, hop(udp(way.back(tos=DSCP | left)))))
        case = Case(
            f"ecn_into_{way.name}", "The outer ECN field is the inner one, and the outer DSCP 0 (RFC 6040 4.1)."
        )
        for tos in (NOT_ECT, ECT1, ECT0, CE):
            packet = udp(way.ip(tos=DSCP | tos))
            case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet), tos=tos))


def outer_headers():
    for name, sentence, config, outer in [
        (
            "outer_ipip_copies_dscp",
            "IP-in-IP copies the DSCP where that is configured.",
            'dscp = "copy"',
            lambda packet: {"tos": packet.tos},
        ),
        (
            "outer_ipip_fixed",
            "IP-in-IP has the DSCP and TTL that are configured.",
            "dscp = 10\nttl = 7",
            lambda packet: {"tos": 10 << 2 | packet.tos & 3, "ttl": 7},
        ),
        (
            "outer_ipip_without_df",
            "IP-in-IP has DF clear where that is configured.",
            "df = false",
            lambda packet: {"flags": 0},
        ),
        (
            "outer_ipip_with_df",
            "IP-in-IP has DF where that is configured.",
            "df = true",
            lambda packet: {"flags": "DF"},
        ),
        ("outer_vxlan_ttl_fixed", "VXLAN has the TTL that is configured.", "ttl = 255", lambda packet: {"ttl": 255}),
        (
            "outer_vxlan_ttl_inherited",
            "VXLAN has the TTL with which the inner packet leaves where that is configured.",
            'ttl = "inherit"',
            lambda packet: {"ttl": packet.ttl},
        ),
        (
            "outer_vxlan_copies_df",
            "VXLAN copies DF where that is configured.",
            'df = "copy"',
            lambda packet: {"flags": packet.flags},
        ),
        (
            "outer_vxlan_copies_dscp",
            "VXLAN copies the DSCP where that is configured.",
            'dscp = "copy"',
            lambda packet: {"tos": packet.tos},
        ),
    ]:
        way = BY_IPIP if "ipip" in name else BY_VXLAN
        case = Case(name, sentence, config=f"[tunnel.{way.name}]\n{config}")
        for fields in ({}, {"tos": DSCP | ECT0, "ttl": 2, "flags": "DF"}, {"tos": 1, "ttl": 255}):
            packet = udp(way.ip(**fields))
            case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet), **outer(hop(packet))))
    case = Case(
        "vxlan_numbers_as_configured",
        "VNI and UDP port are those of the configuration, both ways; the others are not ours.",
        config="[tunnel]\nvni = 77\nvxlan_port = 8472",
    )
    packet = udp(BY_VXLAN.ip())
    frame = vxlan_out(hop(packet))
    frame[UDP].dport, frame[VXLAN].vni = 8472, 77
    case.forwards(OPEN, ether(packet), UPLINK, frame)
    back = udp(BY_VXLAN.back())
    frame = vxlan_in(back, vni=77)
    frame[UDP].dport = 8472
    case.forwards(UPLINK, frame, OPEN, to_pod(OPEN, hop(back)))
    frame = vxlan_in(back)
    frame[UDP].dport = 8472
    case.drops(UPLINK, frame, "wrong-vni")
    case.passes(UPLINK, vxlan_in(back, vni=77))


def vxlan_headers():
    packet = udp(BY_VXLAN.back())
    case = Case(
        "vxlan_flags",
        "Without the I flag a packet names no network; all other bits are reserved and ignored (RFC 7348 5).",
    )
    for bits in (0x00, 0xF7):
        case.drops(UPLINK, vxlan_in(packet, bits=bits), "bad-vxlan-header")
    for bits in (0x08, 0x88, 0xFF, 0x0C):
        frame = bytearray(bytes(vxlan_in(packet)))
        frame[42], frame[43:46], frame[49] = bits, b"\xff\xff\xff", 0xFF
        case.forwards(UPLINK, Raw(bytes(frame)), OPEN, to_pod(OPEN, hop(packet)))
    case = Case("vxlan_networks", "VNI 4096 is ours, and none beside it (RFC 7348 4.1).")
    for vni in (0, 1, VNI - 1, VNI + 1, 0xFFFFFF):
        case.drops(UPLINK, vxlan_in(packet, vni=vni), "wrong-vni")
    case.forwards(UPLINK, vxlan_in(packet, vni=VNI), OPEN, to_pod(OPEN, hop(packet)))
    case = Case(
        "vxlan_inner_macs",
        "The inner frame is for our VTEP's MAC or for everyone; another node's and groups' are not ours.",
    )
    for mac in (vtep("b1"), "02:00:00:00:00:01", "01:00:5e:00:00:09", "33:33:00:00:00:01", "00:00:00:00:00:00"):
        case.drops(UPLINK, vxlan_in(packet, dst_mac=mac), "inner-wrong-mac")
    for mac in (vtep("gw-a"), "ff:ff:ff:ff:ff:ff"):
        case.forwards(UPLINK, vxlan_in(packet, dst_mac=mac), OPEN, to_pod(OPEN, hop(packet)))
    case = Case("vxlan_senders", "Tunnel packets are taken from nodes alone, by any way (Calico: known hosts only).")
    for src in (STRANGER, "10.65.21.5", "8.8.8.8", "127.0.0.1", "0.0.0.0", "224.0.0.1"):
        case.drops(UPLINK, vxlan_in(packet, src=src), "unknown-tunnel-source")
        case.drops(UPLINK, ipip_in(udp(BY_IPIP.back()), src=src), "unknown-tunnel-source")
    case.forwards(UPLINK, vxlan_in(packet), OPEN, to_pod(OPEN, hop(packet)))
    case = Case("vxlan_to_another_address", "VXLAN to a pod is not for our tunnel end: it is forwarded as what it is.")
    frame = IP(src="10.65.11.6", dst=BY_VXLAN.pod) / UDP(sport=50000, dport=4789, chksum=0) / Raw(b"\x08" + bytes(40))
    case.forwards(UPLINK, ether(frame), OPEN, to_pod(OPEN, hop(frame)))


def vxlan_payloads():
    macs = {"dst": vtep("gw-a"), "src": vtep("b1")}
    inner = bytes(udp(BY_VXLAN.back()))
    case = Case("vxlan_other_ethertypes", "What is no IP in a VXLAN packet is dropped, and why is said.")
    for payload, reason in [
        (Ether(**macs) / ARP(hwsrc=vtep("b1"), psrc="10.65.21.1", pdst="10.65.10.1"), "inner-arp"),
        (
            Ether(**{**macs, "dst": "ff:ff:ff:ff:ff:ff"}) / ARP(hwsrc=vtep("b1"), psrc="10.65.21.1", pdst="10.65.10.1"),
            "inner-arp",
        ),
        (Ether(**macs) / Dot1Q(vlan=5, type=0x0800) / Raw(inner), "inner-vlan"),
        (Ether(type=0x88A8, **macs) / Raw(b"\x00\x05\x08\x00" + inner), "inner-vlan"),
        (Ether(type=0x8847, **macs) / Raw(inner), "inner-not-ip"),
        (Ether(type=0x88CC, **macs) / Raw(inner), "inner-not-ip"),
        (Ether(type=46, **macs) / Raw(inner), "inner-not-ip"),
        (Ether(type=0x86DD, **macs) / Raw(inner), "bad-version"),
        (Ether(type=0x0800, **macs) / IPv6(src="fd00::1", dst="fd00::2") / data(), "bad-version"),
    ]:
        case.drops(UPLINK, vxlan_in(None, payload=payload), reason)
    case = Case("vxlan_malformed_inner_packets", "The inner packet is held to what any packet is.")
    good = udp(BY_VXLAN.back(id=3))
    for at, value, reason in [
        (0, 0x44, "bad-header-length"),
        (0, 0x40, "bad-header-length"),
        (0, 0x4F, "bad-header-length"),
        (0, 0x55, "bad-version"),
        (0, 0x05, "bad-version"),
        (3, 19, "bad-total-length"),
        (3, 47, "bad-total-length"),
        (2, 1, "bad-total-length"),
        (25, 7, "truncated-transport"),
    ]:
        raw = bytearray(bytes(good))
        raw[at] = value
        case.drops(UPLINK, vxlan_in(changed(raw)), reason)
    wrong = bytearray(bytes(good))
    wrong[11] ^= 1
    case.drops(UPLINK, vxlan_in(Raw(bytes(wrong))), "bad-header-checksum")


def changed(raw):
    """The packet with its header's checksum right, as far as it has a header."""
    return refreshed(raw) if raw[0] & 15 >= 5 and (raw[0] & 15) * 4 <= len(raw) else Raw(bytes(raw))


def vxlan_lengths():
    packet = udp(BY_VXLAN.back())
    case = Case(
        "vxlan_udp_lengths",
        "The tunnel's payload ends where UDP says, which may be before the packet does and never after.",
    )
    whole = bytes(vxlan_in(packet))
    length = len(whole) - 34
    for change, reason in ((1, "bad-vxlan-header"), (-9, "bad-total-length")):
        case.drops(UPLINK, with_udp_length(whole, length + change), reason)
    for short, reason in (
        (0, "bad-vxlan-header"),
        (7, "bad-vxlan-header"),
        (8, "bad-vxlan-header"),
        (15, "bad-vxlan-header"),
        (16, "bad-vxlan-header"),
        (29, "bad-vxlan-header"),
        (30, "bad-header-length"),
    ):
        case.drops(UPLINK, with_udp_length(whole, short), reason)
    case.forwards(UPLINK, with_udp_length(whole, length), OPEN, to_pod(OPEN, hop(packet)))
    case = Case("vxlan_padding", "Bytes behind the inner packet, the datagram or the frame's packet do not leave.")
    padded = ether(Raw(bytes(packet) + b"\xee" * 9), vtep("gw-a"), vtep("b1"))
    case.forwards(UPLINK, vxlan_in(None, payload=padded), OPEN, to_pod(OPEN, hop(packet)))
    outer = IP(src=NODES["b1"], dst=GATEWAY) / Raw(whole[34:] + b"\xee" * 5)
    outer.proto = 17
    case.forwards(UPLINK, ether(outer), OPEN, to_pod(OPEN, hop(packet)))
    case.forwards(UPLINK, Raw(whole + b"\xee" * 7), OPEN, to_pod(OPEN, hop(packet)))


def with_udp_length(frame, length):
    return Raw(frame[:38] + length.to_bytes(2, "big") + frame[40:])


def ip_in_ip():
    case = Case("ipip_payloads", "What IP-in-IP carries is IPv4, held to what any packet is.")
    good = bytes(udp(BY_IPIP.back(id=3)))
    for payload, reason in [
        (b"", "bad-header-length"),
        (b"\x45" * 19, "bad-header-length"),
        (bytes(40), "bad-version"),
        (b"\xff" * 60, "bad-version"),
        (bytes(IPv6(src="fd00::1", dst="fd00::2") / data()), "bad-version"),
        (good[:-1], "bad-total-length"),
        (b"\x44" + good[1:], "bad-header-length"),
        (good[:10] + b"\xba\xad" + good[12:], "bad-header-checksum"),
    ]:
        case.drops(UPLINK, ipip_in(Raw(payload)), reason)
    packet = udp(BY_IPIP.back(id=3))
    case.forwards(UPLINK, ipip_in(packet), IPIP_POD, to_pod(IPIP_POD, hop(packet)))
    case = Case("ipip_padding", "Bytes behind the inner packet do not leave.")
    case.forwards(UPLINK, ipip_in(Raw(good + b"\xee" * 9)), IPIP_POD, to_pod(IPIP_POD, hop(packet)))
    case.forwards(UPLINK, Raw(bytes(ipip_in(packet)) + b"\xee" * 9), IPIP_POD, to_pod(IPIP_POD, hop(packet)))
    case = Case(
        "ipip_df_and_the_outer_ttl", "What comes out of a tunnel has the inner TTL and DF, whatever the outer ones are."
    )
    for outer in ({"ttl": 1}, {"ttl": 255, "flags": "DF"}):
        for way in TUNNELS:
            packet = udp(way.back(ttl=9))
            case.forwards(UPLINK, way.into(packet, **outer), way.here, to_pod(way.here, hop(packet)))


def nested():
    case = Case("tunnels_nested", "No tunnel packet is taken out of a tunnel packet, whichever kinds they are.")
    inner = udp(BY_VXLAN.back())
    vxlan, ipip = (IP(bytes(frame)[14:]) for frame in (vxlan_in(inner), ipip_in(inner)))
    for way in TUNNELS:
        for packet in (vxlan, ipip):
            case.drops(UPLINK, way.into(Raw(bytes(packet)) if way is BY_IPIP else packet), "nested-tunnel")
    case = Case("tunnels_in_fragments", "A tunnel packet in fragments is not put together.")
    whole = IP(bytes(vxlan_in(inner))[14:])
    whole.flags, whole.chksum = "MF", None
    case.drops(UPLINK, ether(IP(bytes(whole)[:20]) / Raw(bytes(whole)[20 : 20 + 64])), "bad-total-length")
    first = IP(src=NODES["b1"], dst=GATEWAY, proto=17, id=4, flags="MF") / Raw(bytes(whole)[20:84])
    case.drops(UPLINK, ether(first), "tunnel-fragment")
    for fields in ({"flags": "MF"}, {"frag": 8}):
        case.drops(UPLINK, ipip_in(Raw(bytes(inner)[:40]), id=4, **fields), "tunnel-fragment")
    # No port says that this belongs to a tunnel: it is the node's, as everything else that is for it.
    case.passes(UPLINK, ether(IP(src=NODES["b1"], dst=GATEWAY, proto=17, id=4, frag=8) / data(16)))
    case = Case(
        "tunnels_carry_answers_out",
        "What a pod answers to a packet out of a tunnel leaves by its own route, TCP's handshake too.",
    )
    for way in TUNNELS:
        for ip, flags, ports in (
            (way.back(), "S", (9, 80)),
            (way.ip(), "SA", (80, 9)),
            (way.back(), "A", (9, 80)),
            (way.ip(), "FA", (80, 9)),
        ):
            packet = ip / TCP(sport=ports[0], dport=ports[1], flags=flags)
            if ip.src == way.pod:
                case.forwards(way.here, ether(packet), UPLINK, way.out(hop(packet)))
            else:
                case.forwards(UPLINK, way.into(packet), way.here, to_pod(way.here, hop(packet)))
