//! ICMP errors of our own: which drops are answered, and how often.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::icmp::unreachable;
use margay_encap::icmp_error::{self, IcmpError};
use margay_encap::icmp6_error::{self, Icmp6Error};
use margay_encap::{Headers, addresses6, ethernet, icmp, ipv4, ipv6, parse_ip, parse_ip6};
use margay_flowtable::{Interface, NextHopId, PortId, Snapshot, WayOut};

use super::lane::Lane;
use super::{Pipeline, Turn, rewrite};
use crate::drop::DropReason;
use crate::egress::Egress;
use crate::frame::Frame;
use crate::tap::Leaving;
use crate::umem::FramePool;

/// Errors a second of one worker, and how many may come at once (RFC 1812 4.3.2.8 asks for a limit; Linux'
/// `icmp_msgs_per_sec` and `icmp_msgs_burst` are 1000 and 50).
const PER_SECOND: u64 = 1000;
const AT_ONCE: u64 = 50;

#[derive(Debug)]
pub(super) struct Answers {
    /// Token bucket in thousandths of an error, and when it was last filled.
    tokens: u64,
    filled: u64,
    ident: u16,
}

impl Default for Answers {
    fn default() -> Self {
        Self { tokens: AT_ONCE * 1000, filled: 0, ident: 0 }
    }
}

impl Answers {
    /// An IP identification for a header of our own.
    #[inline]
    pub(super) fn next_ident(&mut self) -> u16 {
        self.ident = self.ident.wrapping_add(1);
        self.ident
    }

    /// So many of them: those after the one returned.
    #[inline]
    pub(super) fn next_idents(&mut self, count: usize) -> u16 {
        let last = self.ident;
        self.ident = last.wrapping_add(count as u16);
        last
    }

    /// The packet that answers this drop, behind room for its Ethernet header; `None` where none is due, or the limit
    /// or the pool is exhausted.
    #[cold]
    pub(super) fn to(
        &mut self,
        turn: &Turn<'_>,
        frame: &Frame,
        lane: &Lane,
        reason: DropReason,
        pool: &mut FramePool,
    ) -> Option<Frame> {
        let (headers, offending) = (&lane.headers, turn.umem.bytes(frame));
        let error = error_of(turn.snapshot, lane, reason)?;
        let mut packet = [0; ethernet::HEADER_LEN + icmp6_error::MAX_LEN];
        let room = &mut packet[ethernet::HEADER_LEN..];
        let room = &mut room[..longest_back(turn.snapshot, offending, headers)?];
        let len = if headers.is_ipv6() {
            let (error, src) = (Icmp6Error::from(error), turn.snapshot.local.icmp6_source?);
            if !error.may_answer(headers, offending) || !self.take_token(turn.now) {
                return None;
            }
            error.write(room, src, offending, headers)
        } else {
            let src = source_toward(turn.snapshot, headers.src())?.to_bits();
            if !icmp_error::may_answer(headers, offending) || !self.take_token(turn.now) {
                return None;
            }
            error.write(room, src, self.next_ident(), offending, headers)
        };
        let mut answer = pool.get()?;
        // A chunk holds at least 2048 - 256 bytes.
        let fits = turn.umem.fill(&mut answer, &packet[..ethernet::HEADER_LEN + len]);
        debug_assert!(fits);
        Some(answer)
    }

    fn take_token(&mut self, now: u64) -> bool {
        let earned = now.saturating_sub(self.filled) * PER_SECOND;
        self.tokens = (self.tokens + earned).min(AT_ONCE * 1000);
        self.filled = now;
        let Some(left) = self.tokens.checked_sub(1000) else { return false };
        self.tokens = left;
        true
    }
}

