//! The search against simulated devices.

use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::lab::method::simulated::Device;

const SEARCH: Search = Search { time: Duration::from_millis(400), goal: 0.001, resolution: 0.02, trials: 14 };

fn search(search: &Search, device: &mut Device) -> Throughput {
    let found = throughput(search, Guess::None, &mut |offered| Ok(device.trial(offered))).unwrap();
    assert_eq!(found.trials, device.trials);
    assert!(found.trials <= search.trials, "{}", told(&found));
    found
}

/// What was found, without its histogram.
fn told(found: &Throughput) -> String {
    format!("{:.0}, {:?} failed, {:?}, {} trials", found.rate(), found.failed, found.limit, found.trials)
}

/// What a rate is of another, less one.
fn off(found: &Throughput, expected: f64) -> f64 {
    found.rate() / expected - 1.0
}

#[test]
fn finds_the_rate_of_a_steady_device_whatever_it_is() {
    for capacity in [3_000.0, 90_000.0, 450_000.0, 610_000.0, 1_300_000.0] {
        for ring in [64.0, 2_048.0, 16_384.0] {
            let mut device = Device { capacity, ring, ..Device::default() };
            let found = search(&SEARCH, &mut device);
            // What the ring takes in passes as well, which a short trial cannot tell from forwarding.
            let more = ring / SEARCH.time.as_secs_f64();
            let off = off(&found, capacity);
            assert!(off > -0.025 && found.rate() < (capacity + more) * 1.02, "{capacity} {ring}: {off}");
            assert_eq!(found.limit, Limit::Gateway, "{capacity} {ring}: {}", told(&found));
            assert!(found.best.unwrap().loss() <= SEARCH.goal);
        }
    }
}

#[test]
fn finds_it_on_a_machine_that_stands_still_now_and_then() {
    let mut misses = 0;
    for seed in 0..50 {
        let mut device = Device {
            noise: 0.15,
            // One in three trials has such a pause, and it loses more than the goal.
            pauses: (1.0, 10),
            random: Rng::with_seed(seed),
            ..Device::default()
        };
        let found = search(&SEARCH, &mut device);
        misses += u32::from(off(&found, 600_000.0).abs() > 0.05);
    }
    assert!(misses <= 5, "{misses} of 50");
}

#[test]
fn a_rate_at_a_tolerated_loss_is_found_where_something_is_always_lost() {
    let device = || Device { constant_loss: 0.0005, ..Device::default() };
    let found = search(&SEARCH, &mut device());
    assert!(off(&found, 600_000.0).abs() < 0.03, "{}", told(&found));
    let lossless = search(&Search { goal: 0.0, trials: 40, ..SEARCH }, &mut device());
    assert!(lossless.best.is_none() && lossless.limit == Limit::Gateway, "{}", told(&lossless));
    assert!(lossless.rate() <= 0.0);
}

#[test]
fn a_device_that_forwards_nothing_is_asked_twice() {
    let mut device = Device { capacity: 0.0, ring: 0.0, ..Device::default() };
    let found = search(&SEARCH, &mut device);
    assert!(found.best.is_none(), "{}", told(&found));
    assert_eq!((found.trials, found.limit), (2, Limit::Gateway));
}

#[test]
fn a_source_that_is_slower_than_the_device_is_the_limit() {
    let mut device = Device { source: 400_000.0, ..Device::default() };
    let found = search(&SEARCH, &mut device);
    assert_eq!((found.limit, found.trials, found.failed), (Limit::Source, 1, None));
    assert!(off(&found, 400_000.0).abs() < 0.01, "{}", told(&found));
}

#[test]
fn a_rate_is_what_was_sent_where_the_device_slows_the_source() {
    let mut device = Device { slows_source: true, ..Device::default() };
    let together = 1.0 / (1.0 / 1_500_000.0 + 1.0 / 600_000.0);
    let found = search(&SEARCH, &mut device);
    assert_eq!(found.limit, Limit::Source);
    assert!(off(&found, together).abs() < 0.01, "{}", told(&found));
    // The same where the search asks for more than can be had.
    let mut ask = |offered: &Offered| Ok(device.trial(offered));
    let found = throughput(&SEARCH, Guess::About(together * 1.3), &mut ask).unwrap();
    assert_eq!(found.limit, Limit::Source, "{}", told(&found));
    assert!(off(&found, together).abs() < 0.01, "{}", told(&found));
}

#[test]
fn a_source_that_is_always_a_little_slow_does_not_end_the_search() {
    let mut device = Device { ring: 512.0, ..Device::default() };
    let mut late = |offered: &Offered| {
        let Rate::Pps(rate) = offered.rate else { return Ok(device.trial(offered)) };
        Ok(device.trial(&Offered { rate: Rate::Pps(rate * 0.97), ..*offered }))
    };
    let found = throughput(&SEARCH, Guess::About(500_000.0), &mut late).unwrap();
    assert!(off(&found, 600_000.0).abs() < 0.05, "{}", told(&found));
}

#[test]
fn a_guess_saves_trials_and_a_wrong_one_costs_accuracy_at_most() {
    for (guess, most) in [(600_000.0, 8), (500_000.0, 12), (700_000.0, 14), (900_000.0, 14)] {
        let mut device = Device { ring: 512.0, ..Device::default() };
        let found =
            throughput(&SEARCH, Guess::About(guess), &mut |offered| Ok(device.trial(offered))).unwrap();
        assert!(off(&found, 600_000.0).abs() < 0.04, "{guess}: {}", told(&found));
        assert!(found.trials <= most, "{guess}: {}", found.trials);
    }
}

#[test]
fn ends_after_its_trials_whatever_the_device_says() {
    let mut random = Rng::with_seed(3);
    for trials in [1, 2, 3, 7, 30] {
        let mut asked = 0;
        let mut moody = Device::default();
        let mut device = |offered: &Offered| {
            asked += 1;
            moody.capacity = random.f64() * 2_000_000.0;
            moody.constant_loss = if random.bool() { 0.5 } else { 0.0 };
            Ok(moody.trial(offered))
        };
        let found = throughput(&Search { trials, ..SEARCH }, Guess::None, &mut device).unwrap();
        assert!(found.trials <= trials && found.trials == asked, "{trials}: {}", found.trials);
    }
}

#[test]
fn an_error_of_the_device_is_the_search_s() {
    let mut device = |_: &Offered| anyhow::bail!("the sink is gone");
    let error = throughput(&SEARCH, Guess::None, &mut device).unwrap_err();
    assert_eq!(error.to_string(), "the sink is gone");
}
