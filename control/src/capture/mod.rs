//! `margay capture`: packets as pcapng, which Wireshark, tshark and tcpdump read.
//!
//! A frame that came in is a block, one that left another; both have the direction (`epb_flags`) and a comment: the
//! packet's worker and number, what became of it, why, and who decided. Each port is an interface. What taps
//! counted stands at the end, as statistics of each interface.

mod comment;
mod summary;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use margay_fastpath::tap::{Image, LONGEST_SNAP};
use margay_flowtable::PortId;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

pub(crate) use self::comment::named;
pub use self::summary::{Summary, Watch};

use crate::tap::{CaptureRequest, Counted, Names, Packet, Seen, Show};

/// `if_tsresol`: nanoseconds, of which the clock has fewer. A worker reads it once a turn.
const NANOSECONDS: u8 = 9;

/// Of `epb_flags` the two lowest bits.
#[derive(Clone, Copy)]
enum Direction {
    Inbound = 1,
    Outbound = 2,
}

/// Packets as pcapng.
#[derive(Default)]
pub(crate) struct PcapNg {
    writer: Option<PcapNgWriter<Vec<u8>>>,
    /// Ports by number and name: a number may be another port's later.
    interfaces: HashMap<(PortId, Arc<str>), u32>,
    expression: String,
    snap: u32,
    last: std::time::Duration,
}

impl Show for PcapNg {
    fn begin(&mut self, wanted: &CaptureRequest) -> Vec<u8> {
        self.expression.clone_from(&wanted.expression);
        self.snap = wanted.snap.clamp(1, LONGEST_SNAP);
        let who = format!("margay {}", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication(Cow::Owned(who))],
            ..SectionHeaderBlock::default()
        };
        // Writing to memory does not fail.
        self.writer = PcapNgWriter::with_section_header(Vec::new(), section).ok();
        self.take()
    }

    fn show(&mut self, packet: &Packet, names: &Names, to: &mut Vec<u8>) {
        let fate = comment::fate(packet, names);
        if let Some(came) = &packet.came {
            self.frame(packet, came, Direction::Inbound, &fate, names);
        }
        for (leaving, seen) in &packet.left {
            let comment = comment::leaving(packet, *leaving, names);
            self.frame(packet, seen, Direction::Outbound, &comment, names);
        }
        to.extend(self.take());
    }

    fn end(&mut self, shown: u64, counted: &Counted) -> Vec<u8> {
        let mut interfaces: Vec<u32> = self.interfaces.values().copied().collect();
        interfaces.sort_unstable();
        for interface in interfaces {
            self.write(statistics(interface, self.last, shown, counted));
        }
        self.take()
    }
}

impl PcapNg {
    fn frame(&mut self, packet: &Packet, seen: &Seen, direction: Direction, comment: &str, names: &Names) {
        let Image { port, at, len, .. } = seen.image;
        self.last = at;
        // The numbers of workers are each worker's own.
        let comment = format!("packet {}/{}: {comment}", packet.worker, packet.number);
        let options = vec![
            EnhancedPacketOption::Comment(Cow::Owned(comment)),
            EnhancedPacketOption::Flags(direction as u32),
        ];
        let interface_id = self.interface(port, &names.port(port));
        let data = Cow::Borrowed(&*seen.bytes);
        self.write(EnhancedPacketBlock { interface_id, timestamp: at, original_len: len, data, options });
    }

    /// The interface that the port is in the file.
    fn interface(&mut self, port: PortId, name: &Arc<str>) -> u32 {
        let key = (port, Arc::clone(name));
        if let Some(known) = self.interfaces.get(&key) {
            return *known;
        }
        let mut options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(&**name)),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        // 0: as the string that it was.
        let filter = [&[0], self.expression.as_bytes()].concat();
        if !self.expression.is_empty() {
            options.push(InterfaceDescriptionOption::IfFilter(Cow::Owned(filter)));
        }
        let snaplen = self.snap;
        self.write(InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options });
        let number = self.interfaces.len() as u32;
        self.interfaces.insert(key, number);
        number
    }

    fn write<'a>(&mut self, block: impl PcapNgBlock<'a>) {
        if let Some(writer) = &mut self.writer {
            // To memory, and of interfaces that were described before.
            let _ = writer.write_pcapng_block(block);
        }
    }

    fn take(&mut self) -> Vec<u8> {
        self.writer.as_mut().map(|writer| std::mem::take(writer.get_mut())).unwrap_or_default()
    }
}

/// What taps have counted: all ports together, for a tap does not part them.
fn statistics(
    interface_id: u32,
    at: std::time::Duration,
    shown: u64,
    counted: &Counted,
) -> InterfaceStatisticsBlock<'static> {
    let nanoseconds = at.as_nanos() as u64;
    InterfaceStatisticsBlock {
        interface_id,
        // The high word stands first in the file, whatever the order of bytes; the library writes one number.
        timestamp: nanoseconds.rotate_left(u32::BITS),
        options: vec![
            InterfaceStatisticsOption::Comment(Cow::Borrowed("of all ports together")),
            InterfaceStatisticsOption::IsbFilterAccept(counted.matched),
            InterfaceStatisticsOption::IsbOsDrop(counted.missed + counted.missed_leaving),
            InterfaceStatisticsOption::IsbUsrDeliv(shown),
        ],
    }
}
