//! A path goes in, a file of the page comes out: they are in the binary.

use crate::server::Shared;
use crate::server::jobs::shelf::sha256;
use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// What a page of ours may do: nothing but what it brings itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        /// The page's files.
        static FILES: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("page/", $name)))),+];
    };
}

files![
    "actions.js",
    "acts.js",
    "api.js",
    "base.css",
    "canvas.css",
    "canvas.js",
    "choice.js",
    "compare.js",
    "composer.css",
    "composer.js",
    "controls.css",
    "count.js",
    "dom.js",
    "draft.js",
    "edit.js",
    "extend.js",
    "fault.js",
    "files.js",
    "floating.css",
    "gallery.css",
    "gallery.js",
    "gone.js",
    "hint.js",
    "history.js",
    "icon.svg",
    "index.html",
    "layout.css",
    "ledge.css",
    "ledge.js",
    "lexicon.js",
    "live.js",
    "main.js",
    "mask.js",
    "now.js",
    "number.js",
    "parameters.js",
    "queue.js",
    "scene.js",
    "seed.js",
    "settings.css",
    "settings.js",
    "size.js",
    "speak.js",
    "start.js",
    "store.js",
    "strokes.js",
    "toast.js",
    "tokens.css",
    "tools.js",
    "view.js",
    "wall.css",
    "weave.js",
    "words.js",
    "workers.js",
];

/// The page's routes.
pub(crate) fn routes() -> Router<Shared> {
    let mut router = Router::new();
    for (name, bytes) in FILES {
        let tag = HeaderValue::from_str(&format!("\"{}\"", &sha256(bytes)[..16])).ok();
        let path = if *name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        let kind = kind(name);
        router = router.route(
            &path,
            get(move |headers: HeaderMap| {
                let tag = tag.clone();
                async move { file(&headers, bytes, kind, tag) }
            }),
        );
    }
    router
}

fn file(asked: &HeaderMap, bytes: &'static [u8], kind: &'static str, tag: Option<HeaderValue>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Asked for each time, and sent when it is another.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let same = tag.is_some() && asked.get(header::IF_NONE_MATCH) == tag.as_ref();
    headers.extend(tag.map(|tag| (HeaderName::from_static("etag"), tag)));
    if same { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, bytes).into_response() }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_and_none_brings_scripts_of_its_own_into_the_text() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/page");
        let mut there: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        there.sort();
        let served: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(there, served);
        let html = std::str::from_utf8(FILES.iter().find(|(n, _)| *n == "index.html").unwrap().1).unwrap();
        for inline in ["style=\"", "onclick", "onload", "<style", "javascript:", "http://", "https://"] {
            assert!(!html.contains(inline), "the page's policy forbids {inline}");
        }
        let bare = html.match_indices("<script").all(|(at, _)| html[at..].split('>').next().unwrap().contains("src="));
        assert!(bare, "a script without a file");
    }
}
