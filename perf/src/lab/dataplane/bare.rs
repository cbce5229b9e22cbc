//! A bare forwarder: Margay's ports and nothing between them but other MAC addresses. No gateway on these ports is faster, and
//! what Margay takes longer is what its pipeline costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, ensure};
use core_affinity::CoreId;
use margay_fastpath::port::xdp::XdpPort;
use margay_fastpath::steer::Kind;
use margay_fastpath::xdp::{Opened, PortSpec, Xdp};
use margay_fastpath::{Burst, FramePool, Layout, Port, Umem};
use margay_flowtable::PortId;
use margay_testbed::netns;
use nix::net::if_::if_nametoindex;

use super::{Cores, Description, Gateway};
use crate::lab::case::Dataplane;
use crate::lab::site::{End, Site};
use crate::lab::world::{GATEWAY_MAC, MAC};

/// Margay's default.
const LAYOUT: Layout = Layout { chunk_size: 2048, chunks: 1 << 16 };

struct Bare {
    netns: String,
    xdp: Xdp,
    ports: [u32; 2],
    forwarded: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Forwarder<XdpPort>>>,
    description: Description,
}

/// Forwards between the two sides, whatever comes.
pub fn start(site: &Site, cores: Cores) -> Result<Box<dyn Gateway>> {
    let (xdp, forwarder, opened) = netns::within(&site.gateway, || open(site))??;
    let description = describe(&xdp, &opened, cores);
    let (forwarded, is_over) = (Arc::clone(&forwarder.forwarded), Arc::default());
    let thread = spawn(forwarder, cores.dataplane, Arc::clone(&is_over))?;
    let ports = opened.map(|(ifindex, _)| ifindex);
    let netns = site.gateway.clone();
    Ok(Box::new(Bare { netns, xdp, ports, forwarded, is_over, thread: Some(thread), description }))
}

impl Gateway for Bare {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn forwarded(&self) -> Result<u64> {
        ensure!(!self.thread.as_ref().is_none_or(JoinHandle::is_finished), "the bare forwarder has ended");
        Ok(self.forwarded.load(Ordering::Relaxed))
    }

    /// It drops nothing: what it has no room for waits where it was received.
    fn drops(&self) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let forwarder = self.thread.take().and_then(|thread| thread.join().ok());
        let (xdp, ports) = (&mut self.xdp, self.ports);
        // Where the namespace is gone, so are the devices and what was attached to them.
        let _ = netns::within(&self.netns, || {
            if let Some(Forwarder { umem, mut pool, mut ports, .. }) = forwarder {
                for port in &mut ports {
                    port.drain(&umem, &mut pool);
                }
            }
            ports.map(|ifindex| xdp.close_port(ifindex))
        });
    }
}

/// Index and how it was opened, of each port.
type Ends = [(u32, String); 2];

fn open(site: &Site) -> Result<(Xdp, Forwarder<XdpPort>, Ends)> {
    let (mut xdp, frames) = Xdp::load_unsteered(LAYOUT)?;
    let mut pool = FramePool::with_capacity(frames.len());
    pool.extend(frames);
    let [(source, one), (sink, other)] = [open_port(&mut xdp, site, 0)?, open_port(&mut xdp, site, 1)?];
    let umem = Arc::clone(xdp.umem());
    Ok((xdp, Forwarder::new(umem, pool, [source, sink]), [one, other]))
}

fn open_port(xdp: &mut Xdp, site: &Site, side: usize) -> Result<(XdpPort, (u32, String))> {
    let End { gateway_device: device, .. } = &site.sides[side];
    let ifindex = if_nametoindex(device.as_str()).with_context(|| format!("no device {device}"))?;
    // Rings as Margay has them in the lab, at the pod's port too.
    let Opened { ports, mode, is_zero_copy, .. } =
        xdp.open_port(&PortSpec::new(PortId(side as u16), ifindex, Kind::Uplink))?;
    let [port] = <[XdpPort; 1]>::try_from(ports).map_err(|ports| {
        anyhow::anyhow!("{device} has {} queues: the lab's devices have one", ports.len())
    })?;
    let copies = if is_zero_copy { "zero-copy" } else { "copy" };
    Ok((port, (ifindex, format!("{device}: AF_XDP, {mode}, {copies}"))))
}

