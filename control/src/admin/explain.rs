//! `POST /v1/explain`: why the packets of a probe pass, or do not.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;

use super::{Control, Refusal, Refused};
use crate::explain::Explanation;
use crate::probe::Written;

/// Why the packets of a probe pass, or do not, by the snapshot in force.
#[utoipa::path(
    post,
    path = "/v1/explain",
    request_body = Written,
    responses(
        (status = OK, description = "Policies, rules and route of each packet", body = Explanation),
        (status = BAD_REQUEST, description = "No probe", body = Refused),
        (status = NOT_FOUND, description = "An end that nobody knows", body = Refused),
    )
)]
pub(super) async fn explain(
    State(control): State<Control>,
    body: Bytes,
) -> Result<Json<Explanation>, Refusal> {
    // Whatever the content type says: curl's is a form's.
    let written: Written =
        serde_json::from_slice(&body).map_err(|why| Refusal::bad_request(why.to_string()))?;
    let probe = written.read(0).map_err(|why| Refusal::bad_request(why.to_string()))?;
    let explanation = control.ask(move |plane| plane.explain(&probe)).await?;
    explanation.map(Json).map_err(|why| Refusal::not_found(why.to_string()))
}
