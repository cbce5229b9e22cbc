//! `GET /v1/version`: which Margay answers.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, Refusal};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    pub version: String,
    /// Of what is asked here: the first part of every path.
    pub api: String,
    /// Name of our Node object.
    pub node: String,
    /// Process id, in the namespace where it runs.
    pub pid: u32,
    /// Release of the kernel.
    pub kernel: String,
    pub uptime_seconds: u64,
}

/// Which Margay answers, since when, and on which kernel.
#[utoipa::path(
    get,
    path = "/v1/version",
    responses((status = OK, description = "Version, node and process", body = Version))
)]
pub(super) async fn version(State(control): State<Control>) -> Result<Json<Version>, Refusal> {
    let (node, uptime) = control.ask(|plane| plane.identify()).await?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "v1".to_owned(),
        node,
        pid: std::process::id(),
        kernel: kernel.trim().to_owned(),
        uptime_seconds: uptime.as_secs(),
    }))
}
