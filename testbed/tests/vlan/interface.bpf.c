// SPDX-License-Identifier: Apache-2.0
//
// What the kernel's own interface of a VLAN does, on kernels that have none: between a device and one end of a veth pair
// whose other end is the interface. The test compiles it with the numbers of each.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Where the device receives: what has the tag goes to the interface without it.
SEC("received")
int take(struct __sk_buff *skb)
{
	if (!skb->vlan_present || (skb->vlan_tci & 0xfff) != VLAN)
		return TC_ACT_UNSPEC;
	bpf_skb_vlan_pop(skb);
	return bpf_redirect(INNER, 0);
}

// Where the inner end receives what the interface sends.
SEC("sent")
int give(struct __sk_buff *skb)
{
	bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VLAN);
	return bpf_redirect(DEVICE, 0);
}
