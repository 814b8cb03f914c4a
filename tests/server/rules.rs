//! Who may ask, for what, with how much.

use super::client::Server;
use crate::common::{Temp, lienzo, stderr};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn foreign_names_pages_and_forms_are_refused() {
    let dir = Temp::new();
    let server = Server::start(&dir, &["--host-name", "lienzo.example"]);
    let order = json!({"prompt": "a red apple", "seed": 1, "steps": 1}).to_string();
    let own = format!("http://127.0.0.1:{}", server.port);
    let post = |headers: &[(&str, &str)]| server.send("POST", "/api/jobs", headers, Some(order.as_bytes())).status;
    assert_eq!(post(&[JSON]), 202);
    assert_eq!(post(&[JSON, ("Origin", &own), ("Sec-Fetch-Site", "same-origin")]), 200);
    for origin in
        ["http://evil.example", "null", "file://", &format!("{own}.evil.example"), &own.replace("http", "https")]
    {
        assert_eq!(post(&[JSON, ("Origin", origin)]), 403, "{origin}");
    }
    assert_eq!(post(&[JSON, ("Sec-Fetch-Site", "cross-site")]), 403);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        assert_eq!(post(&[("Content-Type", kind)]), 415, "{kind}");
    }
    let host = |host: &str| server.send("GET", "/api/options", &[("Host", host)], None).status;
    assert_eq!((host("lienzo.example"), host("LOCALHOST"), host("[::1]:1")), (200, 200, 200));
    assert_eq!((host("evil.example"), host("127.0.0.1.evil.example"), host("")), (421, 421, 421));
    let page = server.get("/");
    assert!(
        page.header("content-security-policy").is_some_and(|p| p.starts_with("default-src 'none'; script-src 'self'"))
    );
    assert_eq!(page.header("access-control-allow-origin"), None);
    assert_eq!(page.header("x-content-type-options").as_deref(), Some("nosniff"));
}

#[test]
fn a_token_is_wanted_everywhere_but_for_the_watchman() {
    let dir = Temp::new();
    let server = Server::start(&dir, &["--token", "open-sesame"]);
    let with = |path: &str, headers: &[(&str, &str)]| server.send("GET", path, headers, None);
    for path in ["/", "/api/jobs", "/metrics", "/images/x.png", "/nothing"] {
        assert_eq!(with(path, &[]).status, 401, "{path}");
        assert_eq!(with(path, &[("Authorization", "Bearer open-sesam")]).status, 401, "{path}");
    }
    assert_eq!((with("/healthz", &[]).status, with("/readyz", &[]).status), (200, 200));
    assert_eq!(with("/api/jobs", &[("Authorization", "Bearer open-sesame")]).status, 200);
    assert_eq!(with("/api/jobs", &[("Authorization", "Basic eDpvcGVuLXNlc2FtZQ==")]).status, 200);
    let shown = with("/?token=open-sesame", &[]);
    let cookie = shown.header("set-cookie").expect("a cookie");
    assert!(shown.status == 303 && cookie.contains("SameSite=Strict") && cookie.contains("HttpOnly"), "{cookie}");
    let cookie = cookie.split(';').next().expect("its value");
    assert_eq!(with("/api/jobs", &[("Cookie", cookie)]).status, 200);
    // Nobody else's address without one.
    let open = lienzo(&dir, &["serve", "--listen", "0.0.0.0", "--port", "0", "--output", "other"]);
    assert!(open.status.code() == Some(2) && stderr(&open).contains("--token"), "{}", stderr(&open));
}

#[test]
fn too_much_and_too_strange_is_refused_and_the_server_goes_on() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let post = |body: &[u8]| server.send("POST", "/api/jobs", &[JSON], Some(body));
    let nested = "[".repeat(100_000);
    for (body, status) in
        [(&b"{\"prompt\": \"a"[..], 400), (nested.as_bytes(), 400), (b"\xff", 400), (b"1", 422), (b"{}", 422)]
    {
        let answer = post(body);
        assert_eq!(answer.status, status, "{}", answer.json());
        assert!(answer.json()["error"]["message"].is_string());
    }
    let big = format!("{{\"prompt\": \"{}\"}}", "a".repeat(2 << 20));
    assert_eq!(post(big.as_bytes()).status, 413);
    for (order, field) in [
        (json!({"prompt": "a", "stepz": 1}), "stepz"),
        (json!({"prompt": "a", "steps": 1001}), "steps"),
        (json!({"prompt": "a", "width": 100}), "width"),
        (json!({"prompt": "a", "count": 65}), "count"),
        (json!({"prompt": "a", "sampler": "eulr"}), "sampler"),
        (json!({"prompt": "a", "model": "../../etc/passwd"}), "model"),
        (json!({"prompt": "a", "init_image": "/etc/passwd"}), "init_image"),
        (json!({"prompt": "a", "init_image": "0".repeat(64)}), "init_image"),
        (json!({"prompt": "a", "styles": ["nonesuch"]}), "styles"),
        (json!({"prompt": "a <lora:x:1>"}), "prompt"),
        (json!({"prompt": "a\u{0}b"}), "prompt"),
        (json!({"prompt": "a", "preview": "every=1"}), "preview"),
    ] {
        let answer = server.post("/api/jobs", &order);
        let error = answer.json()["error"].clone();
        assert_eq!(answer.status, 422, "{order}: {error}");
        assert_eq!(error["place"][1], field, "{error}");
    }
    let answer =
        server.send("POST", "/api/uploads", &[("Content-Type", "image/png")], Some(b"\x89PNG\r\n\x1a\nrubbish"));
    assert_eq!(answer.status, 422, "{}", answer.json());
    for path in
        ["/images/../jobs", "/images/%2e%2e%2fjobs.png", "/images/x%00.png", "/file=/etc/passwd", "/.git/config"]
    {
        assert!(matches!(server.get(path).status, 400 | 404), "{path}");
    }
    // Bytes that are no HTTP.
    let mut raw = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
    raw.write_all(b"\0\x01\x02 rubbish\r\n\r\n").expect("sent");
    let _ = raw.read(&mut [0; 16]);
    assert_eq!(server.get("/healthz").status, 200);
}
