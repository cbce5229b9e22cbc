//! `GET /v1/routes`: the forwarding table in force, with the neighbour that each route leads to now.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Control, Query, Refusal, apart};
use crate::state::Kernel;

/// Destinations that the control loop is asked for at once: under a millisecond's work.
pub(super) const PORTION: usize = 500;
/// Routes of an answer, where nothing else is asked for, and at most.
const LIMIT: usize = 1000;
const MOST: usize = 10_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoutePage {
    /// In order of destination.
    pub routes: Vec<RouteRow>,
    /// What `after` is for the next page; none on the last.
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteRow {
    #[schema(value_type = String)]
    pub dst: IpNet,
    pub kind: Kind,
    /// Where the destination lives; none of the kernel's own routes.
    pub node: Option<String>,
    /// The node that the route leads to: that one, or a gateway before it.
    pub next_node: Option<String>,
    /// Underlay address that the route leads to.
    #[schema(value_type = Option<String>)]
    pub via: Option<IpAddr>,
    /// Outer destination address of a tunnel.
    #[schema(value_type = Option<String>)]
    pub tunnel_dst: Option<IpAddr>,
    /// The longest IPPool that contains `dst`.
    pub pool: Option<String>,
    /// The port that packets leave by; of the kernel's routes, the device.
    pub port: Option<String>,
    /// MAC address of the neighbour there.
    pub mac: Option<String>,
    /// Bytes of the largest IP packet that leaves there, tunnel headers included.
    pub mtu: Option<u32>,
    /// Why packets to there go nowhere now.
    pub why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RouteRowKind)]
pub enum Kind {
    /// A pod on this node.
    Local,
    /// To another node, not encapsulated.
    Direct,
    Ipip,
    Vxlan,
    /// The rest of a block of this node: addresses that no pod holds.
    Blackhole,
    /// There should be a route and is none.
    Missing,
    /// The kernel's, where the cluster has none to the same prefix.
    Kernel,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Routes to prefixes that contain this address.
    #[param(value_type = Option<String>)]
    address: Option<IpAddr>,
    /// Routes to what lives on this node.
    node: Option<String>,
    kind: Option<Kind>,
    /// Routes behind this destination.
    #[param(value_type = Option<String>)]
    after: Option<IpNet>,
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

    fn wants(&self, row: &RouteRow) -> bool {
        self.address.is_none_or(|address| row.dst.contains(&address))
            && self.kind.is_none_or(|kind| row.kind == kind)
            && self.node.as_ref().is_none_or(|node| row.node.as_ref() == Some(node))
    }
}

/// Routes of the cluster and the kernel's own, in order of destination, page by page.
#[utoipa::path(
    get,
    path = "/v1/routes",
    params(Asked),
    responses(
        (status = OK, description = "A page of routes", body = RoutePage),
        (status = BAD_REQUEST, description = "No such question", body = super::Refused),
    )
)]
pub(super) async fn routes(
    State(control): State<Control>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let limit = asked.limit()?;
    let kernel = control.ask(|plane| plane.kernel_now()).await?;
    let of_kernel = tokio::task::spawn_blocking(move || of_kernel(&kernel));
    let mut of_kernel = of_kernel.await.map_err(|_| Refusal::stopping())?;
    let mut after = asked.after;
    let mut page = RoutePage::default();
    loop {
        let portion = control.ask(move |plane| plane.routes_after(after, PORTION)).await?;
        let is_last = portion.len() < PORTION;
        let upto = portion.last().filter(|_| !is_last).map(|row| row.dst);
        for row in merge(portion, &mut of_kernel, after, upto) {
            if asked.wants(&row) {
                if page.routes.len() == limit {
                    page.next = page.routes.last().map(|row| row.dst.to_string());
                    return apart(move || Ok(page)).await;
                }
                page.routes.push(row);
            }
        }
        if is_last {
            return apart(move || Ok(page)).await;
        }
        after = upto;
    }
}

