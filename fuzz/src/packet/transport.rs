//! What a packet carries: a transport header, whose data follows.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::view::{ICMP, ICMPV6, SCTP, TCP, UDP};

#[derive(Arbitrary, Clone, Debug)]
pub struct Transport {
    #[arbitrary(with = |u: &mut Unstructured<'_>| u.choose(&Kind::ALL).copied())]
    pub kind: Kind,
    #[arbitrary(with = port)]
    pub sport: u16,
    #[arbitrary(with = port)]
    pub dport: u16,
    /// Of TCP.
    #[arbitrary(with = flags)]
    pub flags: u8,
    #[arbitrary(with = options)]
    pub options: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Udp,
    Tcp,
    EchoRequest,
    EchoReply,
    Sctp,
    UdpLite,
    Dccp,
    /// A protocol whose header nobody reads.
    Other(u8),
}

impl Kind {
    /// GRE, ESP and one for experiments among them.
    const ALL: [Self; 12] = [
        Self::Udp,
        Self::Tcp,
        Self::Udp,
        Self::Tcp,
        Self::EchoRequest,
        Self::EchoReply,
        Self::Sctp,
        Self::UdpLite,
        Self::Dccp,
        Self::Other(47),
        Self::Other(50),
        Self::Other(253),
    ];
}

fn port(u: &mut Unstructured<'_>) -> Result<u16> {
    u.choose(&[1, 53, 80, 4789, 65_535]).copied()
}

/// SYN, SYN and ACK, ACK, with data, FIN, RST, or anything.
fn flags(u: &mut Unstructured<'_>) -> Result<u8> {
    const USUAL: [u8; 7] = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14];
    let place: u8 = u.int_in_range(0..=7)?;
    USUAL.get(usize::from(place)).copied().map_or_else(|| u.arbitrary(), Ok)
}

/// None, an MSS, one at an odd offset between others, or anything.
fn options(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let [high, low] = u.choose(&[1460u16, 9000, 536, 0])?.to_be_bytes();
    Ok(match u.int_in_range(0..=3)? {
        0 => Vec::new(),
        1 => vec![2, 4, high, low],
        2 => vec![1, 2, 4, high, low, 3, 3, 7],
        _ => {
            let len = u.int_in_range(0..=40)?;
            u.bytes(len.min(u.len()))?.to_vec()
        }
    })
}

impl Transport {
    /// The protocol and its header, without a checksum.
    pub fn bytes(&self, is_ipv6: bool) -> (u8, Vec<u8>) {
        let [[a, b], [c, d]] = [self.sport, self.dport].map(u16::to_be_bytes);
        let icmp = if is_ipv6 { ICMPV6 } else { ICMP };
        match self.kind {
            Kind::Udp => (UDP, vec![a, b, c, d, 0, 8, 0, 0]),
            Kind::Tcp => (TCP, self.tcp()),
            Kind::EchoRequest => (icmp, vec![if is_ipv6 { 128 } else { 8 }, 0, 0, 0, a, b, 0, 1]),
            Kind::EchoReply => (icmp, vec![if is_ipv6 { 129 } else { 0 }, 0, 0, 0, a, b, 0, 1]),
            Kind::Sctp => (SCTP, [&[a, b, c, d][..], &[7; 4], &[0; 4], &[0, 3, 0, 4]].concat()),
            Kind::UdpLite => (136, vec![a, b, c, d, 0, 0, 0, 0]),
            Kind::Dccp => (33, [&[a, b, c, d, 3][..], &[0; 11]].concat()),
            Kind::Other(protocol) => (protocol, vec![a, b, c, d]),
        }
    }

    fn tcp(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let mut header = [self.sport.to_be_bytes(), self.dport.to_be_bytes()].concat();
        header.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        header.extend([((20 + options.len()) / 4) as u8 * 16, self.flags, 0x10, 0, 0, 0, 0, 0]);
        header.extend(options);
        header
    }

    /// Writes down how long the segment has become, where the transport says so.
    pub fn tell_len(&self, segment: &mut [u8]) {
        if self.kind == Kind::Udp {
            let len = segment.len() as u16;
            segment[4..6].copy_from_slice(&len.to_be_bytes());
        }
    }
}
