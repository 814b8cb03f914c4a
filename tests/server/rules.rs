//! Who may ask, for what, with how much.

use super::client::Server;
use crate::common::{Temp, lienzo, stderr};
use serde_json::json;

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
