//! OpenAI's API of images.

use crate::server::Shared;
use crate::server::fault::Refusal;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

/// Its routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
}

/// A refusal as OpenAI words it.
pub(crate) fn refused(refusal: Refusal) -> Response {
    let retry = refusal.retry_after();
    let error = json!({"message": refusal.fault.message, "type": "invalid_request_error", "param": null, "code": null});
    let mut response = (refusal.status, Json(json!({"error": error}))).into_response();
    if let Some(retry) = retry {
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, retry);
    }
    response
}
