//! What a run holds: which cases, what is asked of each, in which turns, with how much effort, and how long that takes.
//!
//! The sheets below are the plan; the rest puts them in order.

mod able;

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;

use self::able::is_able;
use crate::lab::case::{Case, Dataplane, IMIX_SIZE, Job};

/// All that can be combined of these.
#[derive(Clone, Debug)]
struct Sheet {
    jobs: Vec<Job>,
    dataplanes: Vec<Dataplane>,
    sizes: Vec<u16>,
    flows: Vec<u32>,
    policies: Vec<u32>,
}

const SIZES: [u16; 9] = [64, 128, 256, 512, 1024, 1280, 1518, IMIX_SIZE, 9000];
const COMPARED: [Dataplane; 4] = [Dataplane::Margay, Dataplane::Kernel, Dataplane::Ovs, Dataplane::Bare];

/// What the goals speak of.
const SIZE: u16 = 64;
const FLOWS: u32 = 10_000;
const POLICIES: u32 = 1;

/// What one TCP stream is: full frames of one flow.
const TCP_SIZE: u16 = 1518;

/// Beyond so many flows gateways have tables of another size.
const COMMON_FLOWS: u32 = 100_000;
/// Beyond this size links have another MTU.
const COMMON_SIZE: u16 = 1518;

fn sheet(jobs: &[Job], dataplanes: &[Dataplane]) -> Sheet {
    let (sizes, flows, policies) = (vec![SIZE], vec![FLOWS], vec![POLICIES]);
    Sheet { jobs: jobs.to_vec(), dataplanes: dataplanes.to_vec(), sizes, flows, policies }
}

fn quick() -> Sheet {
    sheet(&[Job::VxlanEncap, Job::Cps, Job::VxlanDecap], &COMPARED)
}

fn full() -> Vec<Sheet> {
    let main = [Job::VxlanEncap, Job::VxlanDecap];
    vec![
        sheet(&[Job::VxlanEncap, Job::Latency, Job::Cps, Job::VxlanDecap], &COMPARED),
        Sheet { sizes: SIZES.to_vec(), ..sheet(&main, &COMPARED) },
        Sheet { flows: vec![1, 1_000_000], ..sheet(&main, &COMPARED) },
        Sheet { policies: vec![10_000], ..sheet(&main, &COMPARED) },
        Sheet { sizes: vec![64, 512, 1518], ..sheet(&[Job::L3, Job::VxlanBoth], &COMPARED) },
        Sheet { policies: vec![0], ..sheet(&[Job::L3], &COMPARED) },
        sheet(&[Job::Tcp], &COMPARED),
        sheet(&[Job::L3], &[Dataplane::Testpmd]),
    ]
}

/// How thorough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Some minutes: what the goals speak of.
    Quick,
    /// About an hour.
    Full,
}

/// What to measure. An empty list is what the scope holds.
#[derive(Clone, Debug)]
pub struct Selection {
    pub scope: Scope,
    pub jobs: Vec<Job>,
    pub dataplanes: Vec<Dataplane>,
    pub sizes: Vec<u16>,
    pub flows: Vec<u32>,
    pub policies: Vec<u32>,
    pub repeats: Option<u32>,
    /// Of one trial.
    pub time: Option<Duration>,
    /// IP-in-IP where the jobs have VXLAN.
    pub ipip: bool,
}

/// How long and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    pub repeats: u32,
    /// Of a trial in a search.
    pub trial: Duration,
    /// Of a search, at most.
    pub trials: u32,
    /// Of a trial whose latencies count.
    pub latency: Duration,
    /// Of opening and closing connections.
    pub connect: Duration,
    /// Of one TCP stream.
    pub stream: Duration,
    pub soak_slices: u32,
    pub soak_slice: Duration,
    /// No round is begun that would end after it.
    pub budget: Duration,
}

impl Scope {
    fn effort(self) -> Effort {
        let quick = Effort {
            repeats: 5,
            trial: Duration::from_millis(400),
            trials: 12,
            latency: Duration::from_secs(1),
            connect: Duration::from_secs(2),
            stream: Duration::from_secs(3),
            soak_slices: 10,
            soak_slice: Duration::from_secs(1),
            budget: Duration::from_secs(300),
        };
        match self {
            Self::Quick => quick,
            Self::Full => Effort {
                repeats: 3,
                latency: Duration::from_secs(2),
                connect: Duration::from_secs(3),
                stream: Duration::from_secs(5),
                soak_slices: 30,
                budget: Duration::from_secs(3600),
                ..quick
            },
        }
    }
}

/// What is asked of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// The job's own figures, in every repeat.
    Figures,
    NoDrop,
    LossCurve,
    BackToBack,
    Soak,
}

