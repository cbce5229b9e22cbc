"""Sources and destinations that no packet has, and who may send from where."""

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from case import Case
from world import (
    BY_VXLAN,
    GATEWAY,
    IPIP_ADDRESS,
    NODES,
    NODES6,
    OPEN,
    PODS,
    PODS6,
    UPLINK,
    VXLAN_ADDRESS,
    WEB,
    ether,
    hop,
    ipip_in,
    to_node,
    to_pod,
    vxlan_in,
)

MARTIANS = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.254",
    "255.255.255.255",
]
OWN = [GATEWAY, VXLAN_ADDRESS, IPIP_ADDRESS]
MARTIANS6 = ["::", "::1", "ff02::1", "ff0e::1", "fe80::1", "::ffff:10.65.21.5", "::ffff:127.0.0.1"]


def packet(src, dst):
    return (IPv6 if ":" in dst else IP)(src=src, dst=dst) / UDP(sport=1, dport=2)


def define():
    martians()
    pods()
    ipv6()
    inner()


def martians():
    for name, into in (("direct", ether), ("vxlan", vxlan_in), ("ipip", ipip_in)):
        case = Case(
            f"martian_sources_{name}",
            "This network, loopback, link-local, multicast, reserved and broadcast addresses send nothing,"
            " nor do our own (RFC 1812 5.3.7).",
        )
        for src in MARTIANS + OWN:
            case.drops(UPLINK, into(packet(src, PODS[OPEN])), "martian-source")
        for pod in (WEB, OPEN):
            case.drops(UPLINK, into(packet(PODS[pod], PODS[OPEN])), "source-spoofed")
    case = Case(
        "martian_destinations",
        "To this network, loopback and reserved addresses nothing is forwarded, nor to groups (RFC 1812 5.3.7).",
    )
    for dst in MARTIANS:
        first = int(dst.split(".")[0])
        if dst == "255.255.255.255":
            # DHCP and all else for everyone on the link is the kernel's.
            case.passes(OPEN, ether(packet(PODS[OPEN], dst)))
        elif first == 169:
            # Clouds answer there: it is forwarded where a route leads there.
            case.drops(OPEN, ether(packet(PODS[OPEN], dst)), "no-route")
        else:
            reason = "multicast" if 224 <= first < 240 else "martian-destination"
            case.drops(OPEN, ether(packet(PODS[OPEN], dst)), reason)


def pods():
    case = Case("spoofed_sources_of_pods", "A pod sends from its own address alone, whatever else it would be.")
    for src in (PODS[WEB], PODS["b1"], GATEWAY, NODES["b1"], VXLAN_ADDRESS, "192.0.2.1", *MARTIANS):
        case.drops(OPEN, ether(packet(src, PODS["b1"])), "source-spoofed")
    case = Case("spoofed_sources_of_a_live_flow", "A packet of a flow that goes on is forged where its pod is not.")
    query = packet(PODS[OPEN], PODS["b1"])
    case.forwards(OPEN, ether(query), UPLINK, BY_VXLAN.out(hop(query)))
    case.drops(WEB, ether(query), "source-spoofed")
    case.drops(UPLINK, ether(query), "source-spoofed")
    case = Case(
        "tunnel_packets_of_pods_as_configured",
        "A pod may send tunnel packets to other nodes where the configuration lets it.",
        config="[tunnel]\nfrom_pods = true",
    )
    inner = bytes(ether(packet(PODS["b1"], PODS[OPEN])))
    for payload, fields in (
        (UDP(sport=9, dport=4789, chksum=0) / VXLAN(flags=8, vni=4096) / Raw(inner), {}),
        (Raw(inner[14:]), {"proto": 4}),
    ):
        outer = IP(src=PODS[OPEN], dst=NODES["b1"], **fields) / payload
        case.forwards(OPEN, ether(outer), UPLINK, to_node("b1", hop(outer)))


def ipv6():
    case = Case(
        "ipv6_martian_sources",
        "Loopback, none, groups, link-local and IPv4-mapped addresses send nothing, nor do our own (RFC 4291).",
        manifests="manifests6",
    )
    for src in [*MARTIANS6, NODES6["gw-a"]]:
        case.drops(UPLINK, ether(packet(src, PODS6[OPEN])), "martian-source")
        case.drops(OPEN, ether(packet(src, PODS6["b"])), "source-spoofed")
    for pod in (WEB, OPEN):
        case.drops(UPLINK, ether(packet(PODS6[pod], PODS6[OPEN])), "source-spoofed")
    case = Case(
        "ipv6_martian_destinations",
        "Nothing is forwarded to loopback, none and IPv4-mapped addresses; groups and the link are the kernel's.",
        manifests="manifests6",
    )
    for dst in ("::", "::1", "::ffff:10.65.21.5"):
        case.drops(OPEN, ether(packet(PODS6[OPEN], dst)), "martian-destination")
    for dst in ("ff02::1", "ff0e::1", "fe80::1"):
        case.passes(OPEN, ether(packet(PODS6[OPEN], dst)))


def inner():
    here = PODS[OPEN]
    case = Case(
        "inner_source_strict",
        "A node sends for its pods, itself, its tunnel devices and the nodes behind it, and for nothing else.",
    )
    for node, src in (
        ("b1", PODS["b1"]),
        ("b1", NODES["b1"]),
        ("b1", "10.65.21.1"),
        ("b1", "10.67.21.1"),
        ("b2", PODS["b2"]),
        ("gw-b", PODS["b2"]),
    ):
        inside = packet(src, here)
        case.forwards(UPLINK, vxlan_in(inside, node), OPEN, to_pod(OPEN, hop(inside)))
    for node, src in (
        ("b1", PODS["b2"]),
        ("b2", PODS["b1"]),
        ("b1", NODES["b2"]),
        ("b1", "192.0.2.1"),
        ("b1", "10.65.30.1"),
    ):
        case.drops(UPLINK, vxlan_in(packet(src, here), node), "inner-source")
    for setting, others in (("loose", False), ("off", True)):
        what = "of any node and pod" if setting == "loose" else "but martians"
        case = Case(
            f"inner_source_{setting}",
            f"Where that is configured a node may send from any address {what}.",
            config=f'[tunnel]\ninner_source = "{setting}"',
        )
        for src in (PODS["b1"], PODS["b2"], NODES["b2"]):
            inside = packet(src, here)
            case.forwards(UPLINK, vxlan_in(inside), OPEN, to_pod(OPEN, hop(inside)))
        foreign = packet("192.0.2.1", here)
        if others:
            case.forwards(UPLINK, vxlan_in(foreign), OPEN, to_pod(OPEN, hop(foreign)))
        else:
            case.drops(UPLINK, vxlan_in(foreign), "inner-source")
        case.drops(UPLINK, vxlan_in(packet("127.0.0.1", here)), "martian-source")
        case.drops(UPLINK, vxlan_in(packet(GATEWAY, here)), "martian-source")
        case.drops(UPLINK, vxlan_in(packet(PODS[WEB], here)), "source-spoofed")
