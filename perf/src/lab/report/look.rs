//! How the report shows things: what they are called, the colour of each dataplane, and how many digits a figure has.

use plotters::style::RGBColor;

use crate::control::grouped;
use crate::lab::case::{Dataplane, IMIX_SIZE, Job, Metric};

/// Replaced by the style sheet, which has them for light and for dark.
pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const FAINT: RGBColor = RGBColor(0xD8, 0xD8, 0xD8);

pub(super) const ALL: [Dataplane; 5] =
    [Dataplane::Margay, Dataplane::Kernel, Dataplane::Ovs, Dataplane::Testpmd, Dataplane::Bare];

/// Colours that differ for the colour-blind too, and show on light and dark (after Okabe and Ito).
pub(super) fn color(dataplane: Dataplane) -> RGBColor {
    match dataplane {
        Dataplane::Margay => RGBColor(0xD5, 0x5E, 0x00),
        Dataplane::Kernel => RGBColor(0x2E, 0x86, 0xC1),
        Dataplane::Ovs => RGBColor(0x00, 0x9E, 0x73),
        Dataplane::Testpmd => RGBColor(0xCC, 0x79, 0xA7),
        Dataplane::Bare => RGBColor(0x80, 0x80, 0x80),
    }
}

/// Of the passes over a burst, in their order: from dark to light.
pub(super) const STAGES: [RGBColor; 6] = [
    RGBColor(0x9E, 0x45, 0x00),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0xEF, 0x91, 0x3A),
    RGBColor(0xF6, 0xBE, 0x85),
    RGBColor(0xA9, 0xA9, 0xA9),
    RGBColor(0xCF, 0xCF, 0xCF),
];

pub(super) fn dataplane(dataplane: Dataplane) -> &'static str {
    match dataplane {
        Dataplane::Margay => "Margay",
        Dataplane::Kernel => "Linux kernel",
        Dataplane::Ovs => "Open vSwitch",
        Dataplane::Testpmd => "DPDK testpmd",
        Dataplane::Bare => "bare AF_XDP",
    }
}

pub(super) fn job(job: Job) -> &'static str {
    match job {
        Job::L3 => "plain L3",
        Job::VxlanDecap => "VXLAN decapsulation",
        Job::VxlanEncap => "VXLAN encapsulation",
        Job::VxlanBoth => "VXLAN to VXLAN",
        Job::Tcp => "one TCP stream",
        Job::Cps => "connections a second",
        Job::Latency => "latency at half load",
    }
}

pub(super) fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Mpps => "throughput, million packets a second",
        Metric::Gbps => "throughput, Gbit/s",
        Metric::Cps => "connections a second",
        Metric::P50 => "median latency, microseconds",
        Metric::P99 => "99th percentile of latency, microseconds",
        Metric::Cpu => "processor seconds for a million packets, softirq included",
        Metric::Loss => "loss, percent",
    }
}

pub(super) fn size(size: u16) -> String {
    if size == IMIX_SIZE { "IMIX".to_owned() } else { grouped(u32::from(size)) }
}

pub(super) fn policies(count: u32) -> String {
    if count == 1 { "1 policy".to_owned() } else { format!("{} policies", grouped(count)) }
}

pub(super) fn flows(count: u32) -> String {
    if count == 1 { "1 flow".to_owned() } else { format!("{} flows", grouped(count)) }
}

pub(super) fn bytes(of: u16) -> String {
    if of == IMIX_SIZE { "IMIX".to_owned() } else { format!("{} bytes", size(of)) }
}

/// Three digits that count, and no more than are of use.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        at if at < 0.001 => format!("{value:.1e}"),
        at if at < 1.0 => trimmed(format!("{value:.3}")),
        at if at < 10.0 => trimmed(format!("{value:.2}")),
        at if at < 1000.0 => trimmed(format!("{value:.1}")),
        _ => format!("{value:.0}").parse().map_or_else(|_| format!("{value:.3e}"), grouped),
    }
}

/// A tick's label: as few digits as it takes.
pub(super) fn tick(value: f64) -> String {
    if value.abs() >= 1000.0 { figure(value) } else { trimmed(format!("{value:.4}")) }
}

fn trimmed(digits: String) -> String {
    if !digits.contains('.') {
        return digits;
    }
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_count() {
        let cases = [
            (0.0, "0"),
            (0.00004, "4.0e-5"),
            (0.8371, "0.837"),
            (0.5, "0.5"),
            (1.0, "1"),
            (12.34, "12.3"),
            (250.0, "250"),
            (48_912.4, "48,912"),
            (1e12, "1.000e12"),
            (-2.5, "-2.5"),
        ];
        for (value, text) in cases {
            assert_eq!(figure(value), text);
        }
        assert_eq!([0.25, 0.0, 10.0, 50_000.0].map(tick), ["0.25", "0", "10", "50,000"]);
    }
}
