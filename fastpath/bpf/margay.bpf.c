// SPDX-License-Identifier: Apache-2.0
//
// The XDP program of every port: decides by destination whether a packet is Margay's, and hands those that are to the
// AF_XDP socket of their queue. It reads and never writes the packet. src/steer.rs says the same in Rust, and a test
// holds the two together. Two programs of traffic control beside it note who began what a node and its pods exchange.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "began.h"
#include "port.h"

// Shared with src/xdp/program.rs: number for number, field for field.
enum destination { ELSEWHERE = 0, OWNED = 1, LOCAL = 2, TUNNEL_END = 3 };

// What follows the type of an Ethernet header that says 802.1Q: priority and VLAN, and the type of what is inside.
struct tag {
	__be16 control;
	__be16 type;
};

struct prefix4 {
	__u32 length;
	__be32 address;
};

struct prefix6 {
	__u32 length;
	struct in6_addr address;
};

// One entry: the program that tells what is several in one (gso.bpf.c), or none.
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} margay_next SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct prefix4);
	__type(value, __u32);
} margay_lpm4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct prefix6);
	__type(value, __u32);
} margay_lpm6 SEC(".maps");

// One entry: the VXLAN port, in host order. A map and not a constant, for it follows the cluster's configuration.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} margay_vxlan SEC(".maps");

static __always_inline bool to_vxlan_port(const void *l4, const void *end)
{
	const struct udphdr *udp = l4;
	__u32 zero = 0;
	const __u32 *port = bpf_map_lookup_elem(&margay_vxlan, &zero);

	return port && (const void *)(udp + 1) <= end && bpf_ntohs(udp->dest) == *port;
}

static __always_inline bool is_tunnel4(const struct iphdr *ip, const void *end)
{
	if (ip->protocol == IPPROTO_IPIP)
		return true;
	// A later fragment has no ports: the kernel reassembles, or lets it be.
	if (ip->protocol != IPPROTO_UDP || ip->ihl < 5 || ip->frag_off & bpf_htons(0x1fff))
		return false;
	return to_vxlan_port((const void *)ip + ip->ihl * 4, end);
}

// As many extension headers as a worker reads: it drops what has more.
#define MOST_EXTENSIONS 8

struct extension {
	__u8 next;
	__u8 length;
	__be16 offset;
	__be32 unused;
};

// The kernel finds the ports behind extension headers, and those of a fragmented packet in its first fragment.
static __always_inline bool is_tunnel6(const struct ipv6hdr *ip, const void *end)
{
	__u8 next = ip->nexthdr;
	__u32 at = sizeof(*ip);

	for (int i = 0; i <= MOST_EXTENSIONS; i++) {
		const struct extension *header = (const void *)ip + at;

		if (next == IPPROTO_UDP)
			return to_vxlan_port(header, end);
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_FRAGMENT &&
		    next != IPPROTO_DSTOPTS && next != IPPROTO_AH)
			return false;
		// What is cut off here may go on in another buffer.
		if ((const void *)(header + 1) > end)
			return true;
		if (next == IPPROTO_FRAGMENT && header->offset & bpf_htons(0xfff8))
			return false;
		if (next == IPPROTO_FRAGMENT)
			at += sizeof(*header);
		else if (next == IPPROTO_AH)
			at += (header->length + 2) * 4;
		else
			at += (header->length + 1) * 8;
		next = header->next;
	}
	return true;
}

// What becomes of a packet to `destination`; `others` holds for addresses that are neither Margay's nor the node's.
static __always_inline bool takes(__u32 kind, __u32 destination, bool is_tunnel, bool others)
{
	switch (destination) {
	case OWNED:
		return true;
	case LOCAL:
		// A pod's tunnel packets never reach a tunnel device of the kernel's: policy would not see what is in them.
		return kind == POD && is_tunnel;
	case TUNNEL_END:
		return is_tunnel;
	default:
		return others;
	}
}

