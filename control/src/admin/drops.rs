//! `GET /v1/drops`: what was dropped, by reason and port, and of late by policy and pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use margay_fastpath::counters::MAX_PORTS;
use margay_fastpath::{Counters, DropReason};
use margay_flowtable::PortId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::policies::DropRow;
use super::{Control, Query, Refusal, apart};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drops {
    /// Frames by reason and the port that they came in by, the most first, since the start of the process.
    pub reasons: Vec<ReasonRow>,
    /// First packets and flows that policy has denied of late, by rule and pod, the latest first.
    pub policies: Vec<DropRow>,
    /// Drops by policy that were too many to be kept: they stand in no row of `policies`.
    pub policies_lost: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReasonRow {
    pub reason: String,
    /// In a sentence.
    pub meaning: String,
    /// The port, by its name; none: ports that are closed.
    pub port: Option<String>,
    pub frames: u64,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// For this reason, by its word. (What policy denies has `policy-deny`.)
    reason: Option<String>,
    /// Of frames that came in by the port of this name.
    port: Option<String>,
    /// By this policy: `NAMESPACE/NAME`, or `NAME` of one that is cluster-wide.
    policy: Option<String>,
    /// By the policy of this pod, `NAMESPACE/NAME`.
    pod: Option<String>,
}

/// What the control loop knows of drops, which takes another thread to sum up.
pub(crate) struct Known {
    pub(crate) workers: Vec<Arc<Counters>>,
    /// The open ports, by number.
    pub(crate) ports: BTreeMap<PortId, OpenPort>,
    pub(crate) policies: Vec<DropRow>,
    pub(crate) policies_lost: u64,
}

pub(crate) struct OpenPort {
    pub(crate) name: String,
    /// What the counters of its number said when it was opened.
    pub(crate) before: [u64; DropReason::COUNT],
}

/// What was dropped: by reason and port, and of late by policy and pod.
#[utoipa::path(
    get,
    path = "/v1/drops",
    params(Asked),
    responses(
        (status = OK, description = "Drops", body = Drops),
        (status = BAD_REQUEST, description = "No such reason", body = super::Refused),
    )
)]
pub(super) async fn drops(
    State(control): State<Control>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    asked.check()?;
    let known = control.ask(|plane| plane.drops()).await?;
    apart(move || Ok(asked.of(known))).await
}

impl Asked {
    fn check(&self) -> Result<(), Refusal> {
        let words = || DropReason::ALL.iter().map(|reason| reason.word());
        match &self.reason {
            Some(reason) if !words().any(|word| word == reason) => Err(Refusal::bad_request(format!(
                "no reason {reason}: there are {}",
                words().collect::<Vec<_>>().join(", ")
            ))),
            _ => Ok(()),
        }
    }

    fn of(&self, known: Known) -> Drops {
        // What workers count by port they do not count by policy, and the other way round.
        let of_policy = self.policy.is_some() || self.pod.is_some();
        let of_port = self.port.is_some() || self.reason.as_deref().is_some_and(|reason| reason != DENIED);
        let reasons = if of_policy { Vec::new() } else { known.reasons() };
        let policies = if of_port { Vec::new() } else { known.policies };
        Drops {
            reasons: reasons.into_iter().filter(|row| self.wants_reason(row)).collect(),
            policies: policies.into_iter().filter(|row| self.wants_policy(row)).collect(),
            policies_lost: known.policies_lost,
        }
    }

    fn wants_reason(&self, row: &ReasonRow) -> bool {
        self.reason.as_ref().is_none_or(|reason| row.reason == *reason)
            && self.port.as_ref().is_none_or(|port| row.port.as_ref() == Some(port))
    }

    fn wants_policy(&self, row: &DropRow) -> bool {
        let policy = row.rule.as_ref().map(|rule| &rule.policy);
        self.policy.as_ref().is_none_or(|wanted| policy == Some(wanted))
            && self.pod.as_ref().is_none_or(|pod| row.endpoint == *pod)
    }
}

const DENIED: &str = DropReason::PolicyDeny.word();

impl Known {
    /// The most first.
    fn reasons(&self) -> Vec<ReasonRow> {
        let mut sums: BTreeMap<(&'static str, Option<&str>), (&DropReason, u64)> = BTreeMap::new();
        for id in (0..MAX_PORTS as u16).map(PortId) {
            let open = self.ports.get(&id);
            for reason in DropReason::ALL {
                let count = |worker: &Arc<Counters>| worker.port(id).drops[*reason as usize].get();
                let all: u64 = self.workers.iter().map(count).sum();
                let before = open.map_or(all, |open| open.before[*reason as usize]);
                let name = open.map(|open| open.name.as_str());
                for (port, frames) in [(None, before), (name, all.saturating_sub(before))] {
                    if frames > 0 {
                        sums.entry((reason.word(), port)).or_insert((reason, 0)).1 += frames;
                    }
                }
            }
        }
        let row = |((word, port), (reason, frames)): ((&str, Option<&str>), (&DropReason, u64))| ReasonRow {
            reason: word.to_owned(),
            meaning: reason.meaning().trim().to_owned(),
            port: port.map(str::to_owned),
            frames,
        };
        let mut rows: Vec<ReasonRow> = sums.into_iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.frames));
        rows
    }
}
