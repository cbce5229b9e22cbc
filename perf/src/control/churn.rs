//! Changes of pods, one after another, each of which makes a verdict another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_flowtable::Verdict;
use serde::Serialize;

use super::objects::PodState;
use super::verdicts::Verdicts;
use crate::world::{self, APPS, Size};

/// How long to wait where every one of them still has something to wait for.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its labels are those of pods that policies select, or no longer.
    Relabelled,
    Removed,
    /// A new pod of the same name and address.
    Added,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Relabelled, Self::Removed, Self::Added];

    pub fn name(self) -> &'static str {
        match self {
            Self::Relabelled => "relabelled",
            Self::Removed => "removed",
            Self::Added => "added",
        }
    }
}

/// What is to become of a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) pod: u32,
    pub(super) kind: Kind,
    pub(super) becomes: Option<PodState>,
}

/// Whom to tell what the server said to a change.
#[derive(Debug)]
pub(super) struct Ticket {
    verdicts: Arc<Verdicts>,
    pod: u32,
}

impl Ticket {
    pub(super) fn new(verdicts: &Arc<Verdicts>, pod: u32) -> Self {
        Self { verdicts: Arc::clone(verdicts), pod }
    }

    pub(super) fn acknowledged(self, now: Instant) {
        self.verdicts.acknowledge(self.pod, now);
    }

    pub(super) fn failed(self, why: String) {
        self.verdicts.give_up(self.pod, why);
    }
}

/// A pod that changes, over and over: made one that policies select, removed, put back as such a one, and released.
#[derive(Clone, Copy, Debug)]
struct Turn {
    pod: u32,
    selected: u32,
    unselected: u32,
    steps: u32,
}

impl Turn {
    /// `None` where policies select all apps of the pod's namespace, or none, or the pod from the first.
    fn of(pod: u32, size: Size) -> Option<Self> {
        let namespace = size.namespace_of(pod);
        let policies = (namespace..size.policies).step_by(size.namespaces as usize);
        let mut is_selected = [false; APPS as usize];
        policies.for_each(|policy| is_selected[world::app_of_policy(policy) as usize] = true);
        let app = |selected| (0..APPS).find(|app| is_selected[*app as usize] == selected);
        let (selected, unselected) = (app(true)?, app(false)?);
        let at_first = PodState::initial(pod).app;
        (!is_selected[at_first as usize]).then_some(Self { pod, selected, unselected, steps: 0 })
    }

    /// What comes next, and what then becomes of a stranger's packet.
    fn next(&mut self) -> (Change, Verdict) {
        let incarnation = self.steps / 4;
        let state = |app, incarnation| Some(PodState { app, incarnation });
        let (kind, becomes, verdict) = match self.steps % 4 {
            0 => (Kind::Relabelled, state(self.selected, incarnation), Verdict::Deny),
            1 => (Kind::Removed, None, Verdict::Allow),
            2 => (Kind::Added, state(self.selected, incarnation + 1), Verdict::Deny),
            _ => (Kind::Relabelled, state(self.unselected, incarnation + 1), Verdict::Allow),
        };
        self.steps += 1;
        (Change { pod: self.pod, kind, becomes }, verdict)
    }
}

/// The pods that take turns.
#[derive(Debug)]
pub(super) struct Churn {
    size: Size,
    turns: Vec<Turn>,
    next: usize,
    rate: u32,
    random: fastrand::Rng,
}

impl Churn {
    /// Of so many changes a second, and of as many pods at most: each changes about once a second. Fails where no pod's
    /// verdict can change.
    pub(super) fn new(size: Size, rate: u32) -> anyhow::Result<Self> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut pods: Vec<u32> = (0..size.pods).collect();
        random.shuffle(&mut pods);
        let turns = pods.into_iter().filter_map(|pod| Turn::of(pod, size));
        let turns: Vec<Turn> = turns.take(rate as usize).collect();
        anyhow::ensure!(
            !turns.is_empty(),
            "no pod of such a world can be made one that a policy selects: more policies"
        );
        Ok(Self { size, turns, next: 0, rate, random })
    }

    /// Gives changes to `write` for so long. Gaps differ as those between the writes of many do.
    pub(super) fn run(
        &mut self,
        time: Duration,
        verdicts: &Arc<Verdicts>,
        mut write: impl FnMut(Change, Ticket),
    ) {
        let start = Instant::now();
        let mut due = start;
        loop {
            due += Duration::from_secs_f64(-(1.0 - self.random.f64()).ln() / f64::from(self.rate));
            if due >= start + time {
                return;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let Some(index) = self.free(verdicts, start + time) else { return };
            let (change, verdict) = self.turns[index].next();
            let (name, address) = (self.size.pod_name(change.pod), self.size.pod_address(change.pod));
            verdicts.expect((change.pod, name), address, change.kind, verdict);
            write(change, Ticket::new(verdicts, change.pod));
        }
    }

    /// The next pod that nothing is waited for of, if one comes to be in time.
    fn free(&mut self, verdicts: &Verdicts, until: Instant) -> Option<usize> {
        loop {
            for _ in 0..self.turns.len() {
                let index = self.next;
                self.next = (index + 1) % self.turns.len();
                if !verdicts.is_waiting_for(self.turns[index].pod) {
                    return Some(index);
                }
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }
}
