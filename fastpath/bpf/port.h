// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What the XDP programs know of ports, and their sockets.

#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

// Shared with src/xdp/program.rs: number for number, field for field.
enum kind { UPLINK = 0, POD = 1, HOST = 2 };

struct port {
	__u32 kind;
	// XDP_PASS or XDP_DROP: what becomes of Margay's packets while no socket takes them.
	__u32 on_failure;
	// Where the port's queues begin in margay_xsks, and how many they are.
	__u32 first;
	__u32 queues;
	__u8 mac[ETH_ALEN];
	// Of a pod: policy is asked about its packets to the node as well.
	__u8 is_policed;
	// Its packets are skbs, and who takes them wants to know which are several in one.
	__u8 tells_gso;
	// Of an uplink: the VLAN whose frames are its own, 0 where untagged ones are.
	__u16 vlan;
	__u16 unused;
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