/// The longest error that the way back to the sender takes. `None` where there is no way back, or none that takes an error
/// which quotes anything.
fn longest_back(snapshot: &Snapshot, offending: &[u8], headers: &Headers) -> Option<usize> {
    let (src, least) = if headers.is_ipv6() {
        (addresses6(offending, headers)[0].into(), ipv6::HEADER_LEN + icmp::HEADER_LEN)
    } else {
        (IpAddr::V4(Ipv4Addr::from_bits(headers.src())), ipv4::HEADER_LEN + icmp::HEADER_LEN)
    };
    let NextHopId(id) = snapshot.fib.lookup(src)?;
    let mtu = usize::from(snapshot.next_hops.rewrite(id)?.mtu);
    (mtu > least).then_some(mtu.min(icmp6_error::MAX_LEN))
}

/// What is said of this drop, if anything.
fn error_of(snapshot: &Snapshot, lane: &Lane, reason: DropReason) -> Option<IcmpError> {
    let says_unreachable = snapshot.local.answers_unreachable;
    Some(match reason {
        DropReason::TtlExceeded => IcmpError::TimeExceeded,
        DropReason::FragmentationNeeded => {
            IcmpError::FragmentationNeeded { mtu: snapshot.next_hops.rewrite(lane.next_hop.get().ok()?)?.mtu }
        }
        DropReason::NoRoute if says_unreachable => IcmpError::Unreachable { code: unreachable::NET },
        DropReason::Blackhole if says_unreachable => IcmpError::Unreachable { code: unreachable::HOST },
        _ => return None,
    })
}

/// The address of ours that errors to there come from: one whose route, where they arrive, leads the way that they came, or a
/// node that checks that drops them.
fn source_toward(snapshot: &Snapshot, dst: u32) -> Option<Ipv4Addr> {
    let local = &snapshot.local;
    let in_tunnel = match snapshot.way_out(Ipv4Addr::from_bits(dst).into()) {
        WayOut::By(Interface::Ipip) => local.icmp_source_in_ipip,
        WayOut::By(Interface::Vxlan) => local.icmp_source_in_vxlan,
        _ => None,
    };
    in_tunnel.or(local.icmp_source)
}

impl Pipeline {
    /// Sends an ICMP error of ours along the route to its destination. It needs no flow and no policy: it belongs to
    /// the flow of the packet that it quotes, which came in by `input`.
    pub(super) fn send_answer(
        &mut self,
        turn: &Turn<'_>,
        mut answer: Frame,
        input: PortId,
        pool: &mut FramePool,
        egress: &mut Egress,
    ) {
        let ident = self.answers.next_ident();
        let Some(port) = address(turn, &mut answer, ident) else { return pool.put(answer) };
        let bytes = answer.len() as u64;
        self.tap_leaving(turn, &answer, port, Leaving::Answer);
        let queued = egress.push(port, answer);
        self.taps.settle(queued.is_ok());
        match queued {
            Ok(()) => {
                self.counters.port(input).answered.add(1);
                self.counters.port(port).tx.add(1);
                self.counters.port(port).tx_bytes.add(bytes);
            }
            Err((answer, _)) => pool.put(answer),
        }
    }
}

/// Gives the answer its outer and Ethernet headers; `None` where nothing leads back to the sender.
fn address(turn: &Turn<'_>, answer: &mut Frame, ident: u16) -> Option<PortId> {
    let bytes = turn.umem.bytes(answer);
    let l3 = ethernet::HEADER_LEN as u16;
    let (headers, dst) = if let Ok(headers) = parse_ip(bytes, l3) {
        (headers, IpAddr::V4(Ipv4Addr::from_bits(headers.dst())))
    } else {
        let headers = parse_ip6(bytes, l3).ok()?;
        (headers, IpAddr::V6(addresses6(bytes, &headers)[1]))
    };
    let NextHopId(id) = turn.snapshot.fib.lookup(dst)?;
    let rewrite = turn.snapshot.next_hops.rewrite(id)?;
    rewrite::push(turn.umem, answer, &headers, rewrite, headers.ttl(), 0, ident).ok()?;
    Some(rewrite.port)
}
