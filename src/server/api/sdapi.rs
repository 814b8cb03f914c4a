//! The webui's API.

use crate::server::Shared;
use crate::server::fault::Refusal;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use serde_json::json;

/// What this API keeps between requests.
#[derive(Debug, Default)]
pub(crate) struct Memory {}

/// Its routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/internal/ping", get(async || Json(json!({}))))
}

/// A refusal as FastAPI words it.
pub(crate) fn refused(refusal: Refusal) -> Response {
    let retry = refusal.retry_after();
    let mut response = (refusal.status, Json(json!({"detail": refusal.fault.message}))).into_response();
    if let Some(retry) = retry {
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, retry);
    }
    response
}
