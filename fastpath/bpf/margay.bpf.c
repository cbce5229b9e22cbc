// SPDX-License-Identifier: Apache-2.0
//
// The XDP program of every port: decides by destination whether a packet is Margay's, and hands those that are to the
// AF_XDP socket of their queue. It reads and never writes the packet. src/steer.rs says the same in Rust, and a test
// holds the two together.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Shared with src/xdp/program.rs: number for number, field for field.
enum kind { UPLINK = 0, POD = 1 };
enum destination { ELSEWHERE = 0, OWNED = 1, LOCAL = 2, TUNNEL_END = 3 };

struct port {
	__u32 kind;
	// XDP_PASS or XDP_DROP: what becomes of Margay's packets while no socket takes them.
	__u32 on_failure;
	// Where the port's queues begin in margay_xsks, and how many they are.
	__u32 first;
	__u32 queues;
	__u8 mac[ETH_ALEN];
	__u8 unused[2];
};

struct prefix4 {
	__u32 length;
	__be32 address;
};

struct prefix6 {
	__u32 length;
	struct in6_addr address;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct port);
} margay_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u32);
} margay_xsks SEC(".maps");

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

static __always_inline bool is_tunnel6(const struct ipv6hdr *ip, const void *end)
{
	return ip->nexthdr == IPPROTO_UDP && to_vxlan_port(ip + 1, end);
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

SEC("xdp")
int margay(struct xdp_md *ctx)
{
	const void *end = (const void *)(long)ctx->data_end;
	const struct ethhdr *eth = (const void *)(long)ctx->data;
	__u32 ifindex = ctx->ingress_ifindex;
	const struct port *port = bpf_map_lookup_elem(&margay_ports, &ifindex);
	bool mine;

	if (!port || (const void *)(eth + 1) > end)
		return XDP_PASS;
	// What another station of an uplink gets, or all of them, is not ours to forward (RFC 1812 section 5.3.4). What a
	// pod sends goes no way round us, whatever the address: the worker drops what was for many.
	if (port->kind != POD && !is_for(port, eth))
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		mine = takes4(port->kind, (const void *)(eth + 1), end);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		mine = takes6(port->kind, (const void *)(eth + 1), end);
	else
		// The kernel would take a pod's packet behind a priority tag (VLAN 0) for an untagged one.
		mine = port->kind == POD && is_tagged(eth);

	if (!mine)
		return XDP_PASS;
	if (ctx->rx_queue_index >= port->queues)
		return port->on_failure;
	return bpf_redirect_map(&margay_xsks, port->first + ctx->rx_queue_index, port->on_failure);
}

// No helper above asks for the GPL.
char LICENSE[] SEC("license") = "Apache-2.0";
