// SPDX-License-Identifier: Apache-2.0
//
// TCP connections that are opened, used once and closed, as many at a time as there are slots, without a socket at either
// end. Every packet answers the one before it and is made of it, in place: both ends forget, but for when a
// connection of a slot began. All are equally long, so that none has to grow: four bytes after the TCP header are
// options or data.
//
//   source -> SYN, <- SYN ACK, -> ACK with a request, <- FIN ACK with an answer, -> FIN ACK, <- ACK
//
// src/lab/load/connections.rs has its structs in Rust, field for field.

#include <linux/pkt_cls.h>

#include "stamp.h"

#define PORT 8080
#define MOST_SLOTS 4096
#define FRAME_WORDS 15

// Length and flags of a TCP header, by which packets are told apart.
#define SYN 0x6002
#define SYN_ACK 0x6012
#define REQUEST 0x5018
#define ANSWER 0x5019
#define FIN_ACK 0x6011
#define ACK 0x6010

#define MAXIMUM_SEGMENT_SIZE bpf_htonl(0x02040582)
#define NO_OPERATIONS bpf_htonl(0x01010101)
#define REQUEST_DATA bpf_htonl(0x4745540a)
#define ANSWER_DATA bpf_htonl(0x3230300a)
#define DATA_SIZE 4

struct tcp {
	__be16 source;
	__be16 dest;
	__be32 sequence;
	__be32 acknowledged;
	__be16 flags;
	__be16 window;
	__u16 check;
	__be16 urgent;
	__be32 rest;
} __attribute__((packed));

const volatile struct {
	__u32 flows;
	__u32 slots;
	__u32 first_port;
	// As in source.bpf.c.
	__u32 far;
	__u32 far_bits;
	// Of the IP header and of all that TCP's checksum is of, without what is added for a connection.
	__u32 ip_sum;
	__u32 tcp_sum;
	__u32 unused;
	// A connection that takes longer has failed, in ns.
	__u64 patience;
	// The SYN of flow 0.
	__u32 frame[FRAME_WORDS + 1];
} plan;

struct {
	// In ns.
	__u64 time;
	// Number of the first connection.
	__u64 first;
} order SEC(".data.order");

struct {
	__u64 done;
	__u64 began;
	__u64 opened;
	__u64 failed;
	__u64 completed;
	// When the last one was.
	__u64 last;
	__u32 cursor;
	// Slots in a row that were free when there were to be no more connections.
	__u32 rest;
	struct slot {
		__u64 began;
		// The sequence number of its SYN; 0 while it is free.
		__u32 sequence;
		__u32 unused;
	} slots[MOST_SLOTS];
} progress;

static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u32 halves(__u32 word)
{
	return (word & 0xffff) + (word >> 16);
}

static __always_inline int write_syn(struct xdp_md *ctx, __u32 flow, __u32 sequence)
{
	__u8 *frame = (__u8 *)(long)ctx->data;
	struct tcp *tcp = (struct tcp *)(frame + PLAIN + IPV4_SIZE);
	__u32 far = plan.far + (flow & ((1u << plan.far_bits) - 1));
	__u16 port = plan.first_port + (flow >> plan.far_bits);

	if (frame + FRAME_WORDS * 4 > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < FRAME_WORDS; i++)
		((__u32 *)frame)[i] = plan.frame[i];
	*(__be16 *)(frame + PLAIN + 10) = bpf_htons(~folded(plan.ip_sum + far));
	*(__be16 *)(frame + PLAIN + 18) = bpf_htons(far);
	tcp->source = bpf_htons(port);
	tcp->sequence = bpf_htonl(sequence);
	tcp->check = bpf_htons(~folded(plan.tcp_sum + far + port + halves(sequence)));
	return XDP_TX;
}

// Looks at the next slot: opens a connection where it is free or was for too long.
SEC("xdp")
int margay_open(struct xdp_md *ctx)
{
	__u32 at = progress.cursor & (MOST_SLOTS - 1), sequence;
	struct slot *slot = &progress.slots[at];
	__u64 now, number;

	if (progress.done)
		return XDP_DROP;
	now = bpf_ktime_get_ns();
	if (!progress.began)
		progress.began = now;
	progress.cursor = at + 1 >= plan.slots ? 0 : at + 1;

	sequence = slot->sequence;
	if (sequence) {
		progress.rest = 0;
		if (now - slot->began < plan.patience)
			return XDP_DROP;
		if (__sync_val_compare_and_swap(&slot->sequence, sequence, 0) == sequence)
			progress.failed++;
	}
	if (now - progress.began >= order.time) {
		if (++progress.rest > plan.slots)
			progress.done = 1;
		return XDP_DROP;
	}
	number = order.first + progress.opened++;
	sequence = 1u << 31 | (__u32)(number * MOST_SLOTS) | at;
	slot->began = now;
	slot->sequence = sequence;
	return write_syn(ctx, number % plan.flows, sequence);
}

