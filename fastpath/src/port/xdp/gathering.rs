//! Packets that come in several chunks, copied together.

use crate::frame::Frame;
use crate::umem::{FramePool, Umem};

/// The packet of which not all chunks have come. (The kernel publishes whole packets: it waits for no later call.)
#[derive(Debug, Default)]
pub(super) struct Gathering {
    packet: Option<Frame>,
    is_open: bool,
}

impl Gathering {
    /// Whether the next chunk belongs to the same packet as the last.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Adds a chunk (`None`: one that there is not), which goes to the pool. The packet, where it was the last. What cannot be
    /// gathered, for want of a large buffer or of room in it, is cut off.
    #[cold]
    pub(super) fn add(
        &mut self,
        umem: &Umem,
        chunk: Option<Frame>,
        goes_on: bool,
        pool: &mut FramePool,
    ) -> Option<Frame> {
        let begins = !std::mem::replace(&mut self.is_open, goes_on);
        match (chunk, &mut self.packet) {
            (Some(chunk), None) if begins => self.packet = Some(begin(umem, chunk, pool)),
            (Some(chunk), Some(packet)) => {
                packet.is_cut = packet.is_cut || !umem.append(packet, &chunk);
                pool.put(chunk);
            }
            // Its beginning is missing.
            (Some(chunk), None) => pool.put(chunk),
            (None, Some(packet)) => packet.is_cut = true,
            (None, None) => {}
        }
        if goes_on { None } else { self.packet.take() }
    }

    /// What has come of a packet.
    pub(super) fn give_up(&mut self) -> Option<Frame> {
        self.is_open = false;
        self.packet.take()
    }
}

/// A frame of a large buffer with what the chunk holds, or the chunk itself.
fn begin(umem: &Umem, mut chunk: Frame, pool: &mut FramePool) -> Frame {
    let Some(mut packet) = pool.get_large() else {
        chunk.is_cut = true;
        return chunk;
    };
    let fits = umem.fill(&mut packet, umem.bytes(&chunk));
    debug_assert!(fits, "a large buffer holds more than a chunk");
    packet.port = chunk.port;
    (packet.gso, packet.gso_size) = (chunk.gso, chunk.gso_size);
    pool.put(chunk);
    packet
}

#[cfg(test)]
mod tests;
