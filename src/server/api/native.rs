//! Our own API: `openapi.json` is its contract.

use crate::server::Shared;
use axum::Router;
use axum::routing::get;

/// Its routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/healthz", get(async || "ok\n"))
}
