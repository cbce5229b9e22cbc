//! Throughput (RFC 2544, 26.1): the highest rate at which no more than a share of the packets is lost.
//!
//! The search begins with a trial at full rate. What arrives there is close to what is sought, so the search takes small
//! steps away from it, which grow, until a rate that passes and one that fails enclose the throughput, and halves what is
//! between them.

use std::time::Duration;

use crate::lab::trial::{Measured, Offered, Rate};

/// The steps away from the first guess: the first one, and how much larger each is than the one before.
const STEP: f64 = 0.03;
const GROWTH: f64 = 2.0;

/// Below this share of the first guess nothing is looked for.
const LEAST: f64 = 0.02;

/// After so many trials that a source falls short in it sends no faster.
const STALLED: u32 = 2;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Of one trial.
    pub time: Duration,
    /// Share of the packets that may be lost.
    pub goal: f64,
    /// How close a rate that passes and one that fails have to come, as a share.
    pub resolution: f64,
    /// Trials at most.
    pub trials: u32,
}

/// What is known before the first trial.
#[derive(Clone, Copy, Debug)]
pub enum Guess {
    /// Nothing: the first trial is at full rate.
    None,
    /// The throughput is about this.
    About(f64),
}

/// What keeps the rate from being higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At a rate above it more than the goal was lost.
    Gateway,
    /// The source sends no faster.
    Source,
    /// Neither was seen: the search came to its last trial.
    Trials,
}

#[derive(Clone, Debug)]
pub struct Throughput {
    /// The trial of the highest rate that passed; none where no rate did.
    pub best: Option<Measured>,
    /// The lowest rate above it, in packets a second, that twice lost more.
    pub failed: Option<f64>,
    pub limit: Limit,
    pub trials: u32,
}

impl Throughput {
    /// Packets a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.best.as_ref().map_or(0.0, Measured::rate)
    }
}

/// Searches the throughput of a device.
pub fn throughput(
    search: &Search,
    guess: Guess,
    device: &mut impl FnMut(&Offered) -> anyhow::Result<Measured>,
) -> anyhow::Result<Throughput> {
    let mut searching = Searching { search, device, best: None, failed: None, stalled: 0, trials: 0 };
    let first = match guess {
        Guess::About(rate) => rate,
        Guess::None => {
            let mut full = searching.trial(Rate::Full)?;
            if full.received == 0 {
                full = searching.trial(Rate::Full)?;
            }
            if full.received > 0 && full.loss() <= search.goal {
                searching.best = Some(full);
                return Ok(searching.end(Limit::Source));
            }
            // Whatever the goal, more than arrived then is unlikely to pass.
            searching.failed = Some(full.rate());
            full.forwarded()
        }
    };
    let limit = searching.run(first)?;
    Ok(searching.end(limit))
}

struct Searching<'a, Device> {
    search: &'a Search,
    device: &'a mut Device,
    best: Option<Measured>,
    failed: Option<f64>,
    /// Trials in a row in which the source sent less than asked, and no more than before.
    stalled: u32,
    trials: u32,
}

impl<Device: FnMut(&Offered) -> anyhow::Result<Measured>> Searching<'_, Device> {
    /// Encloses the throughput, beginning with the rate `first`.
    fn run(&mut self, first: f64) -> anyhow::Result<Limit> {
        let mut next = first;
        let mut step = STEP;
        while next > first * LEAST && self.trials < self.search.trials {
            self.attempt(next)?;
            if self.stalled == STALLED {
                return Ok(Limit::Source);
            }
            let passed = self.best.as_ref().map(Measured::rate);
            next = match (passed, self.failed) {
                (Some(passed), Some(failed)) if failed <= passed * (1.0 + self.search.resolution) => {
                    return Ok(Limit::Gateway);
                }
                (Some(passed), Some(failed)) => (passed * (1.0 + step)).min((passed * failed).sqrt()),
                (Some(passed), None) => passed * (1.0 + step),
                (None, _) => next * (1.0 - step.min(0.5)),
            };
            step *= GROWTH;
        }
        Ok(if next > first * LEAST { Limit::Trials } else { Limit::Gateway })
    }

    /// Tries a rate, a second time where it fails.
    fn attempt(&mut self, rate: f64) -> anyhow::Result<()> {
        for _ in 0..2 {
            if self.trials == self.search.trials {
                // One failure does not say that this rate fails.
                return Ok(());
            }
            let measured = self.trial(Rate::Pps(rate))?;
            if measured.received > 0 && measured.loss() <= self.search.goal {
                self.passed(rate, measured);
                return Ok(());
            }
        }
        self.failed = Some(rate);
        Ok(())
    }

    fn passed(&mut self, rate: f64, measured: Measured) {
        // Half: so that one that is between a rate that passed and one that failed is told from both.
        let tolerance = self.search.resolution / 2.0;
        let sent = measured.rate();
        let before = self.best.as_ref().map(Measured::rate);
        let is_stalled =
            before.is_some_and(|before| sent < rate * (1.0 - tolerance) && sent < before * (1.0 + tolerance));
        self.stalled = if is_stalled { self.stalled + 1 } else { 0 };
        if before.is_none_or(|before| before < sent) {
            self.best = Some(measured);
        }
    }

    fn trial(&mut self, rate: Rate) -> anyhow::Result<Measured> {
        self.trials += 1;
        (self.device)(&Offered { rate, time: self.search.time, packets: None })
    }

    fn end(self, limit: Limit) -> Throughput {
        let Self { best, failed, trials, .. } = self;
        Throughput { best, failed, limit, trials }
    }
}

#[cfg(test)]
mod tests;
