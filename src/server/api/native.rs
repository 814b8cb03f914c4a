//! Our own API: `openapi.json` is its contract, and a test holds the two together.

mod about;
mod draw;
mod events;
mod operation;
mod pictures;

use crate::server::Shared;
use axum::Router;
use axum::routing::{get, post};

/// The contract.
pub(crate) static OPENAPI: &str = include_str!("../openapi.json");

/// Its routes.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/jobs", post(draw::submit).get(draw::list))
        .route("/api/jobs/{id}", get(draw::job).delete(draw::delete))
        .route("/api/jobs/{id}/cancel", post(draw::cancel))
        .route("/api/jobs/{id}/preview", get(draw::preview))
        .route("/api/jobs/{id}/pictures/{sha256}", axum::routing::delete(draw::delete_picture))
        .route("/api/plan", post(draw::plan))
        .route("/api/prompt", post(about::prompt))
        .route("/api/events", get(events::events))
        .route("/api/uploads", post(pictures::upload))
        .route("/api/png-info", post(pictures::png_info))
        .route("/images/{name}", get(pictures::image))
        .route("/thumbs/{name}", get(pictures::thumb))
        .route("/api/options", get(about::options))
        .route("/api/models", get(about::models))
        .route("/api/models/refresh", post(about::refresh))
        .route("/api/models/{model}/words", get(about::words))
        .route("/api/samplers", get(about::samplers))
        .route("/api/workers", get(about::workers))
        .route("/api/openapi.json", get(about::openapi))
        .route("/healthz", get(operation::healthz))
        .route("/readyz", get(operation::readyz))
        .route("/metrics", get(operation::metrics))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::fault::FaultKind;
    use crate::server::jobs::order;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn contract() -> Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    /// The routes of this file's text: path and methods.
    fn routes_here() -> BTreeSet<(String, String)> {
        let text = include_str!("native.rs");
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(".route(\""));
        let mut out = BTreeSet::new();
        for line in lines {
            let (path, methods) = line.split_once('"').unwrap();
            let path = path.replace("/images/{name}", "/images/{sha256}.png");
            let path = path.replace("/thumbs/{name}", "/thumbs/{sha256}.png");
            for method in ["get", "post", "delete"] {
                if methods.contains(&format!("{method}(")) {
                    out.insert((path.clone(), method.to_owned()));
                }
            }
        }
        out
    }

    #[test]
    fn every_route_is_in_the_contract_and_the_contract_has_no_other() {
        let contract = contract();
        let mut told = BTreeSet::new();
        for (path, methods) in contract["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys().filter(|m| *m != "parameters") {
                told.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(routes_here(), told);
    }

    #[test]
    fn an_order_has_the_contracts_fields() {
        let contract = contract();
        let told: BTreeSet<&String> =
            contract["components"]["schemas"]["Order"]["properties"].as_object().unwrap().keys().collect();
        let fields = order::fields();
        assert_eq!(fields.iter().collect::<BTreeSet<_>>(), told);
    }

    #[test]
    fn every_kind_of_error_is_in_the_contract() {
        let contract = contract();
        let told = contract["components"]["schemas"]["Error"]["properties"]["kind"]["enum"].as_array().unwrap().clone();
        for kind in &told {
            assert!(serde_json::from_value::<FaultKind>(kind.clone()).is_ok(), "{kind} is not in the code");
        }
        let all = [
            FaultKind::Usage,
            FaultKind::BadFile,
            FaultKind::TooBig,
            FaultKind::OutOfMemory,
            FaultKind::DeviceLost,
            FaultKind::Refused,
            FaultKind::NonFinite,
            FaultKind::Cancelled,
            FaultKind::Other,
            FaultKind::BadRequest,
            FaultKind::Unauthorized,
            FaultKind::Forbidden,
            FaultKind::NotFound,
            FaultKind::Conflict,
            FaultKind::TooLarge,
            FaultKind::UnsupportedType,
            FaultKind::QueueFull,
            FaultKind::ShuttingDown,
            FaultKind::Internal,
        ];
        let ours: BTreeSet<String> = all.iter().map(|k| serde_json::to_value(k).unwrap().to_string()).collect();
        assert_eq!(ours, told.iter().map(Value::to_string).collect());
    }

    #[test]
    fn every_reference_of_the_contract_leads_somewhere() {
        fn references(value: &Value, out: &mut Vec<String>) {
            match value {
                Value::Object(all) => {
                    out.extend(all.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    all.values().for_each(|v| references(v, out));
                }
                Value::Array(all) => all.iter().for_each(|v| references(v, out)),
                _ => {}
            }
        }
        let contract = contract();
        let mut all = Vec::new();
        references(&contract, &mut all);
        assert!(all.len() > 50);
        for reference in all {
            assert!(contract.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}
