//! Answers: what goes wrong, as one, and those that are too long to be made beside the control loop.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of every answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// What is wrong, where, and how to mend it.
    pub error: String,
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: StatusCode,
    why: String,
}

impl Refusal {
    /// What was asked cannot be.
    pub(crate) fn bad_request(why: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, why: why.into() }
    }

    /// What was asked for is not there.
    pub(crate) fn not_found(why: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, why: why.into() }
    }

    /// It can be, and not beside what there is already.
    pub(crate) fn conflict(why: impl Into<String>) -> Self {
        Self { code: StatusCode::CONFLICT, why: why.into() }
    }

    /// The system refuses what it takes.
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { code: StatusCode::INTERNAL_SERVER_ERROR, why: why.into() }
    }

    /// Who asks may not have it.
    pub(super) fn forbidden(why: impl Into<String>) -> Self {
        Self { code: StatusCode::FORBIDDEN, why: why.into() }
    }

    /// The path is there, and not by this method.
    pub(super) fn wrong_method(why: impl Into<String>) -> Self {
        Self { code: StatusCode::METHOD_NOT_ALLOWED, why: why.into() }
    }

    /// The control loop has ended.
    pub(crate) fn stopping() -> Self {
        Self { code: StatusCode::SERVICE_UNAVAILABLE, why: "Margay is stopping".to_owned() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.code, Json(Refused { error: self.why })).into_response()
    }
}

/// An answer that is made, and written as JSON, on a thread of its own: all else here shares its thread with the control
/// loop.
pub(crate) async fn apart<T: Serialize>(
    make: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<Response, Refusal> {
    let made = tokio::task::spawn_blocking(move || make().map(|answer| Json(answer).into_response()));
    // It has panicked, or is no longer begun.
    made.await.unwrap_or_else(|_| Err(Refusal::stopping()))
}

/// The parameters behind the `?`. What they are read into denies unknown ones, so that nobody takes an answer to
/// another question for that to his.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|why| Refusal::bad_request(why.body_text()))
    }
}
