//! The lab itself, for the schedule to use: a site and a gateway for each turn, load through it, and the method of each
//! question.

use std::fmt;

use anyhow::{Context, bail, ensure};
use margay_testbed::{ip, netns};

use super::case::{Case, IMIX, IMIX_SIZE, Job, Metric, name};
use super::dataplane::{self, Cores, Description, Gateway};
use super::details;
use super::load::{Connections, Load, Stream, Tools};
use super::method::burst::back_to_back;
use super::method::curve::loss_curve;
use super::method::latency::latency;
use super::method::soak::soak;
use super::method::throughput::{Guess, Search, Throughput, throughput};
use super::outcome::{Answer, Described, Figures};
use super::schedule::Lab;
use super::schedule::plan::{Ask, Effort, Turn, What};
use super::site::{self, Site};
use super::stop::Stop;
use super::tcp;
use super::trial::{Measured, Offered};
use super::world::Side;

/// Share of the packets that may be lost at the rate that counts.
const GOAL: f64 = 0.001;
const RESOLUTION: f64 = 0.015;

/// What packets take is asked at so many percent of the throughput. The rows are those of half of it.
const LOADS: [u8; 3] = [10, HALF, 90];
const HALF: u8 = 50;

/// A soak is at this share of the throughput, and has so many new flows a second.
const SOAK_SHARE: f64 = 0.8;
const NEW_FLOWS: u32 = 1_000;

/// A burst that has so many packets without loss has no end.
const LONGEST_BURST: u64 = 1 << 19;

/// Share of the flows that have to have been seen in both directions before the first trial.
const PRIMED: f64 = 0.99;

/// A gateway that has forwarded less than this share of what arrived was not what forwarded it.
const OWN: f64 = 0.99;

/// This machine.
#[derive(Debug)]
pub struct Bench {
    cores: Cores,
    tools: Tools,
    ipip: bool,
    stop: Stop,
}

/// A gateway in its site, with the load that was last asked for. What is first is dropped first.
pub struct Running {
    load: Option<(Stream, Load)>,
    gateway: Box<dyn Gateway>,
    site: Site,
    cores: Cores,
    tools: Tools,
    stop: Stop,
    /// Packets a second of what was searched in this turn.
    found: Vec<(Case, f64)>,
    /// Packets that arrived in trials since the gateway's own count was looked at.
    arrived: u64,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("site", &self.site)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl Bench {
    pub fn new(tools: Tools, ipip: bool, stop: Stop) -> anyhow::Result<Self> {
        Ok(Self { cores: Cores::allowed()?, tools, ipip, stop })
    }
}

impl Lab for Bench {
    type Gateway = Running;

    fn start(&mut self, turn: &Turn) -> anyhow::Result<Running> {
        let mtu = site::mtu(turn.size) + dataplane::left_on(turn.dataplane);
        let mut site = Site::new(turn.job, mtu).context("cannot build the site")?;
        site.ipip = self.ipip;
        let &Turn { job, dataplane, size, flows, policies, .. } = turn;
        let gateway = dataplane::start(&site, &Case { job, dataplane, size, flows, policies }, self.cores)?;
        if turn.job == Job::Tcp {
            tcp::prepare(&site).context("cannot build the far end")?;
        }
        let (cores, tools, stop) = (self.cores, self.tools, self.stop.clone());
        Ok(Running { load: None, gateway, site, cores, tools, stop, found: vec![], arrived: 0 })
    }

    fn describe(&self, turn: &Turn, running: &Running) -> Described {
        let Description { dataplane, version, arrangement, settings } = running.gateway.description();
        let gateway = details::Gateway { dataplane, jobs: vec![], version, arrangement, settings };
        let site = &running.site;
        let devices = [Side::Source, Side::Sink].map(|side| {
            let device = &site.end(side).gateway_device;
            let key = format!("{} {} {device}", name(&dataplane), name(&turn.job));
            (key, offloads(&site.gateway, device))
        });
        Described { gateway, offloads: devices.into() }
    }

