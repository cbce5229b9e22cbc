//! TCP that came in several packets in one (GSO), which a port in skb mode alone has: it leaves in segments, each in its tunnel.
//!
//! The kernel does not tell an `AF_XDP` socket that a packet is such a one, nor how long its segments are. But none but these is
//! longer than its port's MTU, and each of their segments had to fit there.

use margay_encap::segment::Segments;
use margay_encap::{Headers, ethernet, protocol};
use margay_flowtable::NextHopId;

use super::lane::Lane;
use super::{Pipeline, Turn, rewrite};
use crate::drop::DropReason;
use crate::egress::Egress;
use crate::frame::Frame;
use crate::umem::{FramePool, XDP_HEADROOM};

/// What each packet had to fit that this one is made of. `None`: it is one. The checksum of several in one is always left to
/// who cuts them.
#[cold]
pub(super) fn segments_mtu(turn: &Turn<'_>, frame: &Frame, headers: &Headers) -> Option<u16> {
    if !frame.is_of_skb || !headers.checksum_partial() {
        return None;
    }
    // The headers of a tunnel were before it, where there is more room now than when it came.
    let pulled = turn.umem.headroom(frame).saturating_sub(XDP_HEADROOM + u32::from(frame.stripped));
    let mtu = turn.snapshot.port(frame.port)?.mtu.saturating_sub(pulled as u16);
    (headers.total_len() > mtu).then_some(mtu)
}

impl Pipeline {
    /// Sends the lane's packet in segments that fit `mtu`, and its next hop: all of them or none.
    pub(super) fn send_segments(
        &mut self,
        turn: &Turn<'_>,
        frame: &Frame,
        lane: &Lane,
        mtu: u16,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) -> Result<(), DropReason> {
        let headers = &lane.headers;
        if headers.protocol() != protocol::TCP {
            return Err(DropReason::UdpGso);
        }
        let (rewrite, ttl) = rewrite::departure(turn.snapshot, headers, NextHopId(lane.next_hop.get()?))?;
        let longest = turn.umem.layout().longest_frame() as usize - ethernet::HEADER_LEN;
        let mtu = mtu.min(rewrite.mtu).min(u16::try_from(longest).unwrap_or(u16::MAX));
        let segments = Segments::new(turn.umem.bytes(frame), headers, ttl, mtu).ok_or(DropReason::TooBig)?;
        if egress.room(rewrite.port)? < segments.count() {
            return Err(DropReason::TxFull);
        }
        if pool.len() < segments.count() {
            return Err(DropReason::NoFrame);
        }
        for index in 0..segments.count() {
            let Some(made) = pool.get() else { break };
            let mut made = lay_out(turn, frame, made, &segments, index);
            let ident = self.answers.next_ident();
            match rewrite::push(turn.umem, &mut made, headers, rewrite, ttl, lane.query.hash(), ident) {
                Ok(_) => self.send(rewrite.port, made, pool, egress),
                Err(_) => pool.put(made),
            }
        }
        Ok(())
    }
}

/// Puts a segment into `made`, behind room for its Ethernet header.
fn lay_out(turn: &Turn<'_>, frame: &Frame, mut made: Frame, segments: &Segments<'_>, index: usize) -> Frame {
    let bytes = turn.umem.lay_out(&mut made, ethernet::HEADER_LEN + segments.len(index));
    debug_assert!(bytes.is_some(), "the MTU was bounded by what a chunk holds");
    if let Some(bytes) = bytes {
        segments.write(index, &mut bytes[ethernet::HEADER_LEN..]);
    }
    made.port = frame.port;
    made
}
