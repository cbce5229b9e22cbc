//! A guard that a noisy machine does not set off: Margay beside the bare forwarder in one run, with a wide margin.

use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::case::{Case, Dataplane, Job, Metric};
use super::machine::Machine;
use super::outcome::Outcome;
use super::schedule::plan::{Plan, Scope, Selection};
use super::schedule::{self, Lab, Watch};

/// Margay's throughput over the bare forwarder's: well below the goal, so that only a gateway that has become slow falls below.
pub const LEAST: f64 = 0.7;

/// A machine that was busy for a minute is asked once more, and again.
const ATTEMPTS: u32 = 3;

const SIZE: u16 = 64;
const FLOWS: u32 = 10_000;
const POLICIES: u32 = 1;

/// The ratio of each attempt. The last one decides: those before it were too low.
pub fn ratios<L: Lab>(lab: &mut L, watch: &mut impl Watch) -> anyhow::Result<Vec<f64>> {
    let mut ratios = Vec::new();
    for _ in 0..ATTEMPTS {
        let ratio = ratio(&schedule::run(&plan()?, lab, watch)?)?;
        ratios.push(ratio);
        if ratio >= LEAST {
            break;
        }
    }
    Ok(ratios)
}

fn plan() -> anyhow::Result<Plan> {
    Plan::new(&Selection {
        scope: Scope::Quick,
        jobs: vec![Job::VxlanEncap],
        dataplanes: vec![Dataplane::Margay, Dataplane::Bare],
        sizes: vec![SIZE],
        flows: vec![FLOWS],
        policies: vec![POLICIES],
        repeats: Some(3),
        time: Some(Duration::from_millis(400)),
        ipip: false,
    })
}

fn ratio(outcome: &Outcome) -> anyhow::Result<f64> {
    ensure!(!outcome.is_interrupted, "it was interrupted");
    if let Some(failure) = outcome.failures().first() {
        bail!("{} of {:?}: {}", failure.what, failure.case.dataplane, failure.reason);
    }
    let results = outcome.results(Machine::default());
    let of = |dataplane| {
        let case = Case { job: Job::VxlanEncap, dataplane, size: SIZE, flows: FLOWS, policies: POLICIES };
        let row = results.find(&case, Metric::Mpps).filter(|row| row.value > 0.0);
        row.map(|row| row.value).with_context(|| format!("{dataplane:?} forwarded nothing"))
    };
    Ok(of(Dataplane::Margay)? / of(Dataplane::Bare)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lab::details::Gateway;
    use crate::lab::outcome::{Answer, Described, Figures};
    use crate::lab::schedule::plan::{Ask, Effort, Turn, What};

    /// Gateways as fast as the attempt says: Margay's rate, where the bare forwarder's is 1.
    struct Pretended {
        speeds: Vec<Option<f64>>,
        answers: usize,
    }

    impl Lab for Pretended {
        type Gateway = ();

        fn start(&mut self, _: &Turn) -> anyhow::Result<()> {
            Ok(())
        }

        fn describe(&self, turn: &Turn, (): &()) -> Described {
            let (version, arrangement) = (String::new(), String::new());
            let gateway =
                Gateway { dataplane: turn.dataplane, jobs: vec![], version, arrangement, settings: vec![] };
            Described { gateway, offloads: BTreeMap::new() }
        }

        fn ask(&mut self, (): &mut (), ask: &Ask, _: &Effort) -> anyhow::Result<Answer> {
            if ask.what != What::Figures {
                return Ok(Answer::NoDrop(1e6));
            }
            // Three repeats of two gateways are an attempt.
            let speed = self.speeds[self.answers / 6];
            self.answers += 1;
            let mpps = if ask.case.dataplane == Dataplane::Bare { 1.0 } else { speed.context("it died")? };
            Ok(Answer::Figures(Box::new(Figures { rows: vec![(Metric::Mpps, mpps)], ..Figures::default() })))
        }
    }

    struct Nobody;

    impl Watch for Nobody {
        fn is_stopped(&self) -> bool {
            false
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        fn comes(&mut self, _: u32, _: &Turn, _: Option<&Ask>) {}

        fn done(&mut self, _: Duration) {}

        fn failed(&mut self, _: &Ask, _: &str) {}

        fn keep(&mut self, _: &Outcome) -> anyhow::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_too_slow_is_asked_once_more() {
        let cases: [(&[Option<f64>], &str); 4] = [
            (&[Some(0.9)], "Ok([0.9])"),
            (&[Some(0.5), Some(0.8)], "Ok([0.5, 0.8])"),
            (&[Some(0.5), Some(0.6), Some(0.65)], "Ok([0.5, 0.6, 0.65])"),
            (&[None], "Err(\"throughput of Margay: it died\")"),
        ];
        for (speeds, expected) in cases {
            let mut lab = Pretended { speeds: speeds.to_vec(), answers: 0 };
            let found = ratios(&mut lab, &mut Nobody).map_err(|error| format!("{error:#}"));
            assert_eq!(format!("{found:?}"), expected, "{speeds:?}");
        }
    }
}
