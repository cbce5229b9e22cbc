//! What the report says in words: what was run and where, and how each figure came about.

use maud::{Markup, html};

use super::look;
use crate::lab::details::Details;
use crate::lab::machine::Machine;

pub(super) fn summary(machine: &Machine, details: &Details) -> Markup {
    let margay = machine.versions.get("margay").map_or("of unknown version", String::as_str);
    let minutes = (machine.seconds / 60.0).max(0.0);
    html! {
        p class="quiet" {
            "Margay " (margay) ", " (machine.started) ", " (look::figure(minutes)) " minutes on " (machine.cores.len())
            " cores of " (machine.cpu) ", Linux " (machine.kernel) ", "
            @if machine.hypervisor.is_some() { "a virtual machine" } @else { "no virtual machine" } "."
            @if !details.command.is_empty() { br; code { (details.command) } }
        }
        @if !details.notes.is_empty() { ul { @for note in &details.notes { li { (note) } } } }
    }
}

pub(super) fn nothing() -> Markup {
    html! { p class="quiet" { "Not measured in this run." } }
}

pub(super) fn goals() -> Markup {
    html! { p {
        "Ratios of medians in this one run, 64-byte frames, 10,000 flows and one policy where nothing else is said. " em { "Turns" }
        " are the lowest and the highest ratio of a turn: dataplanes take turns, so what slows the machine for a while slows all. "
        "A goal is met or missed by the medians alone."
    } }
}

pub(super) fn throughput() -> Markup {
    html! { p {
        "The highest rate of which at most 0.1 % is lost. A bar is the median of the repeats, the thin line on it goes from the "
        "lowest to the highest of them, and the upright lines are where Margay's goals lie. The bare AF_XDP forwarder only swaps MAC addresses: "
        "it is the ceiling of this I/O, not a gateway; the same holds for DPDK's testpmd."
    } }
}

pub(super) fn along() -> Markup {
    html! { p { "One thing differs along a line; the others are 64 bytes, 10,000 flows and one policy. IMIX is 64, 594 and 1,518 bytes as 7:4:1." } }
}

pub(super) fn loss() -> Markup {
    html! { p {
        "What each forwards of what it is offered, and what it loses. A gateway that forwards less the more it is offered spends "
        "its time on packets that it then drops."
    } }
}

pub(super) fn latency() -> Markup {
    html! { p {
        "From the stamp that the source puts into each packet to the sink, so the veth pairs, and the waiting for the gateway's core, "
        "are in it, the same for all. Each dataplane carries 10, 50 or 90 % of " em { "its own" } " throughput. "
        "Curves further left are faster; a curve that bends to the right near the top has a long tail."
    } }
}

pub(super) fn cost() -> Markup {
    html! { p {
        "Processor time for a million packets: the gateway's processes, and all softirq and interrupts on every core, at the rate of the throughput. "
        "The kernel's share of receiving and sending is in it for all dataplanes alike, and so is the load's, whose frames go through softirq too. "
        "A gateway that polls takes its core whole, so its figure is 1 over its rate and the softirq."
    } }
}

pub(super) fn stages() -> Markup {
    html! {
        h3 { "Margay's packet function, pass by pass" }
        p { "Frames in memory, one worker, no I/O: what is left of the above is system calls, the veth pairs and the copies." }
    }
}

pub(super) fn bursts() -> Markup {
    html! {
        h3 { "Back to back" }
        p { "The longest burst at the source's full rate of which nothing is lost: the room of rings and queues, and how soon the gateway wakes." }
    }
}

pub(super) fn soak() -> Markup {
    html! { h3 { "Soak" } p { "A steady rate, while flows end and new ones begin." } }
}

/// How it was measured, and what that leaves out.
pub(super) fn method() -> Markup {
    let terms = [
        (
            "Topology",
            "Source, gateway and sink are network namespaces, joined by two veth pairs with one queue each. All dataplanes stand in the same place, \
            in turns, with the same addresses, flows and policy; the kernel's forwarding is off wherever it is not what is measured.",
        ),
        (
            "Load",
            "The source sends from the first core and the gateway has the last one. Each packet carries a number and the time of its departure; the \
            sink counts what arrives, what arrives twice and what is late. Flows are visited in turn, and both directions of each were seen before a trial, so \
            that connection tracking is not measured by accident; where it is on purpose, the job is connections a second.",
        ),
        (
            "Size",
            "Bytes of the inner Ethernet frame, FCS counted, as in RFC 2544: a 64-byte frame has 60 bytes in memory, and 110 in VXLAN.",
        ),
        (
            "Throughput",
            "RFC 2544, 26.1, searched between a rate that passes and one that fails; a trial that fails is repeated once, for a virtual machine stands \
            still now and then. RFC 2544 asks for 60 seconds a trial and for no loss at all; here trials are shorter, and a loss of 0.1 % is allowed beside it.",
        ),
        (
            "Turns",
            "Every figure is the median of repeats, and dataplanes take turns within a repeat. Compare within one run: rates of the same machine drift by a \
            tenth and more from hour to hour. margay perf compare tells two runs apart as far as that goes.",
        ),
        (
            "Cores",
            "Crossing from one core to another is dear on a virtual machine, so which core does what decides much. It is said of each dataplane \
            under \u{201c}Which core does what\u{201d}, and chosen for each as is best for it.",
        ),
        (
            "Not measured",
            "Zero-copy, several queues and receive-side scaling, hardware offloads and the wire: veth has none of them. Ratios on a real NIC differ, \
            in Margay's favour where zero-copy takes the system calls away, and in the kernel's where its offloads work.",
        ),
    ];
    html! { dl { @for (term, text) in terms { dt { (term) } dd { (text) } } } }
}
