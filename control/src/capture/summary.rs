//! What is read from a capture as it passes: how many packets it has, and what taps have counted.

/// Bytes of a block's type and length.
const HEAD: usize = 8;
/// Bytes of a block that are looked into at most.
const MOST: usize = 4096;
/// Block types.
const SECTION: u32 = 0x0a0d_0d0a;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Options of a block of statistics.
const FILTER_ACCEPT: u16 = 6;
const OS_DROP: u16 = 7;
const USER_DELIVERED: u16 = 8;

/// As tcpdump says it at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames that were written, coming in or leaving.
    pub frames: u64,
    /// Packets that were written, that matched, and that the gateway did not copy; none where the capture broke off before
    /// its end.
    pub packets: Option<u64>,
    pub matched: Option<u64>,
    pub missed: Option<u64>,
}

/// Reads a capture in whatever pieces it comes, and keeps no more of it than a block of statistics.
#[derive(Debug, Default)]
pub struct Watch {
    summary: Summary,
    /// What has come of a block that is looked into, or of a head.
    held: Vec<u8>,
    /// Bytes of a block still to come that nobody looks into.
    skip: usize,
}

impl Watch {
    /// More of the capture.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            let missing = self.missing().min(bytes.len());
            self.held.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.skip == 0 && self.missing() == 0 {
                self.read();
            }
        }
    }

    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Bytes that are to come before there is something to read.
    fn missing(&self) -> usize {
        if self.skip > 0 {
            return 0;
        }
        match head(&self.held) {
            None => HEAD - self.held.len(),
            Some((STATISTICS, len)) => len.min(MOST).saturating_sub(self.held.len()),
            Some(_) => 0,
        }
    }

    fn read(&mut self) {
        let Some((kind, len)) = head(&self.held) else { return };
        match kind {
            SECTION => self.summary = Summary::default(),
            ENHANCED_PACKET => self.summary.frames += 1,
            STATISTICS => self.read_statistics(),
            _ => {}
        }
        self.skip = len.saturating_sub(self.held.len());
        self.held.clear();
    }

    /// Every interface has the same.
    fn read_statistics(&mut self) {
        let mut options = self.held.get(HEAD + 12..).unwrap_or_default();
        while let Some((code, len)) = option(options) {
            let Some(value) = options.get(4..4 + len) else { break };
            if let Ok(value) = <[u8; 8]>::try_from(value).map(u64::from_le_bytes) {
                match code {
                    FILTER_ACCEPT => self.summary.matched = Some(value),
                    OS_DROP => self.summary.missed = Some(value),
                    USER_DELIVERED => self.summary.packets = Some(value),
                    _ => {}
                }
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn head(block: &[u8]) -> Option<(u32, usize)> {
    let (kind, rest) = block.split_first_chunk()?;
    let (len, _) = rest.split_first_chunk()?;
    // A block is never shorter than its head and its length again.
    Some((u32::from_le_bytes(*kind), (u32::from_le_bytes(*len) as usize).max(HEAD + 4)))
}

fn option(options: &[u8]) -> Option<(u16, usize)> {
    let (code, rest) = options.split_first_chunk()?;
    let (len, _) = rest.split_first_chunk()?;
    Some((u16::from_le_bytes(*code), u16::from_le_bytes(*len).into()))
}
