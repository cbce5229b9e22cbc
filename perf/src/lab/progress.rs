//! How far a run is and how long it will still take: a bar where somebody sees it, else lines.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// From here on what has been done says how good the estimate is.
const TELLING: f64 = 0.05;

#[derive(Debug)]
pub struct Progress {
    /// None where stderr is no terminal.
    bar: Option<ProgressBar>,
    begun: Instant,
    /// Of all that is to be done, and of what is done.
    estimate: Duration,
    done: Duration,
}

impl Progress {
    /// Of what should take so long.
    pub fn new(estimate: Duration) -> anyhow::Result<Self> {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(millis(estimate)));
        if let Some(bar) = &bar {
            bar.set_style(ProgressStyle::with_template(
                "{elapsed_precise} {bar:30} {percent:>3} %  {wide_msg}",
            )?);
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Ok(Self { bar, begun: Instant::now(), estimate, done: Duration::ZERO })
    }

    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What goes on from now on.
    pub fn comes(&self, what: &str) {
        let left = told(left(self.elapsed(), self.done, self.estimate));
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{left} left: {what}"));
        } else {
            let percent = 100.0 * self.done.as_secs_f64() / self.estimate.as_secs_f64().max(f64::EPSILON);
            eprintln!("{percent:>3.0} %, {left} left: {what}");
        }
    }

    /// What should have taken so long is done.
    pub fn done(&mut self, estimate: Duration) {
        self.done = (self.done + estimate).min(self.estimate);
        if let Some(bar) = &self.bar {
            bar.set_position(millis(self.done));
        }
    }

    /// Says something that stays.
    pub fn say(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{what}")),
            None => eprintln!("{what}"),
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long the rest takes, if the estimates are as wrong as they have been.
fn left(elapsed: Duration, done: Duration, estimate: Duration) -> Duration {
    let rest = estimate.saturating_sub(done);
    let is_telling = done > estimate.mul_f64(TELLING);
    if is_telling { rest.mul_f64(elapsed.as_secs_f64() / done.as_secs_f64()) } else { rest }
}

/// To the second below two minutes, then to the minute.
#[must_use]
pub fn told(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_what_has_been_seen() {
        let seconds = Duration::from_secs;
        // Elapsed, done, estimate: left.
        let cases = [
            (0, 0, 300, 300),
            (30, 10, 300, 290),
            (60, 30, 300, 540),
            (50, 100, 300, 100),
            (400, 300, 300, 0),
            (0, 0, 0, 0),
        ];
        for (elapsed, done, estimate, expected) in cases {
            let found = left(seconds(elapsed), seconds(done), seconds(estimate));
            assert_eq!(found, seconds(expected), "{elapsed} {done} {estimate}");
        }
    }

    #[test]
    fn times_are_told_as_people_say_them() {
        let cases =
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (149, "2 min"), (150, "3 min"), (3600, "60 min")];
        for (seconds, expected) in cases {
            assert_eq!(told(Duration::from_secs(seconds)), expected);
        }
    }
}
