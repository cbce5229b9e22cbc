//! The memory between a worker and who reads its tap: notes of a fixed size, and beside them the bytes of frames.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::{Image, Note, Spec, Tap, TapCounts, TapId, What};

/// Bytes of frames for each note that there is room for.
const BYTES_PER_NOTE: usize = 64;
/// Notes that there is room for at least.
const FEWEST_NOTES: usize = 256;

#[derive(Debug)]
pub(super) struct Writer {
    notes: Producer<Note>,
    bytes: Producer<u8>,
}

/// Control's end of a tap.
#[derive(Debug)]
pub struct TapReader {
    notes: Consumer<Note>,
    bytes: Consumer<u8>,
    counts: Arc<TapCounts>,
}

/// A tap for one worker, and the end at which it is read.
pub fn tap(id: TapId, spec: Spec) -> (Tap, TapReader) {
    let (notes, read_notes) = RingBuffer::new((spec.waiting / BYTES_PER_NOTE).max(FEWEST_NOTES));
    let (mut bytes, mut read_bytes) = RingBuffer::new(spec.waiting);
    // A page that is touched first by a worker would cost it a fault.
    touch(&mut bytes, &mut read_bytes);
    let counts = Arc::<TapCounts>::default();
    let tap = Tap {
        id,
        spec,
        ring: Writer { notes, bytes },
        counts: Arc::clone(&counts),
        owed: 0,
        leaving: None,
        second: 0,
        taken: 0,
    };
    (tap, TapReader { notes: read_notes, bytes: read_bytes, counts })
}

fn touch(bytes: &mut Producer<u8>, read: &mut Consumer<u8>) {
    let all = bytes.slots();
    if let Ok(chunk) = bytes.write_chunk(all) {
        chunk.commit_all();
    }
    if let Ok(chunk) = read.read_chunk(all) {
        chunk.commit_all();
    }
}

impl Writer {
    /// Notes that there is room for.
    pub(super) fn room(&self) -> usize {
        self.notes.slots()
    }

    /// The note for which room was seen.
    pub(super) fn tell(&mut self, note: Note) {
        // Were there none, the reader would miss it, and forget the packet at the end.
        let _ = self.notes.push(note);
    }

    /// Puts bytes into the ring: all of them or none.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> bool {
        let Ok(mut chunk) = self.bytes.write_chunk(bytes.len()) else { return false };
        let (first, second) = chunk.as_mut_slices();
        let (to_first, to_second) = bytes.split_at(first.len());
        first.copy_from_slice(to_first);
        second.copy_from_slice(to_second);
        chunk.commit_all();
        true
    }
}

impl TapReader {
    /// The next note, and in `bytes` what was copied of its frame, if it has one.
    pub fn next(&mut self, bytes: &mut Vec<u8>) -> Option<Note> {
        bytes.clear();
        let note = self.notes.pop().ok()?;
        if let What::Came(image) | What::Leaves { image, .. } = &note.what {
            self.take(image, bytes);
        }
        Some(note)
    }

    fn take(&mut self, image: &Image, bytes: &mut Vec<u8>) {
        // Bytes stand there before their note does.
        let Ok(chunk) = self.bytes.read_chunk(image.copied as usize) else { return };
        let (first, second) = chunk.as_slices();
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        chunk.commit_all();
    }

    pub fn counts(&self) -> &TapCounts {
        &self.counts
    }

    /// Whether the worker's end has gone: nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.notes.is_abandoned()
    }
}
