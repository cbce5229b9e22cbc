//! Processor time that a gateway takes, as the kernel's clock ticks see it (/proc/stat): good to 1/100 s, so of use for trials
//! of half a second and more.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Where a core's line has its figures.
const USER: usize = 0;
const NICE: usize = 1;
const SYSTEM: usize = 2;
const IRQ: usize = 5;
const SOFTIRQ: usize = 6;

/// Processor time up to a moment: in interrupts and softirq on all cores, and in processes on the gateway's core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu(Duration);

impl Cpu {
    /// Until now, where the gateway runs on this core.
    pub fn now(dataplane: usize) -> Result<Self> {
        let path = "/proc/stat";
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let hertz = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        let ticks =
            ticks(&text, dataplane).with_context(|| format!("no times of core {dataplane} in {path}"))?;
        Ok(Self(Duration::from_secs_f64(ticks as f64 / hertz as f64)))
    }

    /// What was taken since then.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

fn ticks(text: &str, dataplane: usize) -> Option<u64> {
    let mut sum = 0;
    let mut is_there = false;
    for line in text.lines() {
        let Some((core, figures)) = line.strip_prefix("cpu").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        // The line of all cores together has no number.
        let Ok(core) = core.parse::<usize>() else { continue };
        let figures: Vec<u64> = figures.split_whitespace().map_while(|figure| figure.parse().ok()).collect();
        let of = |kinds: &[usize]| kinds.iter().map(|&kind| figures.get(kind)).sum::<Option<u64>>();
        sum += of(&[IRQ, SOFTIRQ])?;
        if core == dataplane {
            is_there = true;
            sum += of(&[USER, NICE, SYSTEM])?;
        }
    }
    is_there.then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  111 0 222 3 4 5 6 0 0 0\n\
                        cpu0 1 2 4 1000 2000 8 16 9 0 0\n\
                        cpu1 100 200 400 1000 2000 800 1600 9 0 0\n\
                        intr 5 0\n";

    #[test]
    fn softirq_counts_on_all_cores_and_processes_on_one() {
        assert_eq!(ticks(STAT, 0), Some(8 + 16 + 800 + 1600 + 1 + 2 + 4));
        assert_eq!(ticks(STAT, 1), Some(8 + 16 + 800 + 1600 + 100 + 200 + 400));
        assert_eq!(ticks(STAT, 2), None);
        assert_eq!(ticks("cpu0 1 2\n", 0), None);
    }

    #[test]
    fn time_that_is_used_counts() {
        let core = core_affinity::get_core_ids().unwrap()[0];
        let before = Cpu::now(core.id).unwrap();
        std::thread::spawn(move || {
            core_affinity::set_for_current(core);
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(200) {
                std::hint::spin_loop();
            }
        })
        .join()
        .unwrap();
        assert!(Cpu::now(core.id).unwrap().since(before) > Duration::ZERO);
    }
}