// The packet that follows this one, to where it came from. Ports and addresses change places, so the checksum only has to
// follow what else changes.
static __always_inline void answer(struct tcp *tcp, __u16 flags, __be32 sequence, __u32 taken, __be32 rest)
{
	__be32 acknowledged = bpf_htonl(bpf_ntohl(tcp->sequence) + taken);
	__u32 sum = (__u16)~tcp->check;

	sum += halves(~tcp->sequence) + halves(~tcp->acknowledged) + (__u16)~tcp->flags + halves(~tcp->rest);
	sum += halves(sequence) + halves(acknowledged) + bpf_htons(flags) + halves(rest);
	tcp->sequence = sequence;
	tcp->acknowledged = acknowledged;
	tcp->flags = bpf_htons(flags);
	tcp->rest = rest;
	tcp->check = ~folded(sum);
	swap16((__u8 *)&tcp->source, (__u8 *)&tcp->dest);
}

static __always_inline void complete(__u32 acknowledged)
{
	// The last packet acknowledges SYN, request and FIN.
	__u32 sequence = acknowledged - DATA_SIZE - 2;
	struct slot *slot = &progress.slots[sequence & (MOST_SLOTS - 1)];

	if (__sync_val_compare_and_swap(&slot->sequence, sequence, 0) != sequence)
		return;
	__sync_fetch_and_add(&progress.completed, 1);
	progress.last = bpf_ktime_get_ns();
}

enum fate { OTHER, TAKEN, RETURNED };

static __always_inline enum fate at_source(struct tcp *tcp)
{
	switch (bpf_ntohs(tcp->flags)) {
	case SYN_ACK:
		answer(tcp, REQUEST, tcp->acknowledged, 1, REQUEST_DATA);
		return RETURNED;
	case ANSWER:
		answer(tcp, FIN_ACK, tcp->acknowledged, DATA_SIZE + 1, NO_OPERATIONS);
		return RETURNED;
	case ACK:
		complete(bpf_ntohl(tcp->acknowledged));
	}
	return TAKEN;
}

static __always_inline enum fate at_sink(struct tcp *tcp)
{
	switch (bpf_ntohs(tcp->flags)) {
	case SYN:
		answer(tcp, SYN_ACK, tcp->sequence * 0x9e3779b1, 1, MAXIMUM_SEGMENT_SIZE);
		return RETURNED;
	case REQUEST:
		answer(tcp, ANSWER, tcp->acknowledged, DATA_SIZE, ANSWER_DATA);
		return RETURNED;
	case FIN_ACK:
		answer(tcp, ACK, tcp->acknowledged, 1, NO_OPERATIONS);
		return RETURNED;
	}
	return TAKEN;
}

enum end { SINK, SOURCE };

static __always_inline enum fate reply(enum end end, __u8 *frame, const __u32 inner)
{
	struct tcp *tcp = (struct tcp *)(frame + inner + IPV4_SIZE);
	enum fate fate;

	if (frame[inner + 9] != IPPROTO_TCP || (end == SINK ? tcp->dest : tcp->source) != bpf_htons(PORT))
		return OTHER;
	fate = end == SINK ? at_sink(tcp) : at_source(tcp);
	if (fate == RETURNED)
		turn_around(frame, inner);
	return fate;
}

static __always_inline int receive(enum end end, struct __sk_buff *skb)
{
	__u8 *frame = (__u8 *)(long)skb->data;
	enum fate fate = OTHER;

	switch (inner_offset(frame, (__u8 *)(long)skb->data_end, IPV4_SIZE + sizeof(struct tcp))) {
	case PLAIN:
		fate = reply(end, frame, PLAIN);
		break;
	case IPIP:
		fate = reply(end, frame, IPIP);
		break;
	case VXLAN:
		fate = reply(end, frame, VXLAN);
		break;
	}
	if (fate == OTHER)
		return TC_ACT_UNSPEC;
	return fate == TAKEN ? TC_ACT_SHOT : bpf_redirect(skb->ifindex, 0);
}

SEC("tc")
int margay_respond(struct __sk_buff *skb)
{
	return receive(SINK, skb);
}

SEC("tc")
int margay_initiate(struct __sk_buff *skb)
{
	return receive(SOURCE, skb);
}

char LICENSE[] SEC("license") = "Apache-2.0";
