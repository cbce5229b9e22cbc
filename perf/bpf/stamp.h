// SPDX-License-Identifier: Apache-2.0
//
// The stamp of the lab's packets, and where it stands in a frame. src/lab/load/stamp.rs says the same in Rust.

#pragma once

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MARK 0x4d677900u
#define VXLAN_PORT 4789

struct stamp {
	// MARK, and in its last byte the trial.
	__be32 mark;
	__be32 number;
	__be64 departure;
} __attribute__((packed));

// Headers without options, outermost first.
#define ETHERNET_SIZE 14
#define IPV4_SIZE 20
#define UDP_SIZE 8
#define VXLAN_SIZE 8

// Where the inner IP header stands: in a plain frame, in IP-in-IP, in VXLAN.
#define PLAIN ETHERNET_SIZE
#define IPIP (ETHERNET_SIZE + IPV4_SIZE)
#define VXLAN (ETHERNET_SIZE + IPV4_SIZE + UDP_SIZE + VXLAN_SIZE + ETHERNET_SIZE)

// Where the inner IP header of a frame stands, 0 where it has none. At least `most` bytes follow.
static __always_inline __u32 inner_offset(const __u8 *frame, const __u8 *end, __u32 most)
{
	if (frame + PLAIN + most > end || *(__be16 *)(frame + 12) != bpf_htons(ETH_P_IP))
		return 0;
	if (frame[PLAIN + 9] == IPPROTO_IPIP)
		return frame + IPIP + most > end ? 0 : IPIP;
	if (frame[PLAIN + 9] == IPPROTO_UDP && *(__be16 *)(frame + PLAIN + 22) == bpf_htons(VXLAN_PORT))
		return frame + VXLAN + most > end ? 0 : VXLAN;
	return PLAIN;
}

static __always_inline void swap16(__u8 *a, __u8 *b)
{
	__u16 was = *(__u16 *)a;

	*(__u16 *)a = *(__u16 *)b;
	*(__u16 *)b = was;
}

static __always_inline void swap32(__u8 *a, __u8 *b)
{
	__u32 was = *(__u32 *)a;

	*(__u32 *)a = *(__u32 *)b;
	*(__u32 *)b = was;
}

static __always_inline void swap_macs(__u8 *ethernet)
{
	swap32(ethernet, ethernet + 6);
	swap16(ethernet + 4, ethernet + 10);
}

// Sends the headers before the inner IP header, and its addresses, back where they come from. No checksum changes.
static __always_inline void turn_around(__u8 *frame, const __u32 inner)
{
	swap_macs(frame);
	if (inner == VXLAN)
		swap_macs(frame + VXLAN - ETHERNET_SIZE);
	if (inner != PLAIN)
		swap32(frame + PLAIN + 12, frame + PLAIN + 16);
	swap32(frame + inner + 12, frame + inner + 16);
}
