//! Load by `AF_XDP`: what the source of BPF sends and longer packets too, which go out and come in in several buffers, and a sink
//! that sees whole packets. Slower than the ones of BPF: a system call a burst, and a copy a packet.
//!
//! Source and sink share a core, and so a thread: the source looks after the sink between its bursts.

mod sink;
mod source;
mod tally;

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use margay_fastpath::port::xdp::XdpPort;
use margay_fastpath::xdp::{PortSpec, RingSizes, Xdp};
use margay_fastpath::{Frame, FramePool, Layout, Port, Umem};
use margay_flowtable::PortId;
use margay_testbed::netns;
use nix::net::if_::if_nametoindex;

pub use sink::Sink;
pub use source::Source;

use crate::lab::site::End;

/// Most packets fit a chunk; longer ones have large buffers.
const LAYOUT: Layout = Layout { chunk_size: 4096, chunks: 8192 };

/// One end's device as a port, with frames of its own. Dropped, it leaves the device as it was.
#[derive(Debug)]
struct Device {
    netns: String,
    ifindex: u32,
    xdp: Xdp,
    umem: Arc<Umem>,
    pool: FramePool,
    port: XdpPort,
}

impl Device {
    /// Opens the end's device by a program of `load`'s.
    fn open(
        end: &End,
        rings: RingSizes,
        load: impl FnOnce() -> Result<(Xdp, Vec<Frame>)> + Send,
    ) -> Result<Self> {
        let End { netns, device, .. } = end;
        let opened = netns::within(netns, || {
            let (mut xdp, frames) = load()?;
            let ifindex = if_nametoindex(*device).with_context(|| format!("no device {device}"))?;
            let like = PortSpec::new(PortId(0), ifindex, margay_fastpath::steer::Kind::Uplink);
            let opened = xdp.open_port(&PortSpec { rings, tx_checksum: false, ..like })?;
            let mut pool = FramePool::with_capacity(frames.len());
            pool.extend(frames);
            let port = opened.ports.into_iter().next().ok_or_else(|| anyhow!("{device} has no queue"))?;
            let umem = Arc::clone(xdp.umem());
            Ok(Self { netns: netns.clone(), ifindex, xdp, umem, pool, port })
        })?;
        opened.map_err(|error: anyhow::Error| error.context(format!("AF_XDP on {device} in {netns}")))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.port.drain(&self.umem, &mut self.pool);
        let (xdp, ifindex) = (&mut self.xdp, self.ifindex);
        // Where the namespace is gone, so are the device and what was attached to it.
        let _ = netns::within(&self.netns, || xdp.close_port(ifindex));
    }
}

#[cfg(test)]
mod tests;