/// The portion with the kernel's routes that stand in order behind `after` and not behind `upto`. The cluster's goes first.
fn merge(
    portion: Vec<RouteRow>,
    of_kernel: &mut BTreeMap<IpNet, RouteRow>,
    after: Option<IpNet>,
    upto: Option<IpNet>,
) -> impl Iterator<Item = RouteRow> {
    let later = upto.map_or_else(BTreeMap::new, |upto| {
        // What is behind it: the destination itself is the portion's.
        let mut later = of_kernel.split_off(&upto);
        later.remove(&upto);
        later
    });
    let mut rows = std::mem::replace(of_kernel, later);
    rows.retain(|dst, _| after.is_none_or(|after| *dst > after));
    rows.extend(portion.into_iter().map(|row| (row.dst, row)));
    rows.into_values()
}

/// The kernel's routes by destination: of several to one, the one that it takes.
fn of_kernel(kernel: &Kernel) -> BTreeMap<IpNet, RouteRow> {
    let mut routes: Vec<_> = kernel.routes.iter().collect();
    routes.sort_by_key(|route| (route.dst, route.metric, route.ifindex));
    let mut rows = BTreeMap::new();
    for route in routes {
        rows.entry(route.dst).or_insert_with(|| {
            let link = kernel.links.get(&route.ifindex);
            let neighbour = route.gateway.and_then(|via| kernel.neighbours.get(&(route.ifindex, via)));
            let is_lost = route.gateway.is_some() && !neighbour.is_some_and(|neighbour| neighbour.usable);
            let why = match link {
                Some(link) if link.up => {
                    is_lost.then(|| "the kernel has not resolved the neighbour".to_owned())
                }
                _ => Some("its device is down".to_owned()),
            };
            RouteRow {
                dst: route.dst,
                kind: Kind::Kernel,
                node: None,
                next_node: None,
                via: route.gateway,
                tunnel_dst: None,
                pool: None,
                port: link.map(|link| link.name.clone()),
                mac: neighbour.map(|neighbour| mac(neighbour.mac)),
                mtu: link.map(|link| link.mtu),
                why,
            }
        });
    }
    rows
}

/// As everybody writes it.
pub(crate) fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(dst: &str, kind: Kind) -> RouteRow {
        RouteRow {
            dst: dst.parse().unwrap(),
            kind,
            node: None,
            next_node: None,
            via: None,
            tunnel_dst: None,
            pool: None,
            port: None,
            mac: None,
            mtu: None,
            why: None,
        }
    }

    #[test]
    fn portions_and_the_kernel_s_routes_come_in_order_and_each_once() {
        let kernel = ["0.0.0.0/0", "10.0.0.0/24", "10.0.2.0/24", "192.0.2.0/24"];
        let mut of_kernel: BTreeMap<IpNet, RouteRow> =
            kernel.iter().map(|dst| row(dst, Kind::Kernel)).map(|row| (row.dst, row)).collect();
        let portions = [["10.0.0.0/24", "10.0.1.0/24"], ["10.0.3.0/24", "10.0.4.0/24"]];
        let (mut after, mut all) = (None, Vec::new());
        for (n, portion) in portions.iter().enumerate() {
            let portion: Vec<_> = portion.iter().map(|dst| row(dst, Kind::Vxlan)).collect();
            let upto = (n == 0).then(|| portion[1].dst);
            all.extend(
                merge(portion, &mut of_kernel, after, upto).map(|row| (row.dst.to_string(), row.kind)),
            );
            after = upto;
        }
        let (k, v) = (Kind::Kernel, Kind::Vxlan);
        let expected = [
            ("0.0.0.0/0", k),
            ("10.0.0.0/24", v),
            ("10.0.1.0/24", v),
            ("10.0.2.0/24", k),
            ("10.0.3.0/24", v),
            ("10.0.4.0/24", v),
            ("192.0.2.0/24", k),
        ];
        assert_eq!(all, expected.map(|(dst, kind)| (dst.to_owned(), kind)));
    }
}
