"""The world of the cases, as `manifests` and `manifests6` have it, and the headers that packets have in it."""

from hashlib import sha1

from scapy.config import conf
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from scapy.utils import checksum

# No host's routes and addresses are asked for what a header leaves open.
conf.route.routes, conf.route6.routes = [], []

UPLINK = "uplink0"
NODES = {
    "gw-a": "172.20.1.10",
    "a1": "172.20.1.11",
    "a2": "172.20.1.12",
    "b1": "172.20.2.11",
    "b2": "172.20.3.11",
    "gw-b": "172.20.3.10",
}
GATEWAY = NODES["gw-a"]
STRANGER = "172.20.1.99"
# The addresses of our tunnel devices, which errors into a tunnel come from.
VXLAN_ADDRESS, IPIP_ADDRESS = "10.65.10.1", "10.67.10.1"
VNI = 4096

OPEN, WEB, DB, JAIL = "shop/open", "shop/web", "shop/db", "shop/jail"
IPIP_POD, PLAIN = "shop/ipip", "shop/plain"
# Of our pods, and of others by the name that the manifests give them.
PODS = {
    OPEN: "10.65.10.8",
    WEB: "10.65.10.5",
    DB: "10.65.10.6",
    JAIL: "10.65.10.7",
    IPIP_POD: "10.67.10.5",
    PLAIN: "10.69.10.5",
    "a1open": "10.65.11.6",
    "a2": "10.65.12.5",
    "b1": "10.65.21.5",
    "b1other": "10.65.21.6",
    "b1ipip": "10.67.21.5",
    "b2": "10.65.31.5",
}
PODS6 = {OPEN: "fd00:65:0:10::6", WEB: "fd00:65:0:10::5", "behind": "fd00:65:0:11::5", "b": "fd00:65:0:21::5"}
NODES6 = {"gw-a": "fd00:20:1::10", "a1": "fd00:20:1::11", "b1": "fd00:20:2::11"}


def colons(octets):
    return ":".join(f"{octet:02x}" for octet in octets)


def mac(name):
    """What `margay replay` makes up for a node or a pod."""
    return colons(b"\x02" + sha1(name.encode()).digest()[:5])


def vtep(node):
    """What Felix makes up, where a Node says nothing else."""
    return "66:b1:b1:b1:b1:01" if node == "b1" else colons(b"\x66" + sha1(node.encode()).digest()[:5])


def ether(packet, dst="02:00:00:00:00:99", src="02:00:00:00:00:01"):
    """A frame on its way in, or out to `dst`."""
    kind = 0x86DD if isinstance(packet, IPv6) else 0x0800
    return Ether(dst=dst, src=src, type=kind) / packet


def to_pod(pod, packet):
    return ether(packet, mac(pod))


def to_node(node, packet):
    return ether(packet, mac(node))


def data(length=18):
    """Bytes to carry."""
    return Raw(bytes(byte & 0xFF for byte in range(length)))


def hop(packet, taken=1):
    """The packet so many hops on."""
    raw = bytearray(bytes(packet))
    if isinstance(packet, IPv6):
        raw[7] -= taken
        return IPv6(bytes(raw[:40])) / Raw(bytes(raw[40:]))
    raw[8] -= taken
    return refreshed(raw)


def refreshed(packet):
    """An IPv4 packet with its header's checksum right, whatever else is wrong. What follows is not looked at."""
    raw = bytearray(bytes(packet))
    header = (raw[0] & 15) * 4
    raw[10:12] = b"\0\0"
    raw[10:12] = checksum(bytes(raw[:header])).to_bytes(2, "big")
    return IP(bytes(raw[:header])) / Raw(bytes(raw[header:]))


def ecn(packet):
    return (packet.tc if isinstance(packet, IPv6) else packet.tos) & 3


def vxlan_out(packet, node="b1", **outer):
    """`packet` as it leaves for a node in VXLAN. (Source port and identification are free.)"""
    outer = {"ttl": 64, "flags": 0, "tos": ecn(packet), **outer}
    ip = IP(src=GATEWAY, dst=NODES[node], id=0, **outer)
    inner = ether(packet, vtep(node), vtep("gw-a"))
    return to_node(node, ip / UDP(sport=49152, dport=4789, chksum=0) / VXLAN(flags=8, vni=VNI) / inner)


def ipip_out(packet, node="b1", **outer):
    """`packet` as it leaves for a node in IP-in-IP."""
    outer = {"ttl": packet.ttl, "flags": packet.flags & 2, "tos": ecn(packet), **outer}
    return to_node(node, IP(src=GATEWAY, dst=NODES[node], id=0, proto=4, **outer) / packet)


def vxlan_in(packet, node="b1", src=None, vni=VNI, dst_mac=None, udp=None, bits=8, payload=None, **outer):
    """`packet`, or any `payload` of VXLAN, as a node sends it to us."""
    ip = IP(src=src or NODES.get(node), dst=GATEWAY, **outer)
    if payload is None:
        payload = ether(packet, dst_mac or vtep("gw-a"), vtep(node))
    return ether(ip / UDP(sport=50000, dport=4789, **(udp or {"chksum": 0})) / VXLAN(flags=bits, vni=vni) / payload)


def ipip_in(packet, node="b1", src=None, **outer):
    return ether(IP(src=src or NODES.get(node), dst=GATEWAY, **{"proto": 4, **outer}) / packet)


class Way:
    """How one of our pods and one elsewhere reach each other."""

    def __init__(self, name, here, there, node, out, into):
        self.name, self.here, self.there, self.node, self.out, self.into = name, here, there, node, out, into
        self.pod, self.peer = PODS[here], PODS[there]

    def ip(self, **fields):
        """From our pod."""
        return IP(src=self.pod, dst=self.peer, **fields)

    def back(self, **fields):
        """To our pod."""
        return IP(src=self.peer, dst=self.pod, **fields)


DIRECT = Way("direct", OPEN, "a2", "a2", lambda packet, **_: to_node("a2", packet), lambda packet, **_: ether(packet))
BY_VXLAN = Way("vxlan", OPEN, "b1", "b1", vxlan_out, vxlan_in)
BY_IPIP = Way("ipip", IPIP_POD, "b1ipip", "b1", ipip_out, ipip_in)
WAYS = [DIRECT, BY_VXLAN, BY_IPIP]
TUNNELS = [BY_VXLAN, BY_IPIP]


def error(packet, kind, code=0, src=GATEWAY, mtu=0, most=576):
    """The ICMP error of ours that answers `packet`, whose identification is free."""
    quote = bytes(packet)[: most - 28]
    header = ICMP(type=kind, code=code, **({"nexthopmtu": mtu} if mtu else {}))
    return IP(src=src, dst=packet.src, tos=0xC0, id=0, ttl=64) / header / Raw(quote)
