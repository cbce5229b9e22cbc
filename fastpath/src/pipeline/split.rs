//! Packets without DF that are longer than their next hop takes: they leave in fragments, each in its tunnel.

use margay_encap::segment::Segments;
use margay_encap::split::{Fragment, Split};
use margay_encap::{Headers, ethernet, parse_ip};
use margay_flowtable::{NextHopId, PortId};

use super::lane::Lane;
use super::{Pipeline, Turn, rewrite, segment};
use crate::drop::DropReason;
use crate::egress::Egress;
use crate::frame::Frame;
use crate::tap::{Fate, Leaving};
use crate::umem::FramePool;

impl Pipeline {
    /// Sends the lane's packet in segments where it is several in one, else in fragments: all of them or none.
    #[cold]
    pub(super) fn split(
        &mut self,
        turn: &Turn<'_>,
        mut frame: Frame,
        slot: usize,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let lane = self.lanes[slot];
        let sent = if lane.headers.is_several() {
            self.send_segments(turn, &frame, &lane, pool, egress)
        } else {
            self.send_split(turn, &mut frame, &lane, 1, pool, egress)
        };
        match sent {
            Ok(()) => {
                self.counters.port(frame.port).forwarded.add(1);
                self.taps.end(Fate::Split);
                pool.put(frame);
            }
            Err(reason) => self.end(frame, reason, pool),
        }
    }

    /// Sends the lane's packet in fragments, where there is room for those of `packets` that are no longer.
    fn send_split(
        &mut self,
        turn: &Turn<'_>,
        frame: &mut Frame,
        lane: &Lane,
        packets: usize,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) -> Result<(), DropReason> {
        let headers = &lane.headers;
        let (rewrite, ttl) = rewrite::departure(turn.snapshot, headers, NextHopId(lane.next_hop.get()?))?;
        rewrite::prepare(turn, frame, headers, rewrite)?;
        let longest = turn.umem.layout().longest_frame() as usize - ethernet::HEADER_LEN;
        let mtu = rewrite.mtu.min(u16::try_from(longest).unwrap_or(u16::MAX));
        let packet = usize::from(headers.l3())..headers.end() as usize;
        let split = Split::new(&turn.umem.bytes(frame)[packet], ttl, mtu);
        let split =
            split.filter(|_| !headers.is_ipv6() && !headers.dont_fragment()).ok_or(DropReason::TooBig)?;
        if egress.room(rewrite.port)? < split.count() * packets {
            return Err(DropReason::TxFull);
        }
        if pool.len() < split.count() * packets {
            return Err(DropReason::NoFrame);
        }
        for fragment in split.fragments() {
            let Some(made) = pool.get() else { break };
            let mut made = lay_out(turn, frame, headers, made, &fragment);
            let ident = self.answers.next_ident();
            match rewrite::push(turn.umem, &mut made, headers, rewrite, ttl, lane.query.hash(), ident) {
                Ok(_) => self.send(turn, rewrite.port, made, pool, egress),
                Err(_) => pool.put(made),
            }
        }
        Ok(())
    }

    /// Sends in fragments what each datagram of several in one is: all of them or none.
    pub(super) fn send_split_datagrams(
        &mut self,
        turn: &Turn<'_>,
        frame: &Frame,
        lane: &Lane,
        datagrams: &Segments<'_>,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) -> Result<(), DropReason> {
        let mut datagram = pool.get_large().ok_or(DropReason::NoFrame)?;
        let count = datagrams.count();
        let sent = (0..count).try_for_each(|index| {
            segment::lay_out(turn, frame, &mut datagram, datagrams, index);
            let headers = parse_ip(turn.umem.bytes(&datagram), ethernet::HEADER_LEN as u16);
            let lane = Lane { headers: headers.map_err(|_| DropReason::TooBig)?, ..*lane };
            self.send_split(turn, &mut datagram, &lane, count - index, pool, egress)
        });
        pool.put(datagram);
        sent
    }

    /// Queues a frame that did not come in.
    pub(super) fn send(
        &mut self,
        turn: &Turn<'_>,
        port: PortId,
        frame: Frame,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let bytes = frame.len() as u64;
        self.tap_leaving(turn, &frame, port, Leaving::Piece);
        let queued = egress.push_split(port, frame);
        self.taps.settle(queued.is_ok());
        match queued {
            Ok(()) => {
                self.counters.port(port).tx.add(1);
                self.counters.port(port).tx_bytes.add(bytes);
            }
            Err((frame, _)) => pool.put(frame),
        }
    }
}

/// Puts a fragment of the packet in `frame` into `made`, behind room for its Ethernet header.
fn lay_out(turn: &Turn<'_>, frame: &Frame, headers: &Headers, mut made: Frame, fragment: &Fragment) -> Frame {
    let from = turn.umem.bytes(frame);
    let payload = &from[usize::from(headers.transport())..headers.end() as usize][fragment.payload.clone()];
    let l4 = ethernet::HEADER_LEN + fragment.header().len();
    // As many bytes, of which all but the Ethernet header's are written over.
    let fits = turn.umem.fill(&mut made, &from[..l4 + payload.len()]);
    debug_assert!(fits, "the MTU was bounded by what a chunk holds");
    let bytes = turn.umem.bytes_mut(&mut made);
    bytes[ethernet::HEADER_LEN..l4].copy_from_slice(fragment.header());
    bytes[l4..].copy_from_slice(payload);
    made.port = frame.port;
    made
}
