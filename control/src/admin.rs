//! The admin socket: HTTP/1.1 with JSON on a Unix socket, where a running Margay says how it is, and why.
//!
//! A file is a resource: the types of its answer and the function that answers, which names its path. A line in
//! [`resources`] puts it up, in the server and in the OpenAPI document alike (docs/openapi.json). What begins with `/v1`
//! keeps its form: fields may come, none changes or goes.
//!
//! Two types must not have one name: the document knows them by it.

mod access;
mod answer;
mod client;
mod control;
pub mod drops;
pub mod endpoints;
mod explain;
pub mod flows;
pub mod policies;
pub mod ports;
mod reload;
pub mod routes;
mod server;
mod status;
mod taps;
pub mod tunnels;
pub mod version;
pub mod workers;

use axum::Json;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use answer::Refused;
pub(crate) use answer::{Query, Refusal, apart};
pub use client::{Error as ClientError, explain, get, open, policies, post, status};
pub(crate) use control::{Control, Question};
pub use policies::Policies;
pub use server::{Error as ServerError, Server};
pub use status::{FlowTable, Port, PortState, Snapshot, Source, Status, Traffic, Trouble, Umem, Worker};

/// All that there is.
fn resources() -> OpenApiRouter<Control> {
    OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info()).build())
        .routes(routes!(openapi))
        .routes(routes!(drops::drops))
        .routes(routes!(endpoints::endpoints))
        .routes(routes!(explain::explain))
        .routes(routes!(flows::flows))
        .routes(routes!(policies::policies))
        .routes(routes!(ports::ports))
        .routes(routes!(reload::reload))
        .routes(routes!(routes::routes))
        .routes(routes!(status::status))
        .routes(routes!(taps::captures))
        .routes(routes!(taps::taps))
        .routes(routes!(taps::traces))
        .routes(routes!(tunnels::tunnels))
        .routes(routes!(version::version))
        .routes(routes!(workers::workers))
}

fn info() -> utoipa::openapi::Info {
    let says = "What a running Margay says of itself, on its admin socket (`admin.socket`): HTTP/1.1 on a Unix socket. \
                Counters count since the start of the process unless they say otherwise. An answer that is no success \
                is `{\"error\": WHY}`.";
    InfoBuilder::new().title("Margay").version("1").description(Some(says)).build()
}

/// What can be asked here, in OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    responses((status = OK, description = "This document", body = serde_json::Value))
)]
async fn openapi() -> Json<OpenApi> {
    Json(document())
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    resources().into_openapi()
}
