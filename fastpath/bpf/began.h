// SPDX-License-Identifier: Apache-2.0
//
// Who began what a node and a pod of its own have to say to each other. What the node began, its pod's policy has no
// say in: the pod's answers go straight to the kernel. What the pod began goes by a worker. src/steer/exchange.rs
// reads packets as this does, in Rust.

#pragma once

#include <linux/icmpv6.h>
#include <linux/tcp.h>

// How long an exchange without packets is remembered: as long as connection tracking keeps it by default (Calico's
// times). TCP is not forgotten: its SYN says who begins, and without one there is nothing new.
#define UDP_SILENCE (60ull * 1000000000)
#define OTHER_SILENCE (600ull * 1000000000)

enum who { NOBODY = 0, NODE = 1, THE_POD = 2 };

// Every byte of it is a key's: there is no padding. IPv4 addresses are mapped into IPv6. Ports are 0 where there are
// none; an ICMP echo has its identifier as the node's.
struct exchange {
	struct in6_addr node;
	struct in6_addr pod;
	__be16 node_port;
	__be16 pod_port;
	__u32 protocol;
};

struct beginning {
	__u64 seen;
	__u32 who;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct exchange);
	__type(value, struct beginning);
} margay_began SEC(".maps");

// <linux/icmp.h> wants the C library's sockets.
enum icmp4 {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

// ICMP's and ICMPv6's.
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

// What a packet is to its exchange.
enum part {
	// Of none that can be told.
	NO_PART,
	// Neighbour discovery, or a fragment that is nothing without its first one, which has the ports.
	BESIDE,
	// Sent only by who begins: a SYN, an echo request.
	OPENS,
	// Sent only by who does not: a SYN with ACK, an echo reply. Or it ends what there is: a RST.
	ANSWERS,
	GOES_ON,
	// An ICMP error: the exchange is that of the packet that it quotes.
	ERROR,
};

static __always_inline void map4(struct in6_addr *to, __be32 address)
{
	to->in6_u.u6_addr32[0] = 0;
	to->in6_u.u6_addr32[1] = 0;
	to->in6_u.u6_addr32[2] = bpf_htonl(0xffff);
	to->in6_u.u6_addr32[3] = address;
}

static __always_inline bool same(const struct in6_addr *a, const struct in6_addr *b)
{
	for (int i = 0; i < 4; i++)
		if (a->in6_u.u6_addr32[i] != b->in6_u.u6_addr32[i])
			return false;
	return true;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_DCCP ||
	       protocol == IPPROTO_SCTP || protocol == IPPROTO_UDPLITE;
}

static __always_inline bool read_ports(struct exchange *exchange, __u8 protocol, const void *l4, const void *end,
				       bool by_pod)
{
	const __be16 *ports = l4;

	exchange->protocol = protocol;
	exchange->node_port = exchange->pod_port = 0;
	if (!has_ports(protocol))
		return true;
	if ((const void *)(ports + 2) > end)
		return false;
	exchange->node_port = ports[by_pod ? 1 : 0];
	exchange->pod_port = ports[by_pod ? 0 : 1];
	return true;
}

// What no ICMP message is.
static __always_inline enum part read_transport(struct exchange *exchange, __u8 protocol, const void *l4,
						const void *end, bool by_pod)
{
	const struct tcphdr *tcp = l4;

	if (!read_ports(exchange, protocol, l4, end, by_pod))
		return NO_PART;
	if (protocol != IPPROTO_TCP)
		return GOES_ON;
	if ((const void *)(tcp + 1) > end)
		return NO_PART;
	if (tcp->syn)
		return tcp->ack ? ANSWERS : OPENS;
	return tcp->rst ? ANSWERS : GOES_ON;
}

static __always_inline enum part read_echo(struct exchange *exchange, __u8 protocol, __be16 id, bool is_request)
{
	exchange->protocol = protocol;
	exchange->node_port = id;
	exchange->pod_port = 0;
	return is_request ? OPENS : ANSWERS;
}

// The exchange of the packet that an error quotes, which the error's receiver sent.
static __always_inline enum part read_quoted4(struct exchange *exchange, const struct iphdr *ip, const void *end,
					      bool by_pod)
{
	struct in6_addr sender, receiver;

	if ((const void *)(ip + 1) > end || ip->ihl < 5 || ip->frag_off & bpf_htons(0x1fff))
		return NO_PART;
	map4(&sender, ip->saddr);
	map4(&receiver, ip->daddr);
	if (!same(&sender, by_pod ? &exchange->node : &exchange->pod) ||
	    !same(&receiver, by_pod ? &exchange->pod : &exchange->node))
		return NO_PART;
	return read_ports(exchange, ip->protocol, (const void *)ip + ip->ihl * 4, end, !by_pod) ? ERROR : NO_PART;
}

static __always_inline enum part read_quoted6(struct exchange *exchange, const struct ipv6hdr *ip, const void *end,
					      bool by_pod)
{
	if ((const void *)(ip + 1) > end)
		return NO_PART;
	if (!same(&ip->saddr, by_pod ? &exchange->node : &exchange->pod) ||
	    !same(&ip->daddr, by_pod ? &exchange->pod : &exchange->node))
		return NO_PART;
	return read_ports(exchange, ip->nexthdr, ip + 1, end, !by_pod) ? ERROR : NO_PART;
}

// Reads a packet between the node and a pod, which the pod has sent or is to get.
static __always_inline enum part read4(struct exchange *exchange, const struct iphdr *ip, const void *end, bool by_pod)
{
	if ((const void *)(ip + 1) > end || ip->ihl < 5)
		return NO_PART;
	if (ip->frag_off & bpf_htons(0x1fff))
		return BESIDE;
	map4(by_pod ? &exchange->pod : &exchange->node, ip->saddr);
	map4(by_pod ? &exchange->node : &exchange->pod, ip->daddr);

	const void *l4 = (const void *)ip + ip->ihl * 4;
	const struct icmp *icmp = l4;

	if (ip->protocol != IPPROTO_ICMP)
		return read_transport(exchange, ip->protocol, l4, end, by_pod);
	if ((const void *)(icmp + 1) > end)
		return NO_PART;
	switch (icmp->type) {
	case ICMP_ECHO:
	case ICMP_ECHOREPLY:
		return read_echo(exchange, IPPROTO_ICMP, icmp->id, icmp->type == ICMP_ECHO);
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return read_quoted4(exchange, (const void *)(icmp + 1), end, by_pod);
	default:
		return NO_PART;
	}
}

struct fragment6 {
	__u8 next;
	__u8 unused;
	__be16 offset;
	__be32 id;
};

static __always_inline enum part read6(struct exchange *exchange, const struct ipv6hdr *ip, const void *end,
				       bool by_pod)
{
	if ((const void *)(ip + 1) > end)
		return NO_PART;
	*(by_pod ? &exchange->pod : &exchange->node) = ip->saddr;
	*(by_pod ? &exchange->node : &exchange->pod) = ip->daddr;

	const void *l4 = ip + 1;
	__u8 next = ip->nexthdr;
	bool is_whole = next != IPPROTO_FRAGMENT;

	if (!is_whole) {
		const struct fragment6 *fragment = l4;

		if ((const void *)(fragment + 1) > end)
			return NO_PART;
		if (fragment->offset & bpf_htons(0xfff8))
			return BESIDE;
		next = fragment->next;
		l4 = fragment + 1;
	}

	const struct icmp *icmp = l4;

	if (next != IPPROTO_ICMPV6)
		return read_transport(exchange, next, l4, end, by_pod);
	if ((const void *)(icmp + 1) > end)
		return NO_PART;
	switch (icmp->type) {
	case ICMPV6_ECHO_REQUEST:
	case ICMPV6_ECHO_REPLY:
		return read_echo(exchange, IPPROTO_ICMPV6, icmp->id, icmp->type == ICMPV6_ECHO_REQUEST);
	case ICMPV6_DEST_UNREACH:
	case ICMPV6_PKT_TOOBIG:
	case ICMPV6_TIME_EXCEED:
	case ICMPV6_PARAMPROB:
		return read_quoted6(exchange, (const void *)(icmp + 1), end, by_pod);
	// Solicitations and advertisements of routers and neighbours.
	case 133 ... 136:
		return is_whole ? BESIDE : NO_PART;
	default:
		return NO_PART;
	}
}

static __always_inline __u64 silence(const struct exchange *exchange)
{
	switch (exchange->protocol) {
	case IPPROTO_TCP:
		return ~0ull;
	case IPPROTO_UDP:
		return UDP_SILENCE;
	default:
		return OTHER_SILENCE;
	}
}

// Who began the exchange, which goes on by this.
static __always_inline __u32 began(const struct exchange *exchange)
{
	struct beginning *found = bpf_map_lookup_elem(&margay_began, exchange);
	__u64 now = bpf_ktime_get_coarse_ns();

	if (!found || (now > found->seen && now - found->seen > silence(exchange)))
		return NOBODY;
	found->seen = now;
	return found->who;
}

static __always_inline void begin(const struct exchange *exchange, __u32 who)
{
	struct beginning beginning = { .seen = bpf_ktime_get_coarse_ns(), .who = who };

	bpf_map_update_elem(&margay_began, exchange, &beginning, BPF_ANY);
}

// Whether the kernel may have this packet of a pod whose packets to its node policy is asked about: one that is part of
// what the node began.
static __always_inline bool is_of_node(enum part part, const struct exchange *exchange)
{
	switch (part) {
	case BESIDE:
		return true;
	case ANSWERS:
	case GOES_ON:
	case ERROR:
		return began(exchange) == NODE;
	default:
		return false;
	}
}
