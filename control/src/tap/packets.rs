//! What workers tell of packets, put together: a packet is whole when its end has been told.

use std::collections::BTreeMap;

use margay_fastpath::tap::{End, Image, Leaving, TapReader, What};
use margay_flowtable::{Key, Tuple};

use crate::explain::Explained;

/// A copy of a frame.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) image: Image,
    pub(crate) bytes: Vec<u8>,
}

/// All that is told of one packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packet {
    pub(crate) worker: usize,
    /// That worker's number of it.
    pub(crate) number: u64,
    /// As it came in; none where it matched by the frame in which it left alone.
    pub(crate) came: Option<Seen>,
    /// The frames that left because of it.
    pub(crate) left: Vec<(Leaving, Seen)>,
    /// None while it waits in the gateway: a fragment, for the first one of its datagram.
    pub(crate) end: Option<End>,
    /// What policy says of it, where that is asked.
    pub(crate) explained: Option<Box<Explained>>,
}

impl Packet {
    /// The packet as policy was asked about it, if that came to be.
    pub(super) fn tuple(&self) -> Option<Tuple> {
        let steps = self.end.as_ref()?.steps;
        let (key, headers) = (steps.key?, steps.headers?);
        let ((sport, dport), protocol) = (key.ports(), key.protocol());
        let icmp = headers.has_own_icmp().then(|| (headers.icmp_type(), headers.icmp_code()));
        Some(Tuple { src: key.src(), dst: key.dst(), protocol, sport, dport, icmp })
    }
}

/// Packets of one worker's tap.
#[derive(Debug)]
pub(super) struct Packets {
    worker: usize,
    reader: TapReader,
    /// Those that have not ended: at most those of a burst, and fragments that wait.
    open: BTreeMap<u64, Packet>,
    bytes: Vec<u8>,
}

impl Packets {
    pub(super) fn new(worker: usize, reader: TapReader) -> Self {
        Self { worker, reader, open: BTreeMap::new(), bytes: Vec::new() }
    }

    pub(super) fn reader(&self) -> &TapReader {
        &self.reader
    }

    /// The next packet that is whole.
    pub(super) fn next(&mut self) -> Option<Packet> {
        loop {
            let note = self.reader.next(&mut self.bytes)?;
            let number = note.packet;
            let fresh = || Packet { worker: self.worker, number, ..Packet::default() };
            let packet = self.open.entry(number).or_insert_with(fresh);
            let seen = |image| Seen { image, bytes: self.bytes.clone() };
            match note.what {
                What::Came(image) => packet.came = Some(seen(image)),
                What::Leaves { image, leaving, is_sent: true } => packet.left.push((leaving, seen(image))),
                // Its end says why.
                What::Leaves { .. } => {}
                What::Ended(end) => {
                    packet.end = Some(end);
                    return self.open.remove(&number);
                }
            }
        }
    }

    /// What has not ended, when nobody tells more.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = Packet> {
        std::mem::take(&mut self.open).into_values()
    }
}
