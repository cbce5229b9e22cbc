//! Who is asked what, and when: in each round every gateway of the plan is started, asked, and stopped again, so that the
//! machine's moods fall on all alike and repeats do not depend on each other.
//!
//! What fails is noted and the rest goes on. What gateways are and how they are asked is `run`'s.

pub mod plan;

use std::time::Duration;

use super::outcome::{Answer, Described, Outcome};
use plan::{Ask, Effort, Plan, Turn};

/// A machine on which gateways can be tried.
pub trait Lab {
    /// One that runs. Dropped, it is gone.
    type Gateway;

    fn start(&mut self, turn: &Turn) -> anyhow::Result<Self::Gateway>;

    fn describe(&self, turn: &Turn, gateway: &Self::Gateway) -> Described;

    fn ask(&mut self, gateway: &mut Self::Gateway, ask: &Ask, effort: &Effort) -> anyhow::Result<Answer>;
}

/// Who looks on.
pub trait Watch {
    /// Whether the run is to end now.
    fn is_stopped(&self) -> bool;

    /// Since the run began.
    fn elapsed(&self) -> Duration;

    /// A gateway is started, for its own sake or to ask it something.
    fn comes(&mut self, round: u32, turn: &Turn, ask: Option<&Ask>);

    /// What should have taken so long is done, or left out.
    fn done(&mut self, estimate: Duration);

    fn failed(&mut self, ask: &Ask, reason: &str);

    /// There is something new to keep.
    fn keep(&mut self, outcome: &Outcome) -> anyhow::Result<()>;
}

/// Runs the plan. The error is that nothing can be kept; all others are in the outcome.
pub fn run<L: Lab>(plan: &Plan, lab: &mut L, watch: &mut impl Watch) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut took = Duration::ZERO;
    for round in 0..plan.effort.repeats {
        let begun = watch.elapsed();
        if round > 0 && begun + expected(plan, round, took) > plan.effort.budget {
            outcome.note(format!(
                "{round} of {} repeats: another one would have ended after {} s",
                plan.effort.repeats,
                plan.effort.budget.as_secs()
            ));
            break;
        }
        for turn in plan.turns(round) {
            if watch.is_stopped() {
                break;
            }
            Round { plan, number: round, lab, watch, outcome: &mut outcome }.turn(turn)?;
        }
        if watch.is_stopped() {
            outcome.note("it was interrupted".to_owned());
            outcome.is_interrupted = true;
            break;
        }
        took = watch.elapsed().saturating_sub(begun);
    }
    Ok(outcome)
}

/// How long a round will take if the one before took so long.
fn expected(plan: &Plan, round: u32, took: Duration) -> Duration {
    took.mul_f64(plan.round(round).as_secs_f64() / plan.round(round - 1).as_secs_f64().max(f64::EPSILON))
}

struct Round<'a, L, W> {
    plan: &'a Plan,
    number: u32,
    lab: &'a mut L,
    watch: &'a mut W,
    outcome: &'a mut Outcome,
}

impl<L: Lab, W: Watch> Round<'_, L, W> {
    fn turn(&mut self, turn: &Turn) -> anyhow::Result<()> {
        let asks: Vec<&Ask> = self.plan.asks(turn, self.number).collect();
        let (hopeless, worth): (Vec<&Ask>, Vec<&Ask>) =
            asks.into_iter().partition(|ask| self.outcome.is_given_up(ask));
        for ask in hopeless {
            self.watch.done(self.plan.effort.of(ask));
        }
        if worth.is_empty() {
            self.watch.done(plan::start(turn));
            return Ok(());
        }
        self.watch.comes(self.number, turn, None);
        let started = self.lab.start(turn);
        self.watch.done(plan::start(turn));
        let mut gateway = match started {
            Ok(gateway) => gateway,
            Err(error) => {
                for ask in worth {
                    self.failed(ask, &error);
                    self.watch.done(self.plan.effort.of(ask));
                }
                return Ok(());
            }
        };
        self.outcome.describe(turn.job, self.lab.describe(turn, &gateway));
        for ask in worth {
            if self.watch.is_stopped() {
                break;
            }
            self.watch.comes(self.number, turn, Some(ask));
            match self.lab.ask(&mut gateway, ask, &self.plan.effort) {
                Ok(answer) => {
                    self.outcome.answer(ask, answer);
                    self.watch.keep(self.outcome)?;
                }
                Err(error) => self.failed(ask, &error),
            }
            self.watch.done(self.plan.effort.of(ask));
        }
        Ok(())
    }

    /// What fails because the run ends is no failure.
    fn failed(&mut self, ask: &Ask, error: &anyhow::Error) {
        if !self.watch.is_stopped() {
            let reason = format!("{error:#}");
            self.watch.failed(ask, &reason);
            self.outcome.fail(ask, self.number, reason);
        }
    }
}

#[cfg(test)]
mod tests;
