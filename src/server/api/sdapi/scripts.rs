//! The scripts that a request asks for go in; those that are switched off are passed over, all others are refused by
//! their name, as none is here.

use super::No;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// Refuses scripts that would do something.
///
/// # Errors
/// 422: the first of them, by name.
pub(super) fn none(scripts: &Map<String, Value>) -> Result<(), No> {
    let asked = |script: &Value| script.get("args").cloned().unwrap_or_else(|| script.clone());
    match scripts.iter().find(|(_, script)| !off(&asked(script))) {
        Some((name, _)) => {
            let name = crate::error::escape(name);
            let message = format!("always on script {name} not found: there are no scripts here, send it switched off");
            Err(No::new(StatusCode::UNPROCESSABLE_ENTITY, json!(message)))
        }
        None => Ok(()),
    }
}

/// Whether a script's arguments say that it does nothing.
fn off(args: &Value) -> bool {
    match args {
        Value::Null | Value::Bool(false) => true,
        Value::Object(unit) => unit.is_empty() || switched_off(unit),
        Value::Array(args) => match args.first() {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(_) => {
                let unit = |arg: &Value| arg.as_object().is_some_and(switched_off);
                args.iter().any(unit) && args.iter().all(|arg| unit(arg) || arg.is_boolean() || arg.is_null())
            }
        },
        _ => false,
    }
}

/// One unit of ControlNet, or of ADetailer.
fn switched_off(unit: &Map<String, Value>) -> bool {
    let none = |name: &str| match unit.get(name) {
        Some(Value::Null) => true,
        Some(Value::String(model)) => model.is_empty() || model.eq_ignore_ascii_case("none"),
        _ => false,
    };
    unit.get("enabled") == Some(&json!(false)) || none("model") || none("ad_model")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(scripts: Value) -> Result<(), No> {
        none(scripts.as_object().unwrap())
    }

    #[test]
    fn a_script_that_is_switched_off_is_passed_over() {
        for args in [
            json!([]),
            json!([false]),
            json!([false, {"ad_model": "face_yolov8n.pt"}]),
            json!([{"enabled": false, "model": "canny", "image": "AAAA"}, {"model": "None"}]),
            json!([true, {"ad_model": "None"}]),
            json!([true, false, {"ad_model": "None"}, {"ad_model": "None"}]),
        ] {
            assert!(taken(json!({"ADetailer": {"args": args}})).is_ok(), "{args}");
        }
        assert!(taken(json!({})).is_ok() && taken(json!({"controlnet": {}})).is_ok());
    }

    #[test]
    fn one_that_would_do_something_is_refused_by_name() {
        for args in [
            json!([{"model": "canny", "image": "AAAA"}]),
            json!([{"enabled": true, "model": "canny"}, {"enabled": false}]),
            json!([true, {"ad_model": "face_yolov8n.pt"}]),
            json!([true]),
            json!(["x", 3]),
            json!("on"),
        ] {
            let no = taken(json!({"Refiner": {"args": [false]}, "ADetailer": {"args": args}})).unwrap_err();
            let detail = no.detail.as_str().unwrap();
            assert!(no.status == 422 && detail.contains("always on script ADetailer not found"), "{detail}");
        }
    }
}
