//! What can be asked: jobs, dataplanes, metrics, and the case that a figure is for. Names are those of the reports.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What the gateway has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// From a pod, out plainly.
    L3,
    /// From a tunnel to a pod.
    VxlanDecap,
    /// From a pod into a tunnel.
    VxlanEncap,
    /// Out of one tunnel and into another: from a node behind the gateway to another zone.
    VxlanBoth,
    /// One TCP stream of iperf3, encapsulated as in `VxlanEncap`.
    Tcp,
    /// TCP connections opened and closed, encapsulated as in `VxlanEncap`.
    Cps,
    /// Time in the gateway at half of its throughput, encapsulated as in `VxlanEncap`.
    Latency,
}

impl Job {
    /// The job whose way the packets go.
    #[must_use]
    pub fn way(self) -> Self {
        match self {
            Self::Tcp | Self::Cps | Self::Latency => Self::VxlanEncap,
            own => own,
        }
    }
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dataplane {
    Margay,
    /// Linux' forwarding, its vxlan device, nftables with conntrack.
    Kernel,
    /// Open vSwitch's userspace datapath on `AF_XDP` ports.
    Ovs,
    /// DPDK's testpmd, which swaps MAC addresses.
    Testpmd,
    /// Margay's ports without Margay: swaps MAC addresses, the ceiling of this I/O.
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Million packets a second.
    Mpps,
    /// Billion bits a second.
    Gbps,
    /// Connections a second.
    Cps,
    /// Microseconds that half of the packets took at most.
    P50,
    /// Microseconds that 99 in 100 packets took at most.
    P99,
    /// Seconds of processor time for a million packets, softirq included.
    Cpu,
    /// Share of the packets that were lost, in percent.
    Loss,
}

impl Metric {
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Mpps => "Mpps",
            Self::Gbps => "Gbit/s",
            Self::Cps => "connections/s",
            Self::P50 | Self::P99 => "us",
            Self::Cpu => "s/Mpackets",
            Self::Loss => "%",
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub fn is_rate(self) -> bool {
        matches!(self, Self::Mpps | Self::Gbps | Self::Cps)
    }
}

/// The simple Internet mix: sizes, and packets of each in twelve.
pub const IMIX: [(u16, u16); 3] = [(64, 7), (594, 4), (1518, 1)];

/// A case's size that stands for the mix: what its packets have in the mean.
pub const IMIX_SIZE: u16 = 362;

/// One dataplane at one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Case {
    pub job: Job,
    pub dataplane: Dataplane,
    /// Bytes of the inner Ethernet frame, FCS counted (RFC 2544); `IMIX_SIZE` for the mix.
    pub size: u16,
    pub flows: u32,
    /// Policies that select the pod in the direction asked; packets match the last one.
    pub policies: u32,
}

/// What a job, dataplane or metric is called on the command line and in reports.
#[must_use]
pub fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Case {
    /// Bytes of the longest of its frames.
    #[must_use]
    pub fn longest(&self) -> u16 {
        if self.size == IMIX_SIZE { IMIX[IMIX.len() - 1].0 } else { self.size }
    }
}
