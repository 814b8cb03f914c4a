//! Many clients at once: none is lost, none is drawn twice, and lists stay quick.

use super::client::Server;
use crate::common::Temp;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[test]
fn two_hundred_jobs_of_ten_clients_are_drawn_once_each() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let ids: Mutex<Vec<String>> = Mutex::default();
    let asked: Mutex<Vec<Duration>> = Mutex::default();
    std::thread::scope(|scope| {
        for client in 0..10 {
            let (server, ids, asked) = (&server, &ids, &asked);
            scope.spawn(move || {
                for n in 0..20 {
                    let order = json!({"prompt": "a star", "seed": client * 100 + n, "steps": 1});
                    let answer = loop {
                        let answer = server.post("/api/jobs", &order);
                        if answer.status != 503 {
                            break answer;
                        }
                        assert!(answer.header("retry-after").is_some());
                        std::thread::sleep(Duration::from_millis(50));
                    };
                    assert_eq!(answer.status, 202, "{}", answer.json());
                    ids.lock().expect("ids").push(answer.json()["id"].as_str().expect("an id").to_owned());
                    let begun = Instant::now();
                    assert_eq!(server.get("/api/jobs").status, 200);
                    asked.lock().expect("times").push(begun.elapsed());
                }
            });
        }
    });
    let ids = ids.into_inner().expect("ids");
    let mut pictures = BTreeSet::new();
    for id in &ids {
        let job = server.ended(id);
        assert_eq!((&job["state"], &job["attempts"]), (&json!("done"), &json!(1)), "{job}");
        pictures.insert(job["pictures"][0]["sha256"].to_string());
    }
    assert_eq!((ids.iter().collect::<BTreeSet<_>>().len(), pictures.len()), (200, 200));
    let metrics = String::from_utf8_lossy(&server.get("/metrics").body).into_owned();
    assert!(metrics.contains("lienzo_pictures_total 200\n"), "{metrics}");
    let mut asked = asked.into_inner().expect("times");
    asked.sort();
    // Generous: the machine of a test is busy with others. What a quiet one does, the load script measures.
    assert!(asked[asked.len() / 2] < Duration::from_secs(2), "{:?}", asked[asked.len() / 2]);
}
