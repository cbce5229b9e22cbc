//! `POST /v1/reload`: the configuration is read again.

use axum::Json;
use axum::extract::State;

use super::{Control, Refusal};
use crate::reload::Reloaded;
use crate::run::Dataplane;

/// Reads the configuration again, and puts into force what can change without a restart. One that is wrong changes nothing.
#[utoipa::path(
    post,
    path = "/v1/reload",
    responses(
        (status = OK, description = "What is in force from now on, and what needs a restart", body = Reloaded),
        (status = BAD_REQUEST, description = "The configuration is wrong: where, and how to mend it", body = super::Refused)
    )
)]
pub(super) async fn reload(State(control): State<Control>) -> Result<Json<Reloaded>, Refusal> {
    control.ask(Dataplane::reload).await?.map(Json).map_err(Refusal::bad_request)
}
