//! Where the time of a burst goes, for who measures it.

/// The passes over a burst, for who measures them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Parse, decapsulate, source check, hash.
    Ingress,
    /// Search of the flow table's buckets.
    Search,
    /// Flow entry, conntrack, verdict.
    Flow,
    /// TTL, checksums, encapsulation, and the output's burst.
    Rewrite,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Search, Self::Flow, Self::Rewrite];
}

/// Is told when a pass over a burst has ended.
pub trait Probe {
    fn mark(&mut self, stage: Stage);
}

/// Measures nothing.
impl Probe for () {
    #[inline(always)]
    fn mark(&mut self, _: Stage) {}
}
