//! Where a connection stands, in the words of the kernel's conntrack.

use std::fmt;

use margay_encap::protocol;

use super::{CtState, FIN, LASTING, SYN, both};

/// TCP's are conntrack's states. Of other protocols conntrack says whether both sides have spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The side that opens has spoken, the other has not.
    SynSent,
    /// The other side has answered.
    SynRecv,
    Established,
    /// One side has sent FIN.
    FinWait,
    /// Both have.
    TimeWait,
    /// One has sent RST.
    Close,
    /// No TCP: one side has spoken.
    Unreplied,
    /// No TCP: both have.
    Replied,
    /// No TCP: both have, and it went on.
    Assured,
}

impl Phase {
    pub const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::Unreplied,
        Self::Replied,
        Self::Assured,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
            Self::Assured => "ASSURED",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl CtState {
    pub fn phase(self, protocol: u8) -> Phase {
        if protocol == protocol::TCP { self.tcp_phase() } else { self.other_phase() }
    }

    fn tcp_phase(self) -> Phase {
        if self.is_reset() {
            Phase::Close
        } else if self.is_finished() {
            Phase::TimeWait
        } else if self.legs & both(FIN) != 0 {
            Phase::FinWait
        } else if self.is_established() {
            Phase::Established
        } else if self.legs & SYN << 4 != 0 {
            Phase::SynRecv
        } else {
            Phase::SynSent
        }
    }

    fn other_phase(self) -> Phase {
        if self.legs & LASTING != 0 {
            Phase::Assured
        } else if self.legs >> 4 != 0 {
            Phase::Replied
        } else {
            Phase::Unreplied
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::Direction::{self, Original, Reply};

    const UDP: u8 = protocol::UDP;
    const TCP: u8 = protocol::TCP;
    // As in the header.
    const F: u8 = 1;
    const S: u8 = 2;
    const R: u8 = 4;
    const A: u8 = 16;

    fn phases(protocol: u8, first: u8, then: &[(Direction, u8, u32)]) -> Vec<Phase> {
        let mut state = CtState::first(protocol, first, 0);
        let mut phases = vec![state.phase(protocol)];
        for (way, flags, now) in then {
            state = state.step(*way, *flags, *now);
            phases.push(state.phase(protocol));
        }
        phases
    }

    #[test]
    fn a_connection_goes_through_conntrack_s_states() {
        use Phase::{Close, Established, FinWait, SynRecv, SynSent, TimeWait};
        let opening = [(Reply, S | A, 0), (Original, A, 0)];
        let told = phases(TCP, S, &[&opening[..], &[(Original, F | A, 1), (Reply, F | A, 1)]].concat());
        assert_eq!(told, [SynSent, SynRecv, Established, FinWait, TimeWait]);
        assert_eq!(phases(TCP, S, &[(Reply, R | A, 0)]), [SynSent, Close]);
        assert_eq!(phases(TCP, S, &[&opening[..], &[(Reply, R, 0)]].concat()).last(), Some(&Close));
        assert_eq!(phases(TCP, A, &[]), [Established], "met in the middle");
    }

    #[test]
    fn what_is_no_tcp_is_told_by_who_has_spoken() {
        use Phase::{Assured, Replied, Unreplied};
        let told = phases(UDP, 0, &[(Original, 0, 0), (Reply, 0, 0), (Original, 0, 0), (Original, 0, 1)]);
        assert_eq!(told, [Unreplied, Unreplied, Replied, Replied, Assured]);
    }
}
