//! Verdicts that are to change, and when they have: from the server's acknowledgement to the snapshot that says so.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use margay_flowtable::{Policies, Tuple, Verdict, classify};

use super::churn::Kind;

/// Who sends the packet that is asked about: nobody of the cluster, from no block and to no port that a policy names.
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const PORT: u16 = 9999;

/// What was measured of one change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) kind: Kind,
    pub(super) acknowledged: Instant,
    /// Till the verdict was in force. Nothing where that was before the acknowledgement had come.
    pub(super) latency: Duration,
}

/// What is waited for, and what has come.
#[derive(Debug, Default)]
pub(super) struct Verdicts(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    outstanding: Vec<Expected>,
    measured: Vec<Measured>,
    failures: Vec<String>,
}

#[derive(Debug)]
struct Expected {
    pod: u32,
    kind: Kind,
    tuple: Tuple,
    verdict: Verdict,
    acknowledged: Option<Instant>,
    seen: Option<Instant>,
}

impl Verdicts {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something of the pod is waited for.
    pub(super) fn is_waiting_for(&self, pod: u32) -> bool {
        self.inner().outstanding.iter().any(|expected| expected.pod == pod)
    }

    pub(super) fn outstanding(&self) -> usize {
        self.inner().outstanding.len()
    }

    /// From now on looks for this verdict of what a stranger sends to the pod's address.
    pub(super) fn expect(&self, pod: u32, address: Ipv4Addr, kind: Kind, verdict: Verdict) {
        let [src, dst] = [STRANGER, address].map(IpAddr::V4);
        let tuple = Tuple { src, dst, protocol: 6, sport: 40_000, dport: PORT, icmp: None };
        let expected = Expected { pod, kind, tuple, verdict, acknowledged: None, seen: None };
        self.inner().outstanding.push(expected);
    }

    /// The server has said yes to the change of this pod.
    pub(super) fn acknowledge(&self, pod: u32, now: Instant) {
        let mut inner = self.inner();
        if let Some(expected) = inner.outstanding.iter_mut().find(|expected| expected.pod == pod) {
            expected.acknowledged = Some(now);
        }
        inner.collect();
    }

    /// The server has said no.
    pub(super) fn give_up(&self, pod: u32, why: String) {
        let mut inner = self.inner();
        inner.outstanding.retain(|expected| expected.pod != pod);
        inner.failures.push(why);
    }

    /// Looks up what is waited for in the policies that are in force now.
    pub(super) fn look(&self, policies: &Policies, now: Instant) {
        let mut inner = self.inner();
        for expected in inner.outstanding.iter_mut().filter(|expected| expected.seen.is_none()) {
            if classify(policies, &expected.tuple, &mut |_, _| {}).verdict() == expected.verdict {
                expected.seen = Some(now);
            }
        }
        inner.collect();
    }

    /// All that was measured, and what failed.
    pub(super) fn finish(&self) -> (Vec<Measured>, Vec<String>) {
        let mut inner = self.inner();
        (std::mem::take(&mut inner.measured), std::mem::take(&mut inner.failures))
    }
}

impl Inner {
    fn collect(&mut self) {
        let measured = &mut self.measured;
        self.outstanding.retain(|expected| {
            let (Some(acknowledged), Some(seen)) = (expected.acknowledged, expected.seen) else {
                return true;
            };
            let latency = seen.saturating_duration_since(acknowledged);
            measured.push(Measured { kind: expected.kind, acknowledged, latency });
            false
        });
    }
}
