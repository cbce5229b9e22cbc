//! `GET /v1/ports`: the ports, those that wait for their device or failed too.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, Port, Refusal};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ports {
    /// The uplinks in the order of the configuration, then the pods' ports by pod, then that of the node's own kernel.
    pub ports: Vec<Port>,
}

/// The ports, with their modes and what they have counted since they were opened.
#[utoipa::path(get, path = "/v1/ports", responses((status = OK, description = "All ports", body = Ports)))]
pub(super) async fn ports(State(control): State<Control>) -> Result<Json<Ports>, Refusal> {
    let ports = control.ask(|plane| plane.port_statuses()).await?;
    Ok(Json(Ports { ports }))
}