fn describe(xdp: &Xdp, ends: &Ends, cores: Cores) -> Description {
    let pages = if xdp.is_on_huge_pages() { "huge pages" } else { "small pages" };
    let memory = format!("UMEM: {} chunks of {} bytes on {pages}", LAYOUT.chunks, LAYOUT.chunk_size);
    Description {
        dataplane: Dataplane::Bare,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        arrangement: format!(
            "one thread that spins on core {}: receives from rings, sends, and does what the kernel does with a frame sent; \
             the kernel's part of receiving on core {}, in the softirq in which packets are made",
            cores.dataplane, cores.generator
        ),
        settings: ends.iter().map(|(_, how)| how.clone()).chain([memory]).collect(),
    }
}

fn spawn(
    mut forwarder: Forwarder<XdpPort>,
    core: usize,
    is_over: Arc<AtomicBool>,
) -> Result<JoinHandle<Forwarder<XdpPort>>> {
    let run = move || {
        core_affinity::set_for_current(CoreId { id: core });
        while !is_over.load(Ordering::Relaxed) {
            forwarder.turn();
        }
        forwarder
    };
    thread::Builder::new().name("bare".to_owned()).spawn(run).context("cannot start the bare forwarder")
}

/// Two ports, and what came in by one and goes out by the other.
struct Forwarder<P> {
    umem: Arc<Umem>,
    pool: FramePool,
    ports: [P; 2],
    /// On their way out, by port.
    waiting: [Burst; 2],
    forwarded: Arc<AtomicU64>,
}

impl<P: Port> Forwarder<P> {
    fn new(umem: Arc<Umem>, pool: FramePool, ports: [P; 2]) -> Self {
        Self { umem, pool, ports, waiting: Default::default(), forwarded: Arc::default() }
    }

    fn turn(&mut self) {
        self.forward(0, 1);
        self.forward(1, 0);
        for port in &mut self.ports {
            port.reclaim(&self.umem, &mut self.pool);
        }
    }

    fn forward(&mut self, from: usize, to: usize) {
        let burst = &mut self.waiting[to];
        let late = burst.len();
        self.ports[from].rx(&self.umem, burst, &mut self.pool);
        for frame in &mut burst.as_mut_slice()[late..] {
            readdress(self.umem.bytes_mut(frame), to);
        }
        let before = burst.len();
        self.ports[to].tx(&self.umem, burst);
        self.forwarded.fetch_add((before - burst.len()) as u64, Ordering::Relaxed);
    }
}

/// From the gateway to whoever stands on that side.
fn readdress(frame: &mut [u8], side: usize) {
    if let Some(addresses) = frame.first_chunk_mut::<12>() {
        addresses[..6].copy_from_slice(&MAC[side]);
        addresses[6..].copy_from_slice(&GATEWAY_MAC[side]);
    }
}

#[cfg(test)]
mod tests {
    use margay_fastpath::port::memory::MemoryPort;

    use super::*;

    #[test]
    fn what_comes_in_by_one_port_leaves_by_the_other_and_no_frame_is_lost() {
        const CHUNKS: u32 = 64;
        let (umem, frames) = Umem::heap(Layout { chunk_size: 2048, chunks: CHUNKS });
        let mut pool = FramePool::with_capacity(frames.len());
        pool.extend(frames);
        let all = pool.len();
        // The second has room for less than a burst.
        let ports = [MemoryPort::new(PortId(0), 64), MemoryPort::new(PortId(1), 3)];
        let wires = [ports[0].wire(), ports[1].wire()];
        let mut forwarder = Forwarder::new(Arc::clone(&umem), pool, ports);
        for (side, count) in [(0, 10), (1, 5)] {
            for number in 0..count {
                let mut frame = forwarder.pool.get().expect("a chunk");
                assert!(umem.fill(&mut frame, &[&[0xff; 12][..], &[number]].concat()));
                wires[side].inject(frame).expect("room on the wire");
            }
        }
        let mut arrived = [0, 0];
        for _ in 0..10 {
            forwarder.turn();
            for (to, wire) in wires.iter().enumerate() {
                while let Some(frame) = wire.sent() {
                    let expected = [&MAC[to][..], &GATEWAY_MAC[to], &[arrived[to]]].concat();
                    assert_eq!(umem.bytes(&frame), expected);
                    arrived[to] += 1;
                    forwarder.pool.put(frame);
                }
            }
        }
        assert_eq!(arrived, [5, 10]);
        assert_eq!(forwarder.forwarded.load(Ordering::Relaxed), 15);
        assert_eq!(forwarder.pool.len(), all);
    }

    #[test]
    fn a_frame_that_is_too_short_to_have_addresses_is_left_as_it_is() {
        let mut frame = [7; 11];
        readdress(&mut frame, 1);
        assert_eq!(frame, [7; 11]);
    }
}
