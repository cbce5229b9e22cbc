//! `GET /v1/endpoints`: the pods whose policy is enforced here, and which policies they obey.

use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use margay_flowtable::{Policies, ProgramId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Control, PortState, Query, Refusal, apart};
use crate::state::Name;

/// Pods that the control loop looks at at once.
pub(crate) const PORTION: usize = 500;
/// Endpoints of an answer, where nothing else is asked for, and at most.
const LIMIT: usize = 1000;
const MOST: usize = 10_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointPage {
    /// In order of namespace and name.
    pub endpoints: Vec<EndpointRow>,
    /// What `after` is for the next page; none on the last.
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointRow {
    /// NAMESPACE/NAME.
    pub pod: String,
    /// Where it runs: this node, or one that this is the gateway of.
    pub node: String,
    /// Those that are the pod's: another pod may hold one that its object names.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Its port here, by name; none of a pod on another node.
    pub port: Option<String>,
    pub port_state: Option<PortState>,
    /// Policies that are asked of what it receives and of what it sends, in their order; none: all is allowed.
    pub ingress: Vec<TierRow>,
    pub egress: Vec<TierRow>,
}

/// The policies of a tier that select the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TierRow {
    pub tier: String,
    /// NAMESPACE/NAME, or NAME of a cluster-wide one.
    pub policies: Vec<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// The pod NAMESPACE/NAME.
    pod: Option<String>,
    /// Pods of this namespace.
    namespace: Option<String>,
    /// Pods on this node.
    node: Option<String>,
    /// The pod with this address.
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// Pods behind NAMESPACE/NAME.
    after: Option<String>,
    /// At most so many, 1 to 10000; 1000 unless said.
    limit: Option<usize>,
}

impl Asked {
    fn limit(&self) -> Result<usize, Refusal> {
        let limit = self.limit.unwrap_or(LIMIT);
        if (1..=MOST).contains(&limit) {
            return Ok(limit);
        }
        Err(Refusal::bad_request(format!("limit is 1 to {MOST}, not {limit}")))
    }

    fn wants(&self, row: &EndpointRow) -> bool {
        let namespace = row.pod.split('/').next();
        self.pod.as_ref().is_none_or(|pod| row.pod == *pod)
            && self.namespace.as_deref().is_none_or(|wanted| namespace == Some(wanted))
            && self.node.as_ref().is_none_or(|node| row.node == *node)
            && self.address.is_none_or(|address| row.addresses.contains(&address))
    }
}

/// Pods of a portion that are endpoints here, and how far the portion went; none: to the end.
pub(crate) struct Portion {
    pub(crate) rows: Vec<EndpointRow>,
    pub(crate) upto: Option<Name>,
}

/// The pods whose policy is enforced here, page by page.
#[utoipa::path(
    get,
    path = "/v1/endpoints",
    params(Asked),
    responses(
        (status = OK, description = "A page of endpoints", body = EndpointPage),
        (status = BAD_REQUEST, description = "No such question", body = super::Refused),
    )
)]
pub(super) async fn endpoints(
    State(control): State<Control>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let limit = asked.limit()?;
    let policies = control.ask(|plane| plane.policies_now()).await?;
    let mut after = asked.after.as_deref().map(name).transpose()?;
    let mut page = EndpointPage::default();
    loop {
        let from = after.take();
        let portion = control.ask(move |plane| plane.endpoints_after(from.as_ref(), PORTION)).await?;
        for row in portion.rows.into_iter().filter(|row| asked.wants(row)) {
            if page.endpoints.len() == limit {
                page.next = page.endpoints.last().map(|row| row.pod.clone());
                return answer(page, policies).await;
            }
            page.endpoints.push(row);
        }
        after = portion.upto;
        if after.is_none() {
            return answer(page, policies).await;
        }
    }
}

/// The page with what each obeys.
async fn answer(mut page: EndpointPage, policies: Policies) -> Result<Response, Refusal> {
    apart(move || {
        for row in &mut page.endpoints {
            (row.ingress, row.egress) = obeyed(&policies, row.addresses.first().copied());
        }
        Ok(page)
    })
    .await
}

fn obeyed(policies: &Policies, address: Option<IpAddr>) -> (Vec<TierRow>, Vec<TierRow>) {
    let identity = address.and_then(|address| policies.addresses.get(address));
    let obeys = identity.and_then(|holder| policies.obeys.get(holder.identity.0));
    obeys.map_or_else(Default::default, |obeys| {
        (tiers(policies, obeys.ingress), tiers(policies, obeys.egress))
    })
}

fn tiers(policies: &Policies, program: ProgramId) -> Vec<TierRow> {
    let program = policies.programs.get(program.0);
    let tiers = program.map(|program| program.tiers()).unwrap_or_default();
    let row = |tier: &margay_flowtable::Tier| {
        let segments = tier.segments.iter().filter_map(|segment| policies.segments.get(segment.0));
        let policies = segments.flat_map(|segment| segment.policies());
        TierRow {
            tier: tier.name.to_string(),
            policies: policies.map(|policy| policy.name.to_string()).collect(),
        }
    };
    tiers.iter().map(row).collect()
}

/// A pod by its name, as people write it.
pub(crate) fn name(written: &str) -> Result<Name, Refusal> {
    match written.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Name::new(namespace, name))
        }
        _ => Err(Refusal::bad_request(format!("{written:?} is no pod: it is NAMESPACE/NAME"))),
    }
}
