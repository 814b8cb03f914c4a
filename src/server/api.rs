//! Requests go in, jobs come out: our own API, the webui's, and OpenAI's, each a router over the one state.

pub(crate) mod native;
pub(crate) mod openai;
pub(crate) mod sdapi;

use super::Shared;
use super::fault::Refusal;
use axum::Router;
use axum::response::{IntoResponse, Response};

/// All APIs.
pub(crate) fn routes() -> Router<Shared> {
    native::routes().merge(sdapi::routes()).merge(openai::routes())
}

/// A refusal in the words of the API that a path belongs to.
pub(crate) fn refused(path: &str, refusal: Refusal) -> Response {
    if path.starts_with("/sdapi/") || path.starts_with("/internal/") {
        sdapi::refused(refusal)
    } else if path.starts_with("/v1/") {
        openai::refused(refusal)
    } else {
        refusal.into_response()
    }
}
