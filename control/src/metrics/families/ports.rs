//! Metrics of the ports. A port's series are there as long as it is wanted, [`MAX_PORTS`] ports of them at most.

use margay_fastpath::counters::MAX_PORTS;

use super::{Family, Kind, Tell, Value};
use crate::admin::{Port, PortState, Traffic};
use crate::metrics::Scrape;

const PORT: &[&str] = &["port"];

pub(super) const FAMILIES: &[Family] = &[
    Family::new(
        Kind::Info,
        "margay_port",
        &["port", "kind", "device", "pod_namespace", "pod_name", "mode"],
        "A port that is to be: kind uplink, pod or host; mode native or skb, empty while it is not open",
        |scrape, tell| {
            for port in ports(scrape) {
                let (namespace, pod) =
                    port.pod.as_deref().and_then(|pod| pod.split_once('/')).unwrap_or_default();
                let mode = port.mode.as_deref().unwrap_or_default();
                tell(&[&port.name, &port.kind, &port.device, namespace, pod, mode], Value::Info);
            }
        },
    ),
    Family::new(
        Kind::Gauge,
        "margay_port_open",
        &["port", "kind"],
        "1 if the port is open",
        |scrape, tell| state(scrape, tell, PortState::Open),
    ),
    Family::new(
        Kind::Gauge,
        "margay_port_failed",
        &["port", "kind"],
        "1 if its device is there and the port cannot be opened; margay status says why",
        |scrape, tell| state(scrape, tell, PortState::Failed),
    ),
    Family::new(Kind::Counter, "margay_port_receive_packets", PORT, "Frames received", |scrape, tell| {
        each(scrape, tell, |traffic| traffic.rx);
    }),
    Family::new(Kind::Counter, "margay_port_receive", PORT, "Bytes received", |scrape, tell| {
        each(scrape, tell, |traffic| traffic.rx_bytes);
    })
    .of("bytes"),
    Family::new(
        Kind::Counter,
        "margay_port_forwarded_packets",
        PORT,
        "Frames received and handed to an output port",
        |scrape, tell| each(scrape, tell, |traffic| traffic.forwarded),
    ),
    Family::new(
        Kind::Counter,
        "margay_port_dropped_packets",
        PORT,
        "Frames received and dropped, for whatever reason; margay status says which",
        |scrape, tell| each(scrape, tell, |traffic| traffic.drops.values().sum()),
    ),
    Family::new(
        Kind::Counter,
        "margay_port_answered_packets",
        PORT,
        "Frames received and answered by an ICMP error; each of them is dropped too",
        |scrape, tell| each(scrape, tell, |traffic| traffic.answered),
    ),
    Family::new(
        Kind::Counter,
        "margay_port_transmit_packets",
        PORT,
        "Frames given to the port for transmission, ICMP errors of Margay's included",
        |scrape, tell| each(scrape, tell, |traffic| traffic.tx),
    ),
    Family::new(Kind::Counter, "margay_port_transmit", PORT, "Their bytes", |scrape, tell| {
        each(scrape, tell, |traffic| traffic.tx_bytes);
    })
    .of("bytes"),
    Family::new(
        Kind::Counter,
        "margay_port_transmit_lost_packets",
        PORT,
        "Frames given to the port that did not leave: the ring to its worker was full, or it went away",
        |scrape, tell| each(scrape, tell, |traffic| traffic.tx_lost),
    ),
];

fn ports(scrape: &Scrape) -> impl Iterator<Item = &Port> {
    scrape.figures.status.ports.iter().take(MAX_PORTS)
}

fn state(scrape: &Scrape, tell: &mut Tell<'_>, state: PortState) {
    for port in ports(scrape) {
        tell(&[&port.name, &port.kind], (port.state == state).into());
    }
}

/// Of the open ports.
fn each(scrape: &Scrape, tell: &mut Tell<'_>, counter: fn(&Traffic) -> u64) {
    for port in ports(scrape) {
        if let Some(traffic) = &port.traffic {
            tell(&[&port.name], counter(traffic).into());
        }
    }
}