static __always_inline bool takes4(__u32 kind, const struct iphdr *ip, const void *end)
{
	if ((const void *)(ip + 1) > end)
		return kind == POD;

	struct prefix4 key = { .length = 32, .address = ip->daddr };
	const __u32 *found = bpf_map_lookup_elem(&margay_lpm4, &key);
	bool others = kind == POD && ip->daddr != bpf_htonl(INADDR_BROADCAST);

	return takes(kind, found ? *found : ELSEWHERE, is_tunnel4(ip, end), others);
}

static __always_inline bool takes6(__u32 kind, const struct ipv6hdr *ip, const void *end)
{
	if ((const void *)(ip + 1) > end)
		return kind == POD;

	struct prefix6 key = { .length = 128, .address = ip->daddr };
	const __u32 *found = bpf_map_lookup_elem(&margay_lpm6, &key);
	const __u8 *to = ip->daddr.in6_u.u6_addr8;
	bool of_the_link = to[0] == 0xff || (to[0] == 0xfe && (to[1] & 0xc0) == 0x80);

	return takes(kind, found ? *found : ELSEWHERE, is_tunnel6(ip, end), kind == POD && !of_the_link);
}

static __always_inline bool is_for(const struct port *port, const struct ethhdr *eth)
{
	for (int i = 0; i < ETH_ALEN; i++)
		if (eth->h_dest[i] != port->mac[i])
			return false;
	return true;
}

static __always_inline bool is_tagged(const struct ethhdr *eth)
{
	return eth->h_proto == bpf_htons(ETH_P_8021Q) || eth->h_proto == bpf_htons(ETH_P_8021AD);
}

// Whether the frame has one tag, of this VLAN whatever its priority.
static __always_inline bool is_of(__u16 vlan, const struct ethhdr *eth, const void *end)
{
	const struct tag *tag = (const void *)(eth + 1);

	return eth->h_proto == bpf_htons(ETH_P_8021Q) && (const void *)(tag + 1) <= end &&
	       (bpf_ntohs(tag->control) & 0xfff) == vlan;
}

// Whether the kernel may not have the IP packet of a policed pod that is for the node, or for everyone on the link.
static __always_inline bool polices(const struct ethhdr *eth, const void *end)
{
	struct exchange exchange;
	enum part part;

	if (eth->h_proto == bpf_htons(ETH_P_IP))
		part = read4(&exchange, (const void *)(eth + 1), end, true);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		part = read6(&exchange, (const void *)(eth + 1), end, true);
	else
		return false;
	return !is_of_node(part, &exchange);
}

// Of a packet in several buffers the first has the headers, and `end` is its end. What is cut off there is taken as what
// is cut off at the packet's end: of a pod to Margay, of an uplink to the kernel.
SEC("xdp.frags")
int margay(struct xdp_md *ctx)
{
	const void *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *eth = (const void *)(long)ctx->data;
	const void *packet = (const void *)(eth + 1);
	__u32 ifindex = ctx->ingress_ifindex;
	const struct port *port = bpf_map_lookup_elem(&margay_ports, &ifindex);
	__be16 type;
	bool mine;

	if (!port || (const void *)(eth + 1) > end)
		return XDP_PASS;
	// Nobody has an address at the kernel's end: what it sends is noise.
	if (port->kind == HOST)
		return XDP_DROP;
	// What another station of an uplink gets, or all of them, is not ours to forward (RFC 1812 section 5.3.4). What a
	// pod sends goes no way round us, whatever the address: the worker drops what was for many.
	if (port->kind != POD && !is_for(port, eth))
		return XDP_PASS;
	type = eth->h_proto;
	if (port->vlan) {
		if (!is_of(port->vlan, eth, end))
			return XDP_PASS;
		type = ((const struct tag *)packet)->type;
		packet += sizeof(struct tag);
	}
	if (type == bpf_htons(ETH_P_IP))
		mine = takes4(port->kind, packet, end);
	else if (type == bpf_htons(ETH_P_IPV6))
		mine = takes6(port->kind, packet, end);
	else
		// The kernel would take a pod's packet behind a priority tag (VLAN 0) for an untagged one.
		mine = port->kind == POD && is_tagged(eth);

	if (!mine && port->is_policed)
		mine = polices(eth, end);
	if (!mine)
		return XDP_PASS;
	if (ctx->rx_queue_index >= port->queues)
		return port->on_failure;
	// It comes back only where there is none.
	if (port->tells_gso)
		bpf_tail_call(ctx, &margay_next, 0);
	return bpf_redirect_map(&margay_xsks, port->first + ctx->rx_queue_index, port->on_failure);
}

