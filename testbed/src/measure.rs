//! Figures of the way between two pods: throughput of one TCP stream, round-trip times.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::ip::in_netns;

/// How long iperf3's server may take to listen.
const SERVER_START: Duration = Duration::from_secs(5);

/// A process that ends when this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("cannot run {command:?}"))?))
    }

    /// The process, to read from it or wait for it.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where the process has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Deserialize)]
struct Iperf {
    end: IperfEnd,
    /// With it, the rest says nothing; the exit code may be 0 all the same.
    error: Option<String>,
}

#[derive(Deserialize)]
struct IperfEnd {
    sum_received: Option<IperfSum>,
}

#[derive(Deserialize)]
struct IperfSum {
    bits_per_second: f64,
}

/// The port that iperf3's server listens at if it is not told.
const IPERF_PORT: u16 = 5201;

/// Which way a TCP stream's bytes go: with the connection, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Forth,
    Back,
}

/// Bits a second that one TCP stream delivers from the namespace `from` to `address` in the namespace `to`.
pub fn tcp_throughput(from: &str, to: &str, address: &str, time: Duration) -> Result<f64> {
    tcp_throughput_at(from, to, (address, IPERF_PORT), time, Direction::Forth)
}

/// The same to a port of the address, or over such a connection back.
pub fn tcp_throughput_at(
    from: &str,
    to: &str,
    at: (&str, u16),
    time: Duration,
    direction: Direction,
) -> Result<f64> {
    let seconds = time.as_secs().to_string();
    let mut how = vec!["--time", &seconds];
    if direction == Direction::Back {
        how.push("--reverse");
    }
    iperf3(from, to, at, &how)
}

/// Has one TCP stream deliver so many bytes, as fast as it goes: bits a second.
pub fn tcp_bytes(from: &str, to: &str, address: &str, bytes: u64) -> Result<f64> {
    iperf3(from, to, (address, IPERF_PORT), &["--bytes", &bytes.to_string()])
}

fn iperf3(from: &str, to: &str, (address, port): (&str, u16), how: &[&str]) -> Result<f64> {
    let port = port.to_string();
    let mut server = in_netns(to, "iperf3");
    server.args(["--server", "--one-off", "--bind", address, "--port", &port]);
    let _server = Running::start(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    let deadline = Instant::now() + SERVER_START;
    loop {
        let output = in_netns(from, "iperf3")
            .args(["--client", address, "--port", &port, "--connect-timeout", "2000", "--json"])
            .args(how)
            .output()
            .context("cannot run iperf3: install the package iperf3")?;
        let report: Iperf = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("cannot read iperf3's report: {}", String::from_utf8_lossy(&output.stderr).trim())
        })?;
        match (report.error, report.end.sum_received) {
            (None, Some(sum)) => return Ok(sum.bits_per_second),
            // The server may not listen yet.
            (error, _) if Instant::now() > deadline => {
                bail!("iperf3 from {from} to {address} failed: {}", error.as_deref().unwrap_or("no figures"))
            }
            _ => {}
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Round-trip times of pings.
#[derive(Debug, Clone)]
pub struct RoundTrips {
    /// Milliseconds, ascending; at least one.
    times: Vec<f64>,
    pub sent: usize,
}

impl RoundTrips {
    /// The time in milliseconds that `percent` of the answered pings did not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.times.len() * percent).div_ceil(100).max(1);
        self.times[rank - 1]
    }

    pub fn lost(&self) -> usize {
        self.sent - self.times.len()
    }

    /// Reads ping's lines, each with `time=0.123 ms`.
    fn parse(text: &str, sent: usize) -> Result<Self> {
        let time = |line: &str| line.split_once("time=")?.1.split_whitespace().next()?.parse().ok();
        let mut times: Vec<f64> = text.lines().filter_map(time).take(sent).collect();
        if times.is_empty() {
            bail!("no ping was answered");
        }
        times.sort_by(f64::total_cmp);
        Ok(Self { times, sent })
    }
}

/// Pings `address` from the namespace, `interval` apart.
pub fn ping(from: &str, address: &str, count: usize, interval: Duration) -> Result<RoundTrips> {
    let output = in_netns(from, "ping")
        .args(["-n", "-W", "1", "-c", &count.to_string()])
        .args(["-i", &interval.as_secs_f64().to_string(), address])
        // The decimal point of the answer is a point.
        .env("LC_ALL", "C")
        .output()
        .context("cannot run ping: install the package iputils-ping")?;
    RoundTrips::parse(&String::from_utf8_lossy(&output.stdout), count)
        .with_context(|| format!("ping from {from} to {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_answered_pings() {
        let lines: Vec<String> =
            (1..=99).map(|n| format!("64 bytes from x: icmp_seq={n} ttl=61 time={n}.0 ms")).collect();
        let trips = RoundTrips::parse(&lines.join("\n"), 100).unwrap();
        assert_eq!((trips.percentile(50), trips.percentile(99), trips.lost()), (50.0, 99.0, 1));
        assert!(RoundTrips::parse("2 packets transmitted, 0 received", 2).is_err());
    }
}
