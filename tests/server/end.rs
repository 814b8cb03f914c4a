//! However a server ends: every record is readable, every finished picture is there, what waited is drawn once.
//!
//! `LIENZO_SERVER_KILLS` sets at how many moments it is killed, `LIENZO_KILL_SEED` where they lie.

use super::client::{Server, records, slow};
use crate::common::Temp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// A splitmix64.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_draws_all_once() {
    let dir = Temp::new();
    let kills = number("LIENZO_SERVER_KILLS").unwrap_or(4);
    let mut seed = number("LIENZO_KILL_SEED").unwrap_or(20_261_201);
    println!("LIENZO_SERVER_KILLS={kills} LIENZO_KILL_SEED={seed}");
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut finished: BTreeSet<String> = BTreeSet::new();
    for kill in 0..kills {
        let mut server = Server::start(&dir, &["--queue", "1000"]);
        for n in 0..4 {
            let order = json!({"prompt": "two cats", "seed": kill * 10 + n, "steps": 2, "count": 2});
            let answer = server.post("/api/jobs", &order);
            assert_eq!(answer.status, 202, "{}", answer.json());
            taken.insert(answer.json()["id"].as_str().expect("an id").to_owned());
        }
        std::thread::sleep(Duration::from_millis(random(&mut seed) % 700));
        // What was told to be finished by then.
        for job in server.get("/api/jobs?limit=500").json()["jobs"].as_array().expect("jobs") {
            let shas = job["pictures"].as_array().expect("pictures").iter().filter_map(|p| p["sha256"].as_str());
            finished.extend(shas.map(str::to_owned));
        }
        server.child.kill().expect("killed");
        server.child.wait().expect("its end");
        let there: BTreeSet<String> =
            records(&dir).iter().filter_map(|r| r["id"].as_str().map(str::to_owned)).collect();
        assert!(taken.is_subset(&there), "a record is lost");
    }
    let server = Server::start(&dir, &["--queue", "1000"]);
    for id in &taken {
        let job = server.ended(id);
        assert_eq!((&job["state"], job["pictures"].as_array().map(Vec::len)), (&json!("done"), Some(2)), "{job}");
        let seeds: Vec<u64> = (0..2).filter_map(|i| job["pictures"][i]["seed"].as_u64()).collect();
        let first = job["order"]["seed"].as_u64().expect("a seed");
        assert_eq!(seeds, [first, first + 1]);
    }
    let listed = server.get("/api/jobs?limit=500").json();
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(taken.len()));
    for sha in finished {
        let bytes = std::fs::read(dir.join(&format!("out/images/{sha}.png"))).expect("a finished picture");
        let own: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(own, sha);
    }
    let temporary = |name: &String| name.ends_with(".tmp");
    let left: Vec<_> = std::fs::read_dir(dir.join("out/images"))
        .expect("the pictures")
        .map(|e| e.expect("a name").file_name().to_string_lossy().into_owned())
        .filter(temporary)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_cleanly_and_hands_back_what_runs() {
    use rustix::process::{Pid, Signal, kill_process};
    let dir = Temp::new();
    let end = |server: &mut Server, signal: Signal| {
        kill_process(Pid::from_child(&server.child), signal).expect("a signal");
        let begun = Instant::now();
        let status = server.child.wait().expect("its end");
        assert!(status.success() && begun.elapsed() < Duration::from_secs(12), "{status} after {:?}", begun.elapsed());
    };
    let mut idle = Server::start(&dir, &[]);
    end(&mut idle, Signal::INT);
    let mut busy = Server::start(&dir, &[]);
    let id = busy.post("/api/jobs", &slow(1)).json()["id"].as_str().expect("an id").to_owned();
    let waits = busy.post("/api/jobs", &json!({"prompt": "a cat", "seed": 2, "steps": 1})).json();
    busy.runs(&id);
    end(&mut busy, Signal::TERM);
    let state = |wanted: &Value| {
        let all = records(&dir);
        let found = all.iter().find(|r| r["id"] == *wanted).map(|r| (r["state"].clone(), r["attempts"].clone()));
        found.expect("a record")
    };
    // It was handed back, or, on a fast machine, finished.
    let running = state(&json!(id));
    assert!(running == (json!("queued"), json!(0)) || running.0 == "done", "{running:?}");
    let server = Server::start(&dir, &[]);
    server.send("POST", &format!("/api/jobs/{id}/cancel"), &[], None);
    let waits = server.ended(waits["id"].as_str().expect("an id"));
    assert_eq!(waits["state"], "done");
}

#[test]
fn what_took_the_server_down_three_times_is_given_up() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let job = server.draw(&json!({"prompt": "a cat", "seed": 1, "steps": 1}));
    drop(server);
    let id = job["id"].as_str().expect("an id");
    let path = dir.join(&format!("out/jobs/{id}.json"));
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).expect("a record")).expect("JSON");
    (record["state"], record["attempts"], record["ended"]) = (json!("running"), json!(3), json!(null));
    std::fs::write(&path, record.to_string()).expect("written");
    // What is no record does no harm.
    std::fs::write(dir.join("out/jobs/rubbish.json"), "{").expect("written");
    let server = Server::start(&dir, &[]);
    let job = server.ended(id);
    assert_eq!((&job["state"], &job["error"]["kind"]), (&json!("failed"), &json!("internal")), "{job}");
}
