"""What policy and routes say of packets: the pods db and jail of the manifests, and destinations without a way."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.sctp import SCTP, SCTPChunkHeartbeatReq

from case import Case
from world import (
    DB,
    GATEWAY,
    JAIL,
    OPEN,
    PODS,
    UPLINK,
    VXLAN_ADDRESS,
    WEB,
    data,
    error,
    ether,
    hop,
    to_node,
    to_pod,
    vxlan_in,
    vxlan_out,
)

UNREACHABLE, NET, HOST = 3, 0, 1


def between(src, dst, payload):
    return IP(src=PODS[src], dst=PODS[dst]) / payload


def define():
    ingress()
    egress()
    routes()


def ingress():
    case = Case(
        "policy_ingress",
        "db takes TCP 5432 from web and from far's reports, UDP 9000 to 9010 and SCTP 7000, and nothing else.",
    )
    for src, port, payload in [
        (WEB, WEB, TCP(sport=1, dport=5432, flags="S")),
        ("b1", UPLINK, TCP(sport=1, dport=5432, flags="S")),
        ("b1", UPLINK, UDP(sport=1, dport=9000)),
        ("b1", UPLINK, UDP(sport=1, dport=9010)),
        ("b1", UPLINK, SCTP(sport=1, dport=7000) / SCTPChunkHeartbeatReq()),
    ]:
        packet = between(src, DB, payload)
        case.forwards(port, framed(src, packet), DB, to_pod(DB, hop(packet)))
    for src, port, payload in [
        (WEB, WEB, TCP(sport=1, dport=5433, flags="S")),
        (WEB, WEB, UDP(sport=1, dport=9000)),
        (OPEN, OPEN, TCP(sport=1, dport=5432, flags="S")),
        ("b1other", UPLINK, TCP(sport=1, dport=5432, flags="S")),
        ("b1", UPLINK, UDP(sport=1, dport=8999)),
        ("b1", UPLINK, UDP(sport=1, dport=9011)),
        ("b1", UPLINK, SCTP(sport=1, dport=7001) / SCTPChunkHeartbeatReq()),
        ("b1", UPLINK, ICMP(type=8, id=1)),
    ]:
        case.drops(port, framed(src, between(src, DB, payload)), "policy-deny")
    case = Case(
        "policy_answers", "An answer passes with the connection that it answers, and before its packet nothing does."
    )
    query, answer = between(WEB, "b1", UDP(sport=4000, dport=53)), between("b1", WEB, UDP(sport=53, dport=4000))
    case.drops(UPLINK, vxlan_in(answer), "policy-deny")
    case.forwards(WEB, ether(query), UPLINK, vxlan_out(hop(query)))
    case.forwards(UPLINK, vxlan_in(answer), WEB, to_pod(WEB, hop(answer)))
    case.drops(UPLINK, vxlan_in(between("b1", WEB, UDP(sport=53, dport=4001))), "policy-deny")
    # UDP is forgotten after a minute of silence.
    case.after(62)
    case.drops(UPLINK, vxlan_in(answer), "policy-deny")


def framed(src, packet):
    return ether(packet) if "/" in src else vxlan_in(packet)


def egress():
    case = Case("policy_egress", "jail may ask open by UDP 53 and nobody else for anything; nobody may ask jail.")
    packet = between(JAIL, OPEN, UDP(sport=1, dport=53))
    case.forwards(JAIL, ether(packet), OPEN, to_pod(OPEN, hop(packet)))
    answer = between(OPEN, JAIL, UDP(sport=53, dport=1))
    case.forwards(OPEN, ether(answer), JAIL, to_pod(JAIL, hop(answer)))
    for dst, payload in (
        (OPEN, UDP(sport=1, dport=54)),
        (OPEN, TCP(sport=1, dport=53, flags="S")),
        ("b1", UDP(sport=1, dport=53)),
        (OPEN, ICMP(type=8, id=1)),
    ):
        case.drops(JAIL, ether(between(JAIL, dst, payload)), "policy-deny")
    case.drops(OPEN, ether(between(OPEN, JAIL, UDP(sport=1, dport=53))), "policy-deny")
    case.drops(UPLINK, vxlan_in(between("b1", JAIL, TCP(sport=1, dport=80, flags="S"))), "policy-deny")


def routes():
    nowhere = IP(src=PODS[OPEN], dst="198.51.100.1") / UDP(sport=1, dport=2)
    nobody = IP(src=PODS[OPEN], dst="10.65.10.60") / UDP(sport=1, dport=2)
    from_afar = IP(src=PODS["b1"], dst="10.65.10.60") / UDP(sport=1, dport=2)
    case = Case(
        "routes_none", "What has no route, or is for an address of our blocks that no pod has, ends here unanswered."
    )
    case.drops(OPEN, ether(nowhere), "no-route")
    case.drops(OPEN, ether(nobody), "blackhole")
    case.drops(UPLINK, vxlan_in(from_afar), "blackhole")
    case = Case(
        "routes_none_answered",
        "Where the configuration says so the sender is told: net and host unreachable, into tunnels too.",
        config="[icmp]\nunreachable = true",
    )
    case.drops(OPEN, ether(nowhere), "no-route", (OPEN, to_pod(OPEN, error(nowhere, UNREACHABLE, NET))))
    case.drops(OPEN, ether(nobody), "blackhole", (OPEN, to_pod(OPEN, error(nobody, UNREACHABLE, HOST))))
    answer = vxlan_out(error(from_afar, UNREACHABLE, HOST, src=VXLAN_ADDRESS), tos=0)
    case.drops(UPLINK, vxlan_in(from_afar), "blackhole", (UPLINK, answer))
    case = Case(
        "routes_to_the_node",
        "A pod's packets to its own node are the kernel's, unless the configuration forbids them.",
        config='[policy]\nendpoint_to_host = "drop"',
    )
    for payload in (UDP(sport=1, dport=53), TCP(sport=1, dport=10250, flags="S"), ICMP(type=8, id=1)):
        case.drops(OPEN, ether(IP(src=PODS[OPEN], dst=GATEWAY) / payload), "endpoint-to-host")
    case = Case(
        "routes_to_pods_behind_us",
        "What comes out of a tunnel for a pod behind this gateway goes on to its node in no tunnel, and back.",
    )
    packet = between("b1", "a1open", UDP(sport=1, dport=2) / data())
    case.forwards(UPLINK, vxlan_in(packet), UPLINK, to_node("a1", hop(packet)))
    back = between("a1open", "b1", UDP(sport=2, dport=1) / data())
    case.forwards(UPLINK, ether(back), UPLINK, vxlan_out(hop(back)))
