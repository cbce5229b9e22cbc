// SPDX-License-Identifier: Apache-2.0
//
// Where a trial's packets end: counts them, and what happened to them on their way. It runs at the sink's device, and what
// it costs is the gateway's time. Of what primes connection trackers it sends back each packet, and counts them at
// the source. src/lab/load/sink.rs has its structs in Rust, field for field.

#include <linux/pkt_cls.h>

#include "stamp.h"

// Packets are told apart among the last so many (a power of two), so that a trial may last.
#define WINDOW (1u << 24)
#define WORDS (WINDOW / 32)

// Latencies have 64 buckets for each power of two, 1 ns each below 64 ns: they are 1/64 wide. The last has all that is
// longer than 68 s.
#define STEPS 6
#define MOST_POWER 35
#define BUCKETS ((MOST_POWER - STEPS + 2) << STEPS)

struct arrivals {
	__u64 packets;
	__u64 duplicates;
	__u64 reordered;
	// Of an earlier trial.
	__u64 late;
	__u64 latency[BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrivals);
} arrived SEC(".maps");

struct {
	// MARK and the trial.
	__u32 mark;
	// The highest number that has arrived, and whether one has.
	__u32 highest;
} expected SEC(".data.expected");

// Which packets have arrived: for 32 numbers each, in the high half how often the window had passed before them, in the low
// half a bit for each.
__u64 seen[WORDS];

static __always_inline int is_first(__u32 number)
{
	__u64 *word = &seen[number / 32 % WORDS];
	__u64 bit = 1ull << number % 32, round = number / WINDOW, was = *word;

	if (was >> 32 != round) {
		// Whoever comes first begins the word anew, the others add to it.
		if (__sync_val_compare_and_swap(word, was, round << 32 | bit) == was)
			return 1;
	}
	return !(__sync_fetch_and_or(word, bit) & bit);
}

// Whether one that was sent later has arrived before (RFC 4737).
static __always_inline int is_overtaken(__u32 number)
{
	__u32 highest = expected.highest;

	for (int attempt = 0; attempt < 3; attempt++) {
		__u32 was;

		if ((__s32)(number - highest) < 0)
			return 1;
		was = __sync_val_compare_and_swap(&expected.highest, highest, number);
		if (was == highest)
			break;
		highest = was;
	}
	return 0;
}

static __always_inline __u32 power_of_two(__u64 value)
{
	__u32 power = 0;

#pragma unroll
	for (int step = 32; step; step /= 2) {
		if (value >> step) {
			value >>= step;
			power += step;
		}
	}
	return power;
}

static __always_inline __u32 bucket(__u64 time)
{
	__u32 power;

	if (time < 1 << STEPS)
		return time;
	power = power_of_two(time);
	if (power > MOST_POWER)
		return BUCKETS - 1;
	return (power - STEPS + 1) << STEPS | (time >> (power - STEPS) & ((1 << STEPS) - 1));
}

static __always_inline void count(struct stamp stamp)
{
	__u32 zero = 0, number = bpf_ntohl(stamp.number), index;
	struct arrivals *arrivals = bpf_map_lookup_elem(&arrived, &zero);

	if (!arrivals)
		return;
	if (stamp.mark != bpf_htonl(expected.mark)) {
		arrivals->late++;
		return;
	}
	arrivals->packets++;
	if (!is_first(number))
		arrivals->duplicates++;
	else if (is_overtaken(number))
		arrivals->reordered++;
	index = bucket(bpf_ktime_get_ns() - bpf_be64_to_cpu(stamp.departure));
	if (index < BUCKETS)
		arrivals->latency[index]++;
}

static __always_inline struct stamp read(const __u8 *frame, const __u32 inner)
{
	return *(const struct stamp *)(frame + inner + IPV4_SIZE + UDP_SIZE);
}

static __always_inline void send_back(__u8 *frame, const __u32 inner)
{
	__u8 *udp = frame + inner + IPV4_SIZE;

	turn_around(frame, inner);
	swap16(udp, udp + 2);
}

enum end { SINK, SOURCE };
enum fate { OTHER, TAKEN, RETURNED };

static __always_inline enum fate receive(enum end end, __u8 *frame, __u8 *frame_end)
{
	__u32 inner = inner_offset(frame, frame_end, IPV4_SIZE + UDP_SIZE + sizeof(struct stamp));
	struct stamp stamp;

	if (inner == PLAIN)
		stamp = read(frame, PLAIN);
	else if (inner == VXLAN)
		stamp = read(frame, VXLAN);
	else if (inner == IPIP)
		stamp = read(frame, IPIP);
	else
		return OTHER;
	if ((bpf_ntohl(stamp.mark) & ~0xffu) != MARK)
		return OTHER;
	if (end == SOURCE || bpf_ntohl(stamp.mark) != MARK) {
		count(stamp);
		return TAKEN;
	}
	if (inner == PLAIN)
		send_back(frame, PLAIN);
	else if (inner == VXLAN)
		send_back(frame, VXLAN);
	else
		send_back(frame, IPIP);
	return RETURNED;
}

// Up to the end of a stamp in a tunnel.
#define LONGEST_HEADERS (VXLAN + IPV4_SIZE + UDP_SIZE + sizeof(struct stamp))

static __always_inline int receive_skb(enum end end, struct __sk_buff *skb)
{
	__u32 headers = skb->len < LONGEST_HEADERS ? skb->len : LONGEST_HEADERS;

	// What a packet socket sends lies in pages behind its Ethernet header.
	if ((void *)(long)skb->data + headers > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, headers);
	switch (receive(end, (__u8 *)(long)skb->data, (__u8 *)(long)skb->data_end)) {
	case TAKEN:
		return TC_ACT_SHOT;
	case RETURNED:
		return bpf_redirect(skb->ifindex, 0);
	default:
		return TC_ACT_UNSPEC;
	}
}

SEC("tc")
int margay_sink(struct __sk_buff *skb)
{
	return receive_skb(SINK, skb);
}

SEC("tc")
int margay_returned(struct __sk_buff *skb)
{
	return receive_skb(SOURCE, skb);
}

SEC("xdp.frags")
int margay_sink_xdp(struct xdp_md *ctx)
{
	switch (receive(SINK, (__u8 *)(long)ctx->data, (__u8 *)(long)ctx->data_end)) {
	case TAKEN:
		return XDP_DROP;
	case RETURNED:
		return XDP_TX;
	default:
		return XDP_PASS;
	}
}

char LICENSE[] SEC("license") = "Apache-2.0";
