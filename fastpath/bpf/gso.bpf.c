// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The end of the XDP program where packets are skbs (generic XDP): tells the AF_XDP socket which are several in one (GSO)
// and where to cut those, in metadata before each packet. The kernel's functions that this takes are for programs under
// the GPL, and there from Linux 6.2 on, in kernels with BTF: so this is an object of its own, which margay.bpf.c goes on
// to where it could be loaded.

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "port.h"

// Of the kernel's own, by name: their offsets are those of the kernel that loads this.
struct xdp_buff {
	void *data_hard_start;
	__u32 frame_sz;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	unsigned short gso_size;
	unsigned int gso_type;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *obj) __ksym;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym;

// Shared with src/xdp/gso.rs.
struct told {
	__u32 gso_type;
	__u16 gso_size;
	__u16 unused;
};

// SMP_CACHE_BYTES, to which SKB_DATA_ALIGN rounds up.
#define CACHE_LINE 64

// Generic XDP lays its buffer over the skb's head, at the end of which the skb keeps what is asked for here.
static __always_inline void tell(struct told *told, struct xdp_md *ctx)
{
	const struct xdp_buff *buff = bpf_cast_to_kern_ctx(ctx);
	__u32 tail = (bpf_core_type_size(struct skb_shared_info) + CACHE_LINE - 1) & -CACHE_LINE;
	const struct skb_shared_info *info =
		bpf_rdonly_cast(buff->data_hard_start + buff->frame_sz - tail,
				bpf_core_type_id_kernel(struct skb_shared_info));

	told->gso_type = info->gso_type;
	told->gso_size = info->gso_size;
	told->unused = 0;
}

SEC("xdp.frags")
int margay_gso(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	const struct port *port = bpf_map_lookup_elem(&margay_ports, &ifindex);
	struct told *told;

	if (!port)
		return XDP_PASS;
	// Without it a socket would read what was there before.
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*told)))
		return port->on_failure;
	told = (void *)(long)ctx->data_meta;
	if ((void *)(told + 1) > (void *)(long)ctx->data)
		return port->on_failure;
	tell(told, ctx);
	return bpf_redirect_map(&margay_xsks, port->first + ctx->rx_queue_index, port->on_failure);
}

// What cast_to_kern_ctx and rdonly_cast ask for.
char LICENSE[] SEC("license") = "Dual MIT/GPL";
