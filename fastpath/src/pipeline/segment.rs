//! Packets that came in several in one (GSO), which a port in skb mode alone has: each leaves by itself, in its tunnel.
//!
//! Where the kernel tells which these are and how long each was (`xdp/gso.rs`), they are cut there: datagrams are what their
//! sender sent, and a segment of TCP is no longer than its sender wanted it. Where it does not, none but these is longer than its
//! port's MTU, and each segment of TCP had to fit there; of UDP nothing shows.

use margay_encap::segment::Segments;
use margay_encap::{Headers, ethernet, protocol, udp};
use margay_flowtable::NextHopId;

use super::lane::Lane;
use super::{Pipeline, Turn, rewrite};
use crate::drop::DropReason;
use crate::egress::Egress;
use crate::frame::{Burst, Frame, Gso};
use crate::umem::{FramePool, XDP_HEADROOM};

/// Where a packet is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Into packets that fit there.
    Mtu(u16),
    /// After so many bytes of payload.
    Size(u16),
}

impl Cut {
    fn of(turn: &Turn<'_>, frame: &Frame, headers: &Headers) -> Option<Self> {
        let is_out_of_tunnel = pulled(turn, frame) > 0;
        match (frame.gso, headers.protocol()) {
            (Gso::Untold, protocol::TCP) => came_by(turn, frame).map(Self::Mtu),
            (Gso::Tcp, protocol::TCP) => Some(Self::Size(frame.gso_size)),
            (Gso::Udp, protocol::UDP) if !is_out_of_tunnel => Some(Self::Size(frame.gso_size)),
            (Gso::UdpInTunnel, protocol::UDP) if is_out_of_tunnel => Some(Self::Size(frame.gso_size)),
            _ => None,
        }
    }
}

/// Bytes of the tunnel's headers that the packet came in: they were before it, where there is more room now than when it came.
fn pulled(turn: &Turn<'_>, frame: &Frame) -> u32 {
    turn.umem.headroom(frame).saturating_sub(XDP_HEADROOM + u32::from(frame.stripped))
}

/// The MTU that a packet fitted which came in by the frame's port, and in its tunnel.
fn came_by(turn: &Turn<'_>, frame: &Frame) -> Option<u16> {
    Some(turn.snapshot.port(frame.port)?.mtu.saturating_sub(pulled(turn, frame) as u16))
}

fn is_several(turn: &Turn<'_>, frame: &Frame, headers: &Headers) -> bool {
    match frame.gso {
        Gso::Never | Gso::One => false,
        // The checksum of several in one is always left to who cuts them.
        Gso::Untold => {
            headers.checksum_partial() && came_by(turn, frame).is_some_and(|mtu| headers.total_len() > mtu)
        }
        Gso::Tcp | Gso::Udp | Gso::UdpInTunnel | Gso::Other => true,
    }
}

/// Whether the packet is several that fit there, or that no error is due for.
#[cold]
pub(super) fn is_of_fitting(turn: &Turn<'_>, frame: &Frame, headers: &Headers, mtu: u16) -> bool {
    headers.is_several()
        && match Cut::of(turn, frame, headers) {
            Some(Cut::Size(size)) if headers.protocol() == protocol::UDP => {
                usize::from(headers.transport() - headers.l3()) + udp::HEADER_LEN + usize::from(size)
                    <= usize::from(mtu)
            }
            _ => true,
        }
}

impl Pipeline {
    /// Notes which packets of a burst are several in one.
    #[cold]
    pub(super) fn note_several(&mut self, turn: &Turn<'_>, burst: &Burst) {
        for (lane, frame) in self.lanes.iter_mut().zip(burst.as_slice()) {
            if lane.next_hop.is_open() && is_several(turn, frame, &lane.headers) {
                lane.headers.set_several();
            }
        }
    }

    /// Sends the lane's packet as the several that it is, each to its next hop: all of them or none.
    pub(super) fn send_segments(
        &mut self,
        turn: &Turn<'_>,
        frame: &Frame,
        lane: &Lane,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) -> Result<(), DropReason> {
        let headers = &lane.headers;
        let cut = Cut::of(turn, frame, headers).ok_or(DropReason::UdpGso)?;
        let (rewrite, ttl) = rewrite::departure(turn.snapshot, headers, NextHopId(lane.next_hop.get()?))?;
        let (mtu, size) = match cut {
            Cut::Mtu(mtu) => (mtu.min(rewrite.mtu), None),
            Cut::Size(size) => (rewrite.mtu, Some(size)),
        };
        // Segments of TCP may be as short as a chunk.
        let in_chunk = u16::try_from(in_chunk(turn)).unwrap_or(u16::MAX);
        let mtu = if headers.protocol() == protocol::TCP { mtu.min(in_chunk) } else { mtu };
        let bytes = turn.umem.bytes(frame);
        let segments = |ttl| Segments::new(bytes, headers, ttl, mtu, size).ok_or(DropReason::TooBig);
        if segments(ttl)?.longest() > usize::from(mtu) {
            return self.send_split_datagrams(turn, frame, lane, &segments(headers.ttl())?, pool, egress);
        }
        let segments = segments(ttl)?;
        let is_large = segments.longest() > in_chunk.into();
        let free = if is_large { pool.large() } else { pool.len() };
        if egress.room(rewrite.port)? < segments.count() {
            return Err(DropReason::TxFull);
        }
        if free < segments.count() {
            return Err(DropReason::NoFrame);
        }
        for index in 0..segments.count() {
            let Some(mut made) = (if is_large { pool.get_large() } else { pool.get() }) else { break };
            lay_out(turn, frame, &mut made, &segments, index);
            let ident = self.answers.next_ident();
            match rewrite::push(turn.umem, &mut made, headers, rewrite, ttl, lane.query.hash(), ident) {
                Ok(_) => self.send(turn, rewrite.port, made, pool, egress),
                Err(_) => pool.put(made),
            }
        }
        Ok(())
    }
}

/// The longest packet that a chunk holds.
fn in_chunk(turn: &Turn<'_>) -> usize {
    turn.umem.layout().longest_frame() as usize - ethernet::HEADER_LEN
}

/// Puts one of the segments into `made`, behind room for its Ethernet header.
pub(super) fn lay_out(
    turn: &Turn<'_>,
    frame: &Frame,
    made: &mut Frame,
    segments: &Segments<'_>,
    index: usize,
) {
    let bytes = turn.umem.lay_out(made, ethernet::HEADER_LEN + segments.len(index));
    debug_assert!(bytes.is_some(), "it fits, or a large buffer was taken");
    if let Some(bytes) = bytes {
        segments.write(index, &mut bytes[ethernet::HEADER_LEN..]);
    }
    made.port = frame.port;
}