    fn ask(&mut self, running: &mut Running, ask: &Ask, effort: &Effort) -> anyhow::Result<Answer> {
        match (ask.what, ask.case.job) {
            (What::Figures, Job::Tcp) => running.stream(effort).map(figures),
            (What::Figures, Job::Cps) => running.connections(&ask.case, effort).map(figures),
            _ => running.under_load(ask, effort),
        }
    }
}

impl Running {
    /// What needs packets with stamps.
    fn under_load(&mut self, ask: &Ask, effort: &Effort) -> anyhow::Result<Answer> {
        let before = self.gateway.forwarded()?;
        self.arrived = 0;
        let answer = match (ask.what, ask.case.job) {
            (What::Figures, Job::Latency) => figures(self.latency(&ask.case, effort)?),
            (What::Figures, _) => figures(self.throughput(&ask.case, effort)?),
            (What::NoDrop, _) => Answer::NoDrop(self.no_drop(&ask.case, effort)?),
            (What::LossCurve, _) => {
                let mut device = self.device(self.stream_of(&ask.case))?;
                Answer::LossCurve(loss_curve(effort.trial, &mut device)?)
            }
            (What::BackToBack, _) => {
                let mut device = self.device(self.stream_of(&ask.case))?;
                Answer::BackToBack(back_to_back(LONGEST_BURST, &mut device)?)
            }
            (What::Soak, _) => self.soak(&ask.case, effort)?,
        };
        let (own, arrived) = (self.gateway.forwarded()?.saturating_sub(before), self.arrived);
        ensure!(
            own as f64 >= arrived as f64 * OWN,
            "{arrived} packets arrived, but the gateway says that it forwarded {own}: something else forwards here"
        );
        Ok(answer)
    }

    /// The packets of a case.
    fn stream_of(&self, case: &Case) -> Stream {
        let sizes = if case.size == IMIX_SIZE { IMIX.to_vec() } else { vec![(case.size, 1)] };
        Stream { sizes, ipip: self.site.ipip, ..Stream::of_size(case.job.way(), case.size, case.flows) }
    }

    /// What offers packets of the stream, whose flows all have been seen in both directions.
    fn device(&mut self, stream: Stream) -> anyhow::Result<impl FnMut(&Offered) -> anyhow::Result<Measured>> {
        if self.load.as_ref().is_none_or(|(open, _)| *open != stream) {
            // Two would stand in each other's way.
            self.load = None;
            let mut load =
                Load::open(&self.site, &stream, self.cores, self.tools).context("cannot open the load")?;
            let answered = load.prime().context("cannot prime the flows")?;
            ensure!(
                f64::from(answered) >= f64::from(stream.flows) * PRIMED,
                "of {} flows only {answered} were answered before the trials: they would not be established",
                stream.flows
            );
            self.load = Some((stream, load));
        }
        let (_, load) = self.load.as_mut().context("no load")?;
        let (stop, arrived) = (&self.stop, &mut self.arrived);
        Ok(move |offered: &Offered| {
            ensure!(!stop.is_asked(), "the run ends");
            let measured = load.trial(offered)?;
            *arrived += measured.received;
            Ok(measured)
        })
    }

    fn search(
        &mut self,
        case: &Case,
        goal: f64,
        guess: Guess,
        effort: &Effort,
    ) -> anyhow::Result<Throughput> {
        let search = Search { time: effort.trial, goal, resolution: RESOLUTION, trials: effort.trials };
        throughput(&search, guess, &mut self.device(self.stream_of(case))?)
    }

    fn throughput(&mut self, case: &Case, effort: &Effort) -> anyhow::Result<Figures> {
        let found = self.search(case, GOAL, Guess::None, effort)?;
        let Some(best) = &found.best else {
            match found.failed {
                Some(rate) => bail!("loses more than {} % even at {rate:.0} packets a second", GOAL * 100.0),
                None => bail!("forwards nothing"),
            }
        };
        let rows = vec![
            (Metric::Mpps, best.rate() / 1e6),
            (Metric::Cpu, best.cpu_per_million()),
            (Metric::Loss, best.loss() * 100.0),
        ];
        self.found.push((*case, best.rate()));
        Ok(Figures { rows, throughput: Some(found), ..Figures::default() })
    }

    /// The rate of the case, or of the case whose packets are the same, from this turn or by a search of its own.
    fn rate(&mut self, case: &Case, effort: &Effort) -> anyhow::Result<f64> {
        let case = Case { job: case.job.way(), ..*case };
        if let Some((_, rate)) = self.found.iter().find(|(of, _)| *of == case) {
            return Ok(*rate);
        }
        self.throughput(&case, effort)?;
        self.found.last().map(|(_, rate)| *rate).context("no rate")
    }

