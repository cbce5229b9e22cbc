//! `GET /v1/tunnels`: the tunnels that routes lead into, by their far end.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::routes::{Kind, PORTION, RouteRow};
use super::{Control, Refusal};
use crate::compile::routes::RouteKind;
use crate::compile::tunnels::overhead;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tunnels {
    /// Network identifier and UDP port of VXLAN.
    pub vni: u32,
    pub vxlan_port: u16,
    /// MAC address of our end of VXLAN over IPv4, and over IPv6.
    pub vtep_mac: String,
    pub vtep_mac6: String,
    /// By kind and far end.
    pub tunnels: Vec<TunnelRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TunnelRow {
    /// `ipip` or `vxlan`.
    pub kind: Kind,
    /// The node at the far end.
    pub node: String,
    /// Outer addresses: ours, none where we have none of the family, and the far end's.
    #[schema(value_type = Option<String>)]
    pub local: Option<IpAddr>,
    #[schema(value_type = String)]
    pub remote: IpAddr,
    /// The port that packets leave by, and the MAC address of the neighbour there.
    pub port: Option<String>,
    pub mac: Option<String>,
    /// Bytes of the largest IP packet that fits inside.
    pub mtu: Option<u32>,
    /// How many routes lead into it.
    pub routes: u64,
    /// Why packets that should enter it are dropped now.
    pub why: Option<String>,
}

/// What every tunnel has in common, and our own ends.
pub(crate) struct OurEnds {
    pub(crate) common: Tunnels,
    pub(crate) ends: Vec<IpAddr>,
}

/// The tunnels that routes lead into.
#[utoipa::path(
    get,
    path = "/v1/tunnels",
    responses((status = OK, description = "Tunnels by far end", body = Tunnels))
)]
pub(super) async fn tunnels(State(control): State<Control>) -> Result<Json<Tunnels>, Refusal> {
    let OurEnds { common, ends } = control.ask(|plane| plane.our_tunnel_ends()).await?;
    let mut found: BTreeMap<(Kind, IpAddr), TunnelRow> = BTreeMap::new();
    let mut after = None;
    loop {
        let portion = control.ask(move |plane| plane.routes_after(after, PORTION)).await?;
        let is_last = portion.len() < PORTION;
        after = portion.last().map(|row| row.dst);
        for route in portion {
            if let Some(remote) = route.tunnel_dst {
                let tunnel = found.entry((route.kind, remote)).or_insert_with(|| of(route, remote, &ends));
                tunnel.routes += 1;
            }
        }
        if is_last {
            return Ok(Json(Tunnels { tunnels: found.into_values().collect(), ..common }));
        }
    }
}

fn of(route: RouteRow, remote: IpAddr, ends: &[IpAddr]) -> TunnelRow {
    let local = ends.iter().copied().find(|end| end.is_ipv4() == remote.is_ipv4());
    let kind = if route.kind == Kind::Ipip { RouteKind::Ipip } else { RouteKind::Vxlan };
    let headers = overhead(kind, Some(remote));
    TunnelRow {
        kind: route.kind,
        node: route.next_node.or(route.node).unwrap_or_default(),
        local,
        remote,
        port: route.port,
        mac: route.mac,
        mtu: route.mtu.map(|mtu| mtu.saturating_sub(headers.into())),
        routes: 0,
        why: if local.is_none() {
            Some("this node has no underlay address of that family".to_owned())
        } else {
            route.why
        },
    }
}
