//! Every request passes here first: who it is meant for, where it comes from, whether it may, what it brings.

use super::{body, log};
use crate::server::Shared;
use crate::server::api;
use crate::server::fault::{FaultKind, Refusal};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Bytes of a JSON body, and of one that brings pictures.
pub(crate) const BODY: u64 = 1 << 20;
/// Bytes of a body that brings pictures.
pub(crate) const UPLOAD: u64 = 64 << 20;
/// The cookie that holds the token.
const COOKIE: &str = "lienzo_token";
/// How long a wrong token is pondered.
const PONDER: Duration = Duration::from_millis(200);

/// Rules, then the answer, then a line in the log.
pub(crate) async fn guard(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|o| o.to_str().is_ok_and(|o| app.config.origins.iter().any(|own| own == o)));
    let mut response = match rules(&app, &request).and_then(|()| brings(&request)) {
        Err(refusal) => {
            if refusal.status == StatusCode::UNAUTHORIZED {
                tokio::time::sleep(PONDER).await;
            }
            api::refused(&path, refusal)
        }
        Ok(_) if method == Method::OPTIONS && allowed.is_some() => preflight(),
        Ok(most) => match cookie(&app, &request) {
            Some(response) => response,
            None => {
                let inner = std::mem::replace(request.body_mut(), Body::empty());
                *request.body_mut() = body::limited(inner, most);
                next.run(request).await
            }
        },
    };
    dress(&path, response.headers_mut());
    if let Some(origin) = allowed {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        let asks = HeaderValue::from_static("Basic realm=\"lienzo\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
    }
    log::log(&app, &method, &path, response.status(), begun.elapsed());
    response
}

/// What all answers say.
fn dress(path: &str, headers: &mut HeaderMap) {
    let mut put = |name: &'static str, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    put("x-content-type-options", "nosniff");
    put("referrer-policy", "no-referrer");
    put("cross-origin-resource-policy", "same-origin");
    put("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
    if !path.starts_with("/images/") && !path.starts_with("/thumbs/") {
        put("cache-control", "no-store");
    }
}

fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    let may = HeaderValue::from_static("Authorization, Content-Type, Idempotency-Key, Last-Event-ID");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, may);
    response
}

/// Host, origin, token: in this order.
fn rules(app: &Shared, request: &Request) -> Result<(), Refusal> {
    let host = host(request)?;
    if !is_ours(&host, &app.config.hosts) {
        let message = "this name is not one of this server's: use localhost, an IP address or a name that it was told";
        return Err(Refusal::new(FaultKind::Forbidden, message).status(StatusCode::MISDIRECTED_REQUEST));
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && !from_here(request.headers(), &host, &app.config.origins) {
        return Err(Refusal::new(FaultKind::Forbidden, "pages of other sites may not change anything here"));
    }
    let open = matches!(request.uri().path(), "/healthz" | "/readyz");
    let preflight = *request.method() == Method::OPTIONS;
    match &app.config.token {
        Some(token) if !open && !preflight && !shows(request, token) => {
            Err(Refusal::new(FaultKind::Unauthorized, "this server wants its token"))
        }
        _ => Ok(()),
    }
}

/// The one host that a request names.
fn host(request: &Request) -> Result<String, Refusal> {
    let wrong = || Refusal::new(FaultKind::BadRequest, "a request names one host");
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().and_then(|h| h.to_str().ok());
    let told = request.uri().authority().map(|a| a.as_str());
    match (host, told, hosts.next()) {
        (Some(host), None, None) => Ok(host.to_ascii_lowercase()),
        (Some(host), Some(told), None) if host.eq_ignore_ascii_case(told) => Ok(host.to_ascii_lowercase()),
        _ => Err(wrong()),
    }
}

/// Whether a host is this machine by a name that no other page's name can become: DNS can give any name our address,
/// but none to a literal.
fn is_ours(host: &str, names: &[String]) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((literal, rest)) => (literal, rest.strip_prefix(':').or(rest.is_empty().then_some("0"))),
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("0")),
        },
    };
    let numbered = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let known =
        name == "localhost" || name.parse::<IpAddr>().is_ok() || names.iter().any(|own| own.eq_ignore_ascii_case(name));
    numbered && known
}

/// Whether a request that changes something comes from a page of ours, or from no page at all.
fn from_here(headers: &HeaderMap, host: &str, origins: &[String]) -> bool {
    let mut all = headers.get_all(header::ORIGIN).iter();
    let (origin, more) = (all.next(), all.next());
    if more.is_some() {
        return false;
    }
    if let Some(origin) = origin {
        let Ok(origin) = origin.to_str() else { return false };
        return origin.strip_prefix("http://").is_some_and(|own| own.eq_ignore_ascii_case(host))
            || origins.iter().any(|own| own == origin);
    }
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    matches!(site, None | Some(b"same-origin" | b"none"))
}

/// Whether a request shows the token: as a bearer, as the password of Basic, or in the cookie.
fn shows(request: &Request, token: &str) -> bool {
    use base64::Engine as _;
    let headers = request.headers();
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = given.and_then(|value| {
        let (scheme, rest) = value.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.trim().to_owned());
        }
        let plain = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
        let (_, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
        scheme.eq_ignore_ascii_case("basic").then(|| password.to_owned())
    });
    if shown.is_some_and(|shown| same(&shown, token)) {
        return true;
    }
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    cookies.any(|(name, value)| name == COOKIE && same(value, token))
        || (request.uri().path() == "/" && in_query(request).is_some_and(|shown| same(&shown, token)))
}

