//! The native API does what its contract tells: answers fit its schemas, jobs have their lives, events tell them.

use super::client::{PATIENCE, Server, slow};
use crate::common::Temp;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

/// What of a value does not fit a schema of the contract.
fn faults(contract: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = contract.pointer(reference.trim_start_matches('#')).expect("a schema");
        return faults(contract, target, value, at, out);
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let fits = |schema: &&Value| {
            let mut own = Vec::new();
            faults(contract, schema, value, at, &mut own);
            own.is_empty()
        };
        if all.iter().filter(fits).count() == 0 {
            out.push(format!("{at}: {value} is none of those"));
        }
        return;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        kind => panic!("{kind}"),
    };
    if !kinds.is_empty() && !kinds.iter().any(is) {
        return out.push(format!("{at}: {value} is no {kinds:?}"));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        out.push(format!("{at}: {value} is not one of {}", schema["enum"]));
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                out.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, value) in fields {
            match &schema["properties"][name] {
                Value::Null if schema["properties"].is_object() => out.push(format!("{at}: {name} is not told of")),
                Value::Null => {}
                schema => faults(contract, schema, value, &format!("{at}.{name}"), out),
            }
        }
    }
    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
        faults(contract, &schema["items"], value, &format!("{at}[{i}]"), out);
    }
}

/// Refuses a value that does not fit.
fn fits(contract: &Value, schema: &Value, value: &Value) {
    let mut out = Vec::new();
    faults(contract, schema, value, "", &mut out);
    assert!(out.is_empty(), "{out:#?}");
}

#[test]
fn every_answer_fits_the_contract() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let contract = server.get("/api/openapi.json").json();
    let named = |name: &str| contract["components"]["schemas"][name].clone();
    let answer = |path: &str| {
        contract["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"].clone()
    };
    let job = server.draw(&json!({"prompt": "un perro rojo", "seed": 3, "steps": 2, "guidance": 2.7}));
    fits(&contract, &named("Job"), &job);
    assert_eq!(job["order"]["guidance"].to_string(), "2.7");
    for path in ["/api/options", "/api/models", "/api/samplers", "/api/workers", "/api/jobs"] {
        let given = server.get(path);
        assert_eq!(given.status, 200, "{path}");
        fits(&contract, &answer(path), &given.json());
    }
    let words = server.get("/api/models/embedded/words").json();
    fits(&contract, &named("Words"), &words);
    let spanish = words["groups"][0]["words"].as_array().expect("words").iter();
    assert!(spanish.filter_map(|w| w["spanish"].as_str()).any(|w| w == "árbol"), "{words}");
    let reading = server.post("/api/prompt", &json!({"prompt": "un dragón rojo", "negative_prompt": "blur"})).json();
    fits(&contract, &named("Reading"), &reading);
    assert!(reading["hints"].as_array().is_some_and(|hints| !hints.is_empty()), "{reading}");
    fits(&contract, &named("Plan"), &server.post("/api/plan", &json!({"prompt": "a cat", "count": 3})).json());
    let wrong = server.post("/api/plan", &json!({"prompt": "a cat", "height": 4096}));
    fits(&contract, &named("Refusal"), &wrong.json());
    assert_eq!(wrong.json()["error"]["remedy"][0]["set"], json!({"height": 2048}));
    std::fs::write(dir.join("a.png"), server.picture(&job, 0)).expect("written");
    let png = std::fs::read(dir.join("a.png")).expect("read");
    let info = server.send("POST", "/api/png-info", &[("Content-Type", "image/png")], Some(&png));
    fits(&contract, &named("PngInfo"), &info.json());
    let upload = server.send("POST", "/api/uploads", &[("Content-Type", "image/png")], Some(&png));
    fits(&contract, &named("Upload"), &upload.json());
    for path in ["/api/jobs/20260101-000000-000-00", "/images/x.png", "/api/nothing"] {
        let missing = server.get(path);
        assert_eq!(missing.status, 404, "{path}");
        fits(&contract, &named("Refusal"), &missing.json());
    }
    let metrics = String::from_utf8_lossy(&server.get("/metrics").body).into_owned();
    assert!(metrics.contains("lienzo_jobs_ended_total{state=\"done\"} 1\n"), "{metrics}");
}