impl What {
    /// For people.
    #[must_use]
    pub fn name(self, job: Job) -> &'static str {
        match (self, job) {
            (Self::Figures, Job::Tcp) => "stream",
            (Self::Figures, Job::Cps) => "rate",
            (Self::Figures, Job::Latency) => "percentiles",
            (Self::Figures, _) => "throughput",
            (Self::NoDrop, _) => "no-drop rate",
            (Self::LossCurve, _) => "loss curve",
            (Self::BackToBack, _) => "back-to-back",
            (Self::Soak, _) => "soak",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub case: Case,
    pub what: What,
}

/// One gateway, started for what it is asked in a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Whose site it stands in.
    pub job: Job,
    pub dataplane: Dataplane,
    pub policies: u32,
    /// The most of its cases.
    pub flows: u32,
    /// The largest of its cases.
    pub size: u16,
    pub asks: Vec<Ask>,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The dataplanes of a group take turns: in each round the next one is first.
    groups: Vec<Vec<Turn>>,
    pub effort: Effort,
}

impl Plan {
    pub fn new(selection: &Selection) -> anyhow::Result<Self> {
        let mut effort = selection.scope.effort();
        effort.repeats = selection.repeats.unwrap_or(effort.repeats);
        effort.trial = selection.time.unwrap_or(effort.trial);
        effort.latency = effort.latency.max(effort.trial);
        let cases = cases(selection);
        ensure!(
            !cases.is_empty(),
            "nothing to measure: none of these dataplanes does any of these jobs here{}",
            if selection.ipip { " by IP-in-IP" } else { "" }
        );
        let mut plan = Self { groups: groups(&cases, selection.scope), effort };
        // Who asks for more than the scope holds has the time.
        plan.effort.budget = plan.effort.budget.max(plan.estimate());
        Ok(plan)
    }

    /// The turns of a round in their order.
    pub fn turns(&self, round: u32) -> impl Iterator<Item = &Turn> {
        self.groups.iter().flat_map(move |group| {
            let first = round as usize % group.len();
            group[first..].iter().chain(&group[..first])
        })
    }

    /// What is asked in a turn of a round.
    pub fn asks<'a>(&self, turn: &'a Turn, round: u32) -> impl Iterator<Item = &'a Ask> + use<'a> {
        turn.asks.iter().filter(move |ask| round == 0 || ask.what == What::Figures)
    }

    /// What its cases lack, for who reads what came of them.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        able::notes(&self.cases())
    }

    /// How long all of it takes, about.
    #[must_use]
    pub fn estimate(&self) -> Duration {
        (0..self.effort.repeats).map(|round| self.round(round)).sum()
    }

    /// How long a round takes, about.
    #[must_use]
    pub fn round(&self, round: u32) -> Duration {
        let turn =
            |turn| start(turn) + self.asks(turn, round).map(|ask| self.effort.of(ask)).sum::<Duration>();
        self.turns(round).map(turn).sum()
    }

    /// Every case, once.
    #[must_use]
    pub fn cases(&self) -> Vec<Case> {
        let asks = self.turns(0).flat_map(|turn| &turn.asks);
        asks.filter(|ask| ask.what == What::Figures).map(|ask| ask.case).collect()
    }
}

/// How long a gateway and its site take to be there, about.
#[must_use]
pub fn start(turn: &Turn) -> Duration {
    let (idle, policies) = match turn.dataplane {
        Dataplane::Margay => (1.5, 4.0),
        Dataplane::Kernel => (0.8, 3.0),
        Dataplane::Ovs => (3.0, 8.0),
        Dataplane::Testpmd => (4.0, 0.0),
        Dataplane::Bare => (0.8, 0.0),
    };
    Duration::from_secs_f64(idle + policies * f64::from(turn.policies) / 10_000.0)
}

/// What of the trials of a search it usually takes.
const TAKEN: f64 = 0.5;
/// What a trial takes beside its time.
const BESIDE: Duration = Duration::from_millis(100);
/// What opening the load takes, and how fast flows are primed.
const OPEN: Duration = Duration::from_millis(500);
const PRIMED: f64 = 300_000.0;

impl Effort {
    /// How long an answer takes, about.
    #[must_use]
    pub fn of(&self, ask: &Ask) -> Duration {
        let open = OPEN + Duration::from_secs_f64(f64::from(ask.case.flows) / PRIMED);
        let trials = |time: Duration, trials: f64| (time + BESIDE).mul_f64(trials);
        let search = trials(self.trial, f64::from(self.trials) * TAKEN);
        open + match (ask.what, ask.case.job) {
            // There and back.
            (What::Figures, Job::Tcp) => self.stream * 2,
            (What::Figures, Job::Cps) => self.connect,
            (What::Figures, Job::Latency) => trials(self.latency, 4.0),
            (What::Figures | What::NoDrop, _) => search,
            (What::LossCurve, _) => trials(self.trial, 8.0),
            (What::BackToBack, _) => trials(BESIDE, 25.0),
            (What::Soak, _) => trials(self.soak_slice, f64::from(self.soak_slices)),
        }
    }
}