/// Compares without telling by its time how much of the token was right: both are hashed first.
fn same(shown: &str, token: &str) -> bool {
    Sha256::digest(shown.as_bytes()) == Sha256::digest(token.as_bytes())
}

fn in_query(request: &Request) -> Option<String> {
    let pairs = request.uri().query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == "token").map(|(_, value)| value.to_owned())
}

/// `/?token=...`: the token becomes a cookie, and the address loses it.
fn cookie(app: &Shared, request: &Request) -> Option<Response> {
    let token = app.config.token.as_ref()?;
    let shown = in_query(request).filter(|_| request.uri().path() == "/" && *request.method() == Method::GET)?;
    if !same(&shown, token) {
        return None;
    }
    let cookie = HeaderValue::from_str(&format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict")).ok()?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("./"));
    Some(response)
}

/// What a request brings: its type must be one that a form on a foreign page cannot send. Gives the bytes that are
/// taken.
fn brings(request: &Request) -> Result<u64, Refusal> {
    let (headers, path) = (request.headers(), request.uri().path());
    let length: Option<u64> = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let brings = length.unwrap_or(0) > 0 || headers.contains_key(header::TRANSFER_ENCODING);
    let pictures = ["/api/uploads", "/api/png-info"].contains(&path);
    let forms = ["/v1/images/edits", "/v1/images/variations"].contains(&path);
    let encoded = path.starts_with("/sdapi/");
    let most = if pictures || forms || encoded { UPLOAD } else { BODY };
    if !brings {
        return Ok(most);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let fits = match kind.as_str() {
        "application/json" => !pictures,
        "image/png" | "image/jpeg" => pictures,
        "multipart/form-data" => forms,
        _ => false,
    };
    if !fits {
        let allowed = match (pictures, forms) {
            (true, _) => "image/png or image/jpeg",
            (_, true) => "multipart/form-data",
            _ => "application/json",
        };
        let message = format!("a body of the type '{}' is not taken here: {allowed} is", crate::error::escape(&kind));
        return Err(Refusal::new(FaultKind::UnsupportedType, message));
    }
    if let Some(length) = length.filter(|length| *length > most) {
        let mut refusal = Refusal::from(body::Cut::TooLarge(most));
        refusal.fault.need = Some(length);
        return Err(refusal);
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_made_to_point_here_are_ours() {
        let names = ["lienzo.example".to_owned()];
        for host in
            ["localhost", "localhost:7860", "127.0.0.1:1", "192.168.1.7", "[::1]:7860", "[::1]", "lienzo.example:80"]
        {
            assert!(is_ours(host, &names), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":80",
            "localhost:x",
            "[::1]x",
            "evil.example:7860",
            "localhost:70000",
        ] {
            assert!(!is_ours(host, &names), "{host}");
        }
    }

    #[test]
    fn what_changes_something_comes_from_here_or_from_no_page() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            headers
        };
        let origins = ["https://lienzo.example".to_owned()];
        let from = |pairs: &[(&'static str, &str)]| from_here(&headers(pairs), "127.0.0.1:7860", &origins);
        assert!(from(&[]));
        assert!(from(&[("origin", "http://127.0.0.1:7860"), ("sec-fetch-site", "same-origin")]));
        assert!(from(&[("origin", "https://lienzo.example"), ("sec-fetch-site", "cross-site")]));
        for origin in [
            "null",
            "file://",
            "",
            "http://evil.example",
            "http://127.0.0.1:7861",
            "https://127.0.0.1:7860",
            "http://127.0.0.1:7860.evil.example",
            "http://127.0.0.1",
        ] {
            assert!(!from(&[("origin", origin)]), "{origin}");
        }
        assert!(!from(&[("sec-fetch-site", "cross-site")]) && !from(&[("sec-fetch-site", "same-site")]));
        assert!(!from(&[("origin", "http://127.0.0.1:7860"), ("origin", "http://evil.example")]));
    }

    #[test]
    fn a_token_is_shown_in_three_ways_and_no_fourth() {
        let shown = |path: &str, name: &'static str, value: &str| {
            let request = axum::http::Request::get(path).header(name, value).body(Body::empty()).unwrap();
            shows(&request, "secret-token")
        };
        assert!(shown("/api/jobs", "authorization", "Bearer secret-token"));
        assert!(shown("/api/jobs", "authorization", "basic YW55Ym9keTpzZWNyZXQtdG9rZW4="));
        assert!(shown("/api/jobs", "cookie", "a=b; lienzo_token=secret-token"));
        assert!(shown("/?token=secret-token", "accept", "*/*"));
        for (path, name, value) in [
            ("/", "authorization", ""),
            ("/", "authorization", "Bearer secret-toke"),
            ("/", "authorization", "Basic ???"),
            ("/", "authorization", "secret-token"),
            ("/", "cookie", "lienzo_token=secret-token1"),
            ("/?token=", "accept", "*/*"),
            ("/api/jobs?token=secret-token", "accept", "*/*"),
        ] {
            assert!(!shown(path, name, value), "{path} {name}: {value}");
        }
    }
}