// In the place of the program above where nothing is to be measured but this I/O: every frame is the socket's.
SEC("xdp.frags")
int margay_all(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	const struct port *port = bpf_map_lookup_elem(&margay_ports, &ifindex);

	if (!port)
		return XDP_PASS;
	return bpf_redirect_map(&margay_xsks, port->first + ctx->rx_queue_index, port->on_failure);
}

static __always_inline bool is_own(const __u32 *destination)
{
	return destination && (*destination == LOCAL || *destination == TUNNEL_END);
}

// Reads a packet between the node and a pod; none of its own addresses is at the node's end where that is false.
static __always_inline bool read_exchange(struct __sk_buff *skb, bool by_pod, enum part *part,
					  struct exchange *exchange)
{
	const void *end = (const void *)(long)skb->data_end;
	const struct ethhdr *eth = (const void *)(long)skb->data;

	if ((const void *)(eth + 1) > end)
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct prefix4 key = { .length = 32 };

		*part = read4(exchange, (const void *)(eth + 1), end, by_pod);
		key.address = exchange->node.in6_u.u6_addr32[3];
		return *part != NO_PART && *part != BESIDE && is_own(bpf_map_lookup_elem(&margay_lpm4, &key));
	}
	if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct prefix6 key = { .length = 128 };

		*part = read6(exchange, (const void *)(eth + 1), end, by_pod);
		key.address = exchange->node;
		return *part != NO_PART && *part != BESIDE && is_own(bpf_map_lookup_elem(&margay_lpm6, &key));
	}
	return false;
}

// Whether a process of the node listens where the exchange has the node's port: then the pod has called it.
static __always_inline bool listens(struct __sk_buff *skb, const struct exchange *exchange)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sock;
	bool is_listener;

	// Without the pod's port no connection is found, and a listener is.
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		tuple.ipv4.saddr = exchange->pod.in6_u.u6_addr32[3];
		tuple.ipv4.daddr = exchange->node.in6_u.u6_addr32[3];
		tuple.ipv4.dport = exchange->node_port;
		sock = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &exchange->pod, sizeof(exchange->pod));
		__builtin_memcpy(tuple.ipv6.daddr, &exchange->node, sizeof(exchange->node));
		tuple.ipv6.dport = exchange->node_port;
		sock = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sock)
		return false;
	is_listener = sock->state == BPF_TCP_LISTEN;
	bpf_sk_release(sock);
	return is_listener;
}

// At the host's end of a pod's veth: sees what the kernel sends to the pod, and none of what Margay sends.
SEC("tc")
int margay_to_pod(struct __sk_buff *skb)
{
	struct exchange exchange;
	enum part part;

	if (!read_exchange(skb, false, &part, &exchange))
		return TC_ACT_UNSPEC;
	// In the middle of TCP that nothing is known of (it is older than this program, or was forgotten in a full map) the
	// one who began is the one without a listener.
	if (part == OPENS || (part == GOES_ON && began(&exchange) == NOBODY &&
			      !(exchange.protocol == IPPROTO_TCP && listens(skb, &exchange))))
		begin(&exchange, NODE);
	return TC_ACT_UNSPEC;
}

// At the kernel's end of Margay's own veth pair: sees what policy has let a pod send to the node.
SEC("tc")
int margay_entered(struct __sk_buff *skb)
{
	struct exchange exchange;
	enum part part;

	if (!read_exchange(skb, true, &part, &exchange))
		return TC_ACT_UNSPEC;
	// An echo's request says by itself who asks.
	if ((part == OPENS && exchange.protocol == IPPROTO_TCP) || (part == GOES_ON && began(&exchange) == NOBODY))
		begin(&exchange, THE_POD);
	return TC_ACT_UNSPEC;
}

// No helper above asks for the GPL.
char LICENSE[] SEC("license") = "Apache-2.0";