/// The cases of the sheets, each once.
fn cases(selection: &Selection) -> Vec<Case> {
    let Selection { scope, jobs, dataplanes, sizes, flows, policies, ipip, .. } = selection;
    let has_axes = !(sizes.is_empty() && flows.is_empty() && policies.is_empty());
    let sheets = match scope {
        Scope::Full if !has_axes => full(),
        Scope::Full => vec![sheet(Job::value_variants(), &COMPARED)],
        Scope::Quick => vec![quick()],
    };
    // One sheet becomes what is asked for; several are narrowed to it.
    let sheets = match sheets.as_slice() {
        [one] => vec![Sheet {
            jobs: or(jobs, &one.jobs),
            dataplanes: or(dataplanes, &one.dataplanes),
            sizes: or(sizes, &one.sizes),
            flows: or(flows, &one.flows),
            policies: or(policies, &one.policies),
        }],
        _ => sheets,
    };
    let is_asked = |case: &Case| {
        (jobs.is_empty() || jobs.contains(&case.job))
            && (dataplanes.is_empty() || dataplanes.contains(&case.dataplane))
            && is_able(case, *ipip)
    };
    let mut all = Vec::new();
    for case in sheets.iter().flat_map(Sheet::cases).filter(is_asked) {
        if !all.contains(&case) {
            all.push(case);
        }
    }
    all
}

fn or<T: Copy>(chosen: &[T], all: &[T]) -> Vec<T> {
    if chosen.is_empty() { all.to_vec() } else { chosen.to_vec() }
}

impl Sheet {
    fn cases(&self) -> impl Iterator<Item = Case> {
        let Self { jobs, dataplanes, sizes, flows, policies } = self;
        jobs.iter().flat_map(move |&job| {
            dataplanes.iter().flat_map(move |&dataplane| {
                policies.iter().flat_map(move |&policies| {
                    flows.iter().flat_map(move |&flows| {
                        let case = move |&size| case(job, dataplane, size, flows, policies);
                        sizes.iter().map(case)
                    })
                })
            })
        })
    }
}

fn case(job: Job, dataplane: Dataplane, size: u16, flows: u32, policies: u32) -> Case {
    match job {
        Job::Tcp => Case { job, dataplane, size: TCP_SIZE, flows: 1, policies },
        // Most packets of a connection are as short as they can be.
        Job::Cps => Case { job, dataplane, size: SIZE, flows, policies },
        _ => Case { job, dataplane, size, flows, policies },
    }
}

/// Turns of the cases that one gateway can serve, by what they have in common but the dataplane.
fn groups(cases: &[Case], scope: Scope) -> Vec<Vec<Turn>> {
    let mut groups: Vec<(_, Vec<Turn>)> = Vec::new();
    for case in cases {
        let job = if case.job == Job::Tcp { Job::Tcp } else { case.job.way() };
        let common = (job, case.policies, case.flows > COMMON_FLOWS, case.size > COMMON_SIZE);
        let at = groups.iter().position(|(of, _)| *of == common).unwrap_or_else(|| {
            groups.push((common, Vec::new()));
            groups.len() - 1
        });
        let turns = &mut groups[at].1;
        let at = turns.iter().position(|turn| turn.dataplane == case.dataplane).unwrap_or_else(|| {
            let (Case { dataplane, policies, flows, .. }, size) = (*case, case.longest());
            turns.push(Turn { job, dataplane, policies, flows, size, asks: Vec::new() });
            turns.len() - 1
        });
        let turn = &mut turns[at];
        turn.flows = turn.flows.max(case.flows);
        turn.size = turn.size.max(case.longest());
        turn.asks.extend(whats(case, scope).iter().map(|&what| Ask { case: *case, what }));
    }
    groups.into_iter().map(|(_, turns)| turns).collect()
}

/// The case of the goals is asked for everything.
fn whats(case: &Case, scope: Scope) -> &'static [What] {
    let is_goal = (case.size, case.flows, case.policies) == (SIZE, FLOWS, POLICIES);
    match (scope, case.job) {
        (Scope::Full, Job::VxlanEncap) if is_goal && case.dataplane != Dataplane::Testpmd => {
            &[What::Figures, What::NoDrop, What::LossCurve, What::BackToBack, What::Soak]
        }
        _ => &[What::Figures],
    }
}

#[cfg(test)]
mod tests;