    fn no_drop(&mut self, case: &Case, effort: &Effort) -> anyhow::Result<f64> {
        let rate = self.rate(case, effort)?;
        Ok(self.search(case, 0.0, Guess::About(rate), effort)?.rate())
    }

    fn latency(&mut self, case: &Case, effort: &Effort) -> anyhow::Result<Figures> {
        let rate = self.rate(case, effort)?;
        let mut device = self.device(self.stream_of(case))?;
        let latencies = latency(rate, &LOADS, effort.latency, GOAL, &mut device)?;
        let of_rows = latencies.iter().find(|at| at.percent == HALF);
        let measured = &of_rows.context("no trial at half load")?.measured;
        ensure!(measured.received > 0, "nothing arrived at half load");
        let us = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
        let rows =
            vec![(Metric::P50, us(0.5)), (Metric::P99, us(0.99)), (Metric::Loss, measured.loss() * 100.0)];
        Ok(Figures { rows, latencies, ..Figures::default() })
    }

    /// Each slice's flows begin where those of the one before have ended.
    fn soak(&mut self, case: &Case, effort: &Effort) -> anyhow::Result<Answer> {
        let offered = self.rate(case, effort)? * SOAK_SHARE;
        self.load = None;
        let mut stream = Stream { life: life(offered), ..self.stream_of(case) };
        let new = effort.soak_slice.as_millis() as u32 * NEW_FLOWS / 1_000;
        let Self { site, cores, tools, stop, arrived, .. } = self;
        let mut device = |offered: &Offered| {
            ensure!(!stop.is_asked(), "the run ends");
            let measured = Load::open(site, &stream, *cores, *tools)?.trial(offered)?;
            stream.first += new;
            *arrived += measured.received;
            Ok(measured)
        };
        let resident = || resident(&site.gateway);
        let slices = soak(offered, effort.soak_slices, effort.soak_slice, &mut device, resident)?;
        Ok(Answer::Soak { offered, new_flows_a_second: f64::from(NEW_FLOWS), slices })
    }

    fn connections(&mut self, case: &Case, effort: &Effort) -> anyhow::Result<Figures> {
        self.load = None;
        let mut connections = Connections::open(&self.site, case.flows, self.cores)
            .context("cannot open the load of connections")?;
        self.site.receive_on(Some(self.cores.of_ends(case.dataplane)))?;
        let connected = connections.run(effort.connect)?;
        self.site.receive_on(None)?;
        let failed = connected.failed;
        ensure!(connected.completed > 0, "not one connection was opened and closed, {failed} failed");
        let rows = vec![
            (Metric::Cps, connected.rate()),
            (Metric::Cpu, connected.cpu_per_million()),
            (Metric::Loss, connected.loss() * 100.0),
        ];
        Ok(Figures { rows, ..Figures::default() })
    }

    /// One TCP stream of the kernels at both ends. The row is of what leaves the pod.
    fn stream(&mut self, effort: &Effort) -> anyhow::Result<Figures> {
        let tcp::Throughput { from_pod, to_pod } = tcp::run(&self.site, effort.stream)?;
        let note = format!("{:.2} Gbit/s to the pod, beside {:.2} from it", to_pod / 1e9, from_pod / 1e9);
        Ok(Figures { rows: vec![(Metric::Gbps, from_pod / 1e9)], notes: vec![note], ..Figures::default() })
    }
}

fn figures(figures: Figures) -> Answer {
    Answer::Figures(Box::new(figures))
}

/// Packets from one new flow to the next.
// No rate is below 0.
#[allow(clippy::cast_sign_loss)]
fn life(rate: f64) -> u32 {
    (rate / f64::from(NEW_FLOWS)).ceil() as u32
}

/// Memory of the processes in a namespace; none where there are none.
fn resident(netns: &str) -> Option<u64> {
    let processes = netns::processes(&[netns.to_owned()]).ok()?;
    let of = |process: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    };
    let known: Vec<u64> = processes.iter().filter_map(of).collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

/// What ethtool says is on. For the report alone, so that no answer is an empty one.
fn offloads(netns: &str, device: &str) -> String {
    let output = ip::in_netns(netns, "ethtool").args(["-k", device]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let on = text.lines().filter_map(|line| line.split_once(": on")).map(|(what, _)| what.trim());
    on.collect::<Vec<_>>().join(" ")
}
