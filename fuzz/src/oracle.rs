//! What holds of everything that leaves, whatever came in: it is a packet that came in and may go that way, with what
//! forwarding changes, or a part of one, or an error about one.

mod answer;
mod arrival;
mod departure;
pub mod tunnel;

use std::net::IpAddr;
use std::ops::Range;

use margay_flowtable::PortId;

pub use arrival::Arrival;

use crate::world::World;

/// A frame that the packet path gave to a port.
#[derive(Debug)]
pub struct Sent {
    pub port: PortId,
    pub frame: Vec<u8>,
}

/// Panics where one of the frames sent is not accounted for by what came in, or only a part of a packet left.
pub fn account(world: &World, arrivals: &[Arrival], sent: &[Sent]) {
    let mut left: Vec<Vec<Range<usize>>> = vec![Vec::new(); arrivals.len()];
    let mut parts = Vec::new();
    for sent in sent {
        check(world, sent);
        let of: Vec<_> = (0..arrivals.len())
            .filter_map(|at| Some((at, departure::part(world, &arrivals[at], sent)?)))
            .collect();
        let is_answer = || arrivals.iter().any(|arrival| answer::is_about(world, arrival, sent));
        let is_accounted_for = !of.is_empty() || is_answer();
        assert!(
            is_accounted_for,
            "nothing accounts for {sent:02x?}\nof {arrivals:02x?}\nby {:?}",
            world.config
        );
        of.iter().for_each(|(at, part)| left[*at].push(part.clone()));
        parts.push((sent, of));
    }
    let is_whole: Vec<_> = arrivals.iter().zip(left).map(|(arrival, left)| is_whole(arrival, left)).collect();
    for (sent, of) in parts {
        // Whose parts these are may be told in more than one way.
        assert!(
            of.is_empty() || of.iter().any(|(at, _)| is_whole[*at]),
            "the rest of {sent:02x?} did not leave"
        );
    }
}

/// Whether these parts of its payload are all of it.
fn is_whole(arrival: &Arrival, mut parts: Vec<Range<usize>>) -> bool {
    parts.sort_by_key(|part| part.start);
    let end = parts.iter().fold(0, |end, part| if part.start <= end { end.max(part.end) } else { end });
    end == arrival.view.end - arrival.view.transport
}

/// What holds whatever came in.
fn check(world: &World, sent: &Sent) {
    assert!(world.is_open(sent.port), "{sent:02x?} leaves by a port that is no more");
    let mtu = world.config.mtus[usize::from(sent.port.0)];
    assert!(sent.frame.len() <= usize::from(mtu) + 14, "{sent:02x?} is longer than {mtu}");
}

/// The IP packet in a frame, cut to its end, if its version is what the `EtherType` says.
fn packet(frame: &[u8]) -> Option<&[u8]> {
    let packet = frame.get(14..)?;
    let version = packet.first()? >> 4;
    let end = crate::view::View::of(packet)?.end;
    (frame[12..14] == ethertype(version == 6)).then(|| &packet[..end])
}

fn ethertype(is_ipv6: bool) -> [u8; 2] {
    if is_ipv6 { [0x86, 0xdd] } else { [8, 0] }
}

fn is_same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv6() == other.is_ipv6()
}
