//! What is counted of frames that leave.

use margay_flowtable::PortId;

use crate::counters::Counters;

/// Frames sent that no counter has yet: those that go the same way one after another are counted together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) port: Option<PortId>,
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

impl Tally {
    #[inline]
    pub(super) fn count(&mut self, counters: &Counters, input: PortId, output: PortId, bytes: u64) {
        if self.port != Some(output) {
            std::mem::take(self).settle(counters, input);
            self.port = Some(output);
        }
        self.frames += 1;
        self.bytes += bytes;
    }

    pub(super) fn settle(self, counters: &Counters, input: PortId) {
        let Some(output) = self.port else { return };
        counters.port(input).forwarded.add(self.frames);
        counters.port(output).tx.add(self.frames);
        counters.port(output).tx_bytes.add(self.bytes);
    }
}