#[test]
fn a_job_waits_runs_and_is_cancelled_alone() {
    let dir = Temp::new();
    let server = Server::start(&dir, &["--queue", "2"]);
    let id = |answer: &Value| answer["id"].as_str().expect("an id").to_owned();
    let running = id(&server.post("/api/jobs", &slow(1)).json());
    server.runs(&running);
    let [first, second] = [2, 3].map(|seed| server.post("/api/jobs", &slow(seed)).json());
    assert_eq!((&first["position"], &second["position"]), (&json!(0), &json!(1)));
    let full = server.post("/api/jobs", &slow(4));
    assert_eq!((full.status, full.json()["error"]["kind"].as_str()), (503, Some("queue_full")));
    assert!(full.header("retry-after").is_some());
    // The same order again is the same job.
    let again = server.post("/api/jobs", &slow(3));
    assert_eq!((again.status, id(&again.json())), (200, id(&second)));
    let cancel = |id: &str| server.send("POST", &format!("/api/jobs/{id}/cancel"), &[], None);
    assert_eq!(cancel(&id(&first)).json()["state"], "cancelled");
    assert_eq!(server.get(&format!("/api/jobs/{}", id(&second))).json()["position"], 0);
    assert_eq!(server.send("DELETE", &format!("/api/jobs/{running}"), &[], None).status, 409);
    assert_eq!(cancel(&running).status, 200);
    let ended = server.ended(&running);
    assert_eq!((&ended["state"], &ended["pictures"], &ended["error"]), (&json!("cancelled"), &json!([]), &json!(null)));
    // Twice, and what is not there.
    assert_eq!((cancel(&running).status, cancel("20260101-000000-000-00").status), (200, 404));
    cancel(&id(&second));
    assert_eq!(server.ended(&id(&second))["state"], "cancelled");
    let quick = server.draw(&json!({"prompt": "a cat", "seed": 1, "steps": 1}));
    assert_eq!(quick["state"], "done");
    // Forgotten with its picture.
    let url = format!("/{}", quick["pictures"][0]["url"].as_str().expect("a url"));
    assert_eq!(server.send("DELETE", &format!("/api/jobs/{}", id(&quick)), &[], None).status, 204);
    assert_eq!((server.get(&url).status, server.get(&format!("/api/jobs/{}", id(&quick))).status), (404, 404));
}

#[test]
fn a_key_draws_once_and_a_list_is_read_page_by_page() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let post = |order: Value| {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k-1")];
        server.send("POST", "/api/jobs", &headers, Some(order.to_string().as_bytes()))
    };
    let (first, again) = (post(json!({"prompt": "Árbol", "steps": 1})), post(json!({"prompt": "Árbol", "steps": 1})));
    assert_eq!((first.status, again.status, &first.json()["id"]), (202, 200, &again.json()["id"]));
    assert_eq!(post(json!({"prompt": "another", "steps": 1})).status, 409);
    let ids: Vec<Value> =
        (0..4).map(|n| server.draw(&json!({"prompt": "a cat", "seed": n, "steps": 1}))["id"].clone()).collect();
    let page = server.get("/api/jobs?limit=3").json();
    let listed: Vec<&Value> = page["jobs"].as_array().expect("jobs").iter().map(|j| &j["id"]).collect();
    assert_eq!(listed, [&ids[3], &ids[2], &ids[1]]);
    let rest = server.get(&format!("/api/jobs?limit=3&before={}", page["more"].as_str().expect("more"))).json();
    assert_eq!(
        (rest["jobs"].as_array().map(Vec::len), &rest["more"], &rest["pictures"]),
        (Some(2), &json!(null), &json!(5))
    );
    // In any case, with any accents.
    assert_eq!(server.get("/api/jobs?find=ARBOL").json()["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/api/jobs?state=failed").json()["jobs"], json!([]));
    assert_eq!(server.get("/api/jobs?limit=0").status, 400);
}

#[test]
fn events_tell_a_jobs_life_in_order_and_again_to_who_comes_back() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let start = server.get("/api/jobs").json()["event"].as_u64().expect("a number");
    let job = server.draw(&json!({"prompt": "a cat", "seed": 1, "steps": 2}));
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let head = format!("GET /api/events?after={start} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut states = Vec::new();
    let mut name = String::new();
    let mut ids: Vec<u64> = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.expect("a line");
        if let Some(id) = line.strip_prefix("id: ") {
            ids.push(id.parse().expect("a number"));
        }
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.to_owned();
        }
        if let Some(data) = line.strip_prefix("data: ").filter(|_| name == "job") {
            let told: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(told["id"], job["id"]);
            states.push(told["state"].as_str().expect("a state").to_owned());
            if told["state"] == "done" {
                break;
            }
        }
    }
    states.dedup();
    assert_eq!(states, ["queued", "running", "done"]);
    assert!(ids.len() >= 3 && ids.is_sorted_by(|a, b| a < b) && ids[0] == start + 1, "{start}: {ids:?}");
}
