//! Room in the kernel's connection table. Its limits are the machine's, not a namespace's: they are raised where a case
//! needs that, and given back after it.

use std::fs;

use anyhow::{Context, Result};

const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// Connections beyond those of the case: what tests and the machine itself have.
const SPARE: u32 = 1 << 15;

/// Limits that were raised.
#[derive(Debug, Default)]
pub(super) struct Limits(Vec<Raised>);

#[derive(Debug)]
struct Raised {
    path: &'static str,
    before: u32,
    now: u32,
}

impl Limits {
    /// Sees that so many connections fit: as many as the table may hold, and as many buckets, each of which is then one
    /// direction of a connection or two.
    pub(super) fn raise(flows: u32) -> Result<Self> {
        let mut limits = Self::default();
        for path in [BUCKETS, MAX] {
            let before = read(path)?;
            let now = flows.saturating_add(SPARE).max(before);
            if now > before {
                write(path, now)?;
                limits.0.push(Raised { path, before, now: read(path)? });
            }
        }
        Ok(limits)
    }

    /// For the report.
    pub(super) fn to_text(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|Raised { path, before, now }| format!("{path}: {now} (was {before})"))
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for Raised { path, before, now } in &self.0 {
            // Where somebody has set it meanwhile, it is theirs. A failure leaves more room than there was, no harm.
            if read(path).is_ok_and(|value| value == *now) {
                let _ = write(path, *before);
            }
        }
    }
}

fn read(path: &str) -> Result<u32> {
    let text = fs::read_to_string(path).with_context(|| {
        format!("cannot read {path}: is the kernel's connection tracking there (modprobe nf_conntrack)?")
    })?;
    text.trim().parse().with_context(|| format!("{path} holds no number"))
}

fn write(path: &str, value: u32) -> Result<()> {
    fs::write(path, value.to_string()).with_context(|| {
        format!("cannot write {value} to {path}: set it before, or run where that is possible")
    })
}
