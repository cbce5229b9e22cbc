// SPDX-License-Identifier: Apache-2.0
//
// The source of a trial's packets: the kernel runs it over and over (BPF_PROG_TEST_RUN with live frames), and each time
// that a packet is due, it writes one and sends it. src/lab/load/live.rs has its structs in Rust, field for field.

#include "stamp.h"

#define MOST_SIZES 16
#define LONGEST_PATTERN 256
// Headers up to the stamp, in whole words.
#define HEADER_WORDS 12
// The kernel sends after so many runs what they have made, or when that is MOST_HELD packets.
#define BATCH 64
#define MOST_HELD 16
// Time is kept in 1/1024 ns, so that an interval is exact enough for hours.
#define FRACTION 10

struct header {
	__u64 words[HEADER_WORDS];
	// Of the frame.
	__u32 length;
	// Of the inner IP header, without its checksum and the low half of the far end's address.
	__u32 sum;
};

// What packets look like.
const volatile struct stream {
	__u32 flows;
	// Packets until a flow begins that was not there; 0: never.
	__u32 life;
	// After so many, flows begin again.
	__u32 most_flows;
	__u32 first_port;
	// Low half of the far end's address of flow 0, and the bits of a flow's number that are added to it.
	__u32 far;
	__u32 far_bits;
	// Where the inner IP header stands.
	__u32 inner;
	// Whether the far end sends, and does not receive.
	__u32 far_sends;
	__u32 sizes;
	// Length of the pattern.
	__u32 turns;
	// Bytes that each run is given.
	__u32 longest;
	// Flow of the first packet.
	__u32 first;
	__u8 pattern[LONGEST_PATTERN];
	struct header headers[MOST_SIZES];
} stream;

// What is to be sent in the next runs.
struct {
	// Between packets, in 1/1024 ns; 0 for as fast as it goes.
	__u64 interval;
	// What is later than this is not caught up with, in 1/1024 ns.
	__u64 patience;
	__u64 packets;
	// In ns.
	__u64 time;
	// The trial.
	__u32 mark;
	__u32 unused;
} order SEC(".data.order");

// How far it is.
struct {
	__u64 done;
	__u64 began;
	// Of the packet that left last.
	__u64 last;
	__u64 due;
	__u64 number;
	__u32 round;
	__u32 base;
	__u32 age;
	__u32 turn;
	__u64 runs;
} progress;

static __always_inline int is_due(__u64 now)
{
	__u64 elapsed = (now - progress.began) << FRACTION;

	if (elapsed < progress.due)
		return 0;
	if (elapsed - progress.due > order.patience)
		progress.due = elapsed - order.patience;
	progress.due += order.interval;
	return 1;
}

static __always_inline __u32 next_flow(void)
{
	__u32 flow = progress.base + progress.round;

	if (flow >= stream.most_flows)
		flow -= stream.most_flows;
	if (++progress.round >= stream.flows)
		progress.round = 0;
	if (stream.life && ++progress.age >= stream.life) {
		progress.age = 0;
		if (++progress.base >= stream.most_flows)
			progress.base = 0;
	}
	return flow;
}

static __always_inline __u32 next_size(void)
{
	__u32 turn = progress.turn;

	if (stream.sizes == 1)
		return 0;
	progress.turn = turn + 1 >= stream.turns ? 0 : turn + 1;
	return stream.pattern[turn & (LONGEST_PATTERN - 1)] & (MOST_SIZES - 1);
}

// Pages come again as the gateway has left them, so all headers are written.
static __always_inline int write(struct xdp_md *ctx, const volatile struct header *header, __u64 now,
				 const __u32 inner)
{
	const __u32 stamp_at = inner + IPV4_SIZE + UDP_SIZE;
	__u8 *frame = (__u8 *)(long)ctx->data;
	__u32 flow = next_flow(), far, sum;
	struct stamp *stamp;

	if (frame + stamp_at + sizeof(*stamp) > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma unroll
	for (__u32 i = 0; i < (stamp_at + 7) / 8; i++)
		((__u64 *)frame)[i] = header->words[i];

	far = stream.far + (flow & ((1u << stream.far_bits) - 1));
	sum = header->sum + far;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*(__be16 *)(frame + inner + 10) = bpf_htons(~sum);
	*(__be16 *)(frame + inner + (stream.far_sends ? 14 : 18)) = bpf_htons(far);
	*(__be16 *)(frame + inner + 20) = bpf_htons(stream.first_port + (flow >> stream.far_bits));
	if (inner == VXLAN)
		*(__be16 *)(frame + PLAIN + IPV4_SIZE) = bpf_htons(0xc000 | (flow * 0x9e3779b1u) >> 18);

	stamp = (struct stamp *)(frame + stamp_at);
	stamp->mark = bpf_htonl(order.mark);
	stamp->number = bpf_htonl((__u32)progress.number);
	stamp->departure = bpf_cpu_to_be64(now);
	return XDP_TX;
}

SEC("xdp")
int margay_source(struct xdp_md *ctx)
{
	const volatile struct header *header;
	int verdict;
	__u64 now;

	// A packet that is made now leaves soon, and not after all other runs of the batch.
	if (progress.done || (order.interval && progress.runs++ % BATCH < BATCH - MOST_HELD))
		return XDP_DROP;
	now = bpf_ktime_get_ns();
	if (!progress.began) {
		progress.began = now;
		progress.base = stream.first;
	}
	if (progress.number >= order.packets || now - progress.began >= order.time) {
		progress.done = 1;
		return XDP_DROP;
	}
	if (order.interval && !is_due(now))
		return XDP_DROP;

	header = &stream.headers[next_size()];
	if (stream.sizes != 1 && bpf_xdp_adjust_tail(ctx, (int)header->length - (int)stream.longest))
		return XDP_ABORTED;
	if (stream.inner == PLAIN)
		verdict = write(ctx, header, now, PLAIN);
	else if (stream.inner == IPIP)
		verdict = write(ctx, header, now, IPIP);
	else
		verdict = write(ctx, header, now, VXLAN);
	progress.last = now;
	progress.number++;
	return verdict;
}

char LICENSE[] SEC("license") = "Apache-2.0";
