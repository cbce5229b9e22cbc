//! TCP packets in the middle of a connection that the flow table does not have: what is done with them, and when.
//!
//! Such a packet comes of a connection that was open before Margay started, that came here from another gateway, or
//! that has expired; or it belongs to none, as a scan's. Shortly after the start the first is likely, later it is not.

use std::time::Duration;

use margay_encap::protocol;
use margay_encap::tcp::flags::{ACK, FIN, RST, SYN};
use margay_flowtable::conntrack::opens;

/// What to do with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MidFlow {
    /// Judge them as first packets in the direction that they go, and take their connection up.
    #[default]
    Pickup,
    /// The same for so long after the worker's start, then drop.
    PickupFor(Duration),
    /// Drop them.
    Drop,
}

/// What becomes of a packet without a connection that policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It makes a connection.
    Enter,
    /// It is forwarded and makes none.
    Pass,
    /// It is dropped.
    Refuse,
}

impl MidFlow {
    /// What becomes of the packet at `now`, in milliseconds of the worker's clock.
    pub(super) fn admit(self, protocol: u8, tcp_flags: u8, now: u64) -> Admission {
        if protocol != protocol::TCP || opens(tcp_flags) {
            return Admission::Enter;
        }
        let picks_up = match self {
            Self::Pickup => true,
            Self::PickupFor(time) => u128::from(now) < time.as_millis(),
            Self::Drop => false,
        };
        match tcp_flags & (SYN | ACK | FIN | RST) {
            _ if !picks_up => Admission::Refuse,
            // Nothing follows a RST. It still tells the other end, which may hold the connection, that this one does not.
            flags if flags & RST != 0 => Admission::Pass,
            _ => Admission::Enter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_by_every_mode() {
        use Admission::{Enter, Pass, Refuse};
        let for_a_minute = MidFlow::PickupFor(Duration::from_secs(60));
        let picks_up = [(MidFlow::Pickup, u64::MAX), (for_a_minute, 0), (for_a_minute, 59_999)];
        let drops = [(MidFlow::Drop, 0), (for_a_minute, 60_000), (for_a_minute, u64::MAX)];
        let cases = [
            (protocol::TCP, SYN, Enter, Enter, "opens a connection"),
            (protocol::TCP, ACK, Enter, Refuse, "data"),
            (protocol::TCP, SYN | ACK, Enter, Refuse, "answers a SYN that went another way"),
            (protocol::TCP, FIN | ACK, Enter, Refuse, "ends a connection; the other end's ACK has to pass"),
            (protocol::TCP, RST, Pass, Refuse, "resets"),
            (protocol::TCP, RST | ACK, Pass, Refuse, "resets"),
            (protocol::UDP, 0, Enter, Enter, "has no connection to be in the middle of"),
            (protocol::ICMP, 0, Enter, Enter, "has no connection to be in the middle of"),
        ];
        for (protocol, flags, picked_up, dropped, what) in cases {
            for (mode, now) in picks_up {
                assert_eq!(mode.admit(protocol, flags, now), picked_up, "{what}: {mode:?} at {now}");
            }
            for (mode, now) in drops {
                assert_eq!(mode.admit(protocol, flags, now), dropped, "{what}: {mode:?} at {now}");
            }
        }
    }
}
