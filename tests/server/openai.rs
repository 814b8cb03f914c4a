//! Programs that speak OpenAI's API of images: generations, edits, variations, streams, and errors in its form.

use super::client::{Answer, Server};
use crate::common::{Temp, lienzo, stderr};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lienzo::image::{Image, PictureLimits, png_bytes, read_png_bytes};
use serde_json::{Value, json};

fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

fn pictures(answer: &Value) -> Vec<Vec<u8>> {
    let data = answer["data"].as_array().expect("data");
    data.iter().map(|one| STANDARD.decode(one["b64_json"].as_str().expect("base64")).unwrap()).collect()
}

/// A form: fields, and files with a name; in this order.
fn form(parts: &[(&str, &[u8], bool)]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, bytes, file) in parts {
        let file = if *file { "; filename=\"a.png\"\r\nContent-Type: image/png" } else { "" };
        body.extend(format!("--mark\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes());
        body.extend_from_slice(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--mark--\r\n");
    ("multipart/form-data; boundary=mark".into(), body)
}

fn sent(server: &Server, path: &str, parts: &[(&str, &[u8], bool)]) -> Answer {
    let (kind, body) = form(parts);
    server.send("POST", path, &[("Content-Type", &kind)], Some(&body))
}

fn photo() -> Image {
    let rgb = (0..64 * 64).flat_map(|i| [(i % 64 * 4) as u8, (i / 64 * 4) as u8, 128]).collect();
    Image { width: 64, height: 64, rgb }
}

/// The picture, transparent on its right half, or opaque.
fn masked(transparent: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 64, 64);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().unwrap();
    let alpha = |i: usize| if transparent && i % 64 >= 32 { 0 } else { 255 };
    let pixels =
        photo().rgb.chunks_exact(3).enumerate().flat_map(|(i, p)| [p[0], p[1], p[2], alpha(i)]).collect::<Vec<u8>>();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    out
}

#[test]
fn a_generation_is_the_command_lines_picture() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let models = ok(&server.get("/v1/models"));
    let id = models["data"][0]["id"].as_str().unwrap();
    assert_eq!(ok(&server.get(&format!("/v1/models/{id}")))["object"], "model");
    assert_eq!(server.get("/v1/models/no-such-model").status, 404);
    let request = json!({
        "model": "gpt-image-1", "prompt": "a red apple", "size": "64x64", "quality": "low", "background": "auto",
        "moderation": "auto", "output_format": "png", "user": "me", "n": 1, "seed": 5, "steps": 2,
    });
    let answer = server.post("/v1/images/generations", &request);
    assert_eq!(answer.header("x-lienzo-model").as_deref(), Some(id));
    let drawn = ok(&answer);
    assert_eq!((&drawn["size"], &drawn["output_format"]), (&json!("64x64"), &json!("png")));
    let args =
        ["generate", "a red apple", "--seed", "5", "--steps", "2", "-W", "64", "-H", "64", "-t", "2", "-o", "a.png"];
    let output = lienzo(&dir, &args);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(pictures(&drawn)[0] == std::fs::read(dir.join("a.png")).unwrap());
    // By its address, and as JPEG.
    let mut by_url = request.clone();
    by_url["response_format"] = json!("url");
    let url = ok(&server.post("/v1/images/generations", &by_url))["data"][0]["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&format!("http://127.0.0.1:{}", server.port)).expect("this server's");
    assert!(server.get(path).body == pictures(&drawn)[0]);
    let mut jpeg = request;
    jpeg["output_format"] = json!("jpeg");
    assert!(pictures(&ok(&server.post("/v1/images/generations", &jpeg)))[0].starts_with(&[0xff, 0xd8]));
}

#[test]
fn an_edit_keeps_what_is_opaque_in_whatever_order_its_fields_come() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let (image, mask) = (png_bytes(&photo(), None).unwrap(), masked(true));
    let parts: [(&str, &[u8], bool); 6] = [
        ("prompt", b"a banana", false),
        ("image[]", &image, true),
        ("mask", &mask, true),
        ("size", b"64x64", false),
        ("steps", b"1", false),
        ("seed", b"7", false),
    ];
    let mut backwards = parts;
    backwards.reverse();
    let mut drawn = Vec::new();
    for parts in [parts, backwards] {
        drawn.push(pictures(&ok(&sent(&server, "/v1/images/edits", &parts))).remove(0));
    }
    assert!(drawn[0] == drawn[1]);
    let new = read_png_bytes(&drawn[0], "x", PictureLimits::default()).unwrap().0;
    for (i, (new, old)) in new.rgb.chunks_exact(3).zip(photo().rgb.chunks_exact(3)).enumerate() {
        assert!(i % 64 >= 32 || new == old, "pixel {i} changed");
    }
    assert!(new != photo());
    let opaque = masked(false);
    let refused = sent(&server, "/v1/images/edits", &[parts[0], parts[1], ("mask", &opaque, true)]);
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, &error["param"]), (400, &json!("mask")));
    assert!(error["message"].as_str().unwrap().contains("make transparent"), "{error}");
    let vary: [(&str, &[u8], bool); 3] = [("n", b"2", false), ("image", &image, true), ("steps", b"2", false)];
    assert_eq!(pictures(&ok(&sent(&server, "/v1/images/variations", &vary))).len(), 2);
}

#[test]
fn a_stream_ends_with_the_finished_picture() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let request = json!({
        "prompt": "a red apple", "size": "64x64", "stream": true, "partial_images": 2, "steps": 6, "seed": 9,
    });
    let answer = server.post("/v1/images/generations", &request);
    assert_eq!((answer.status, answer.header("content-type").as_deref()), (200, Some("text/event-stream")));
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: ")?.get(..).filter(|data| data.starts_with('{')))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let (last, partial) = events.split_last().expect("an event");
    assert_eq!(last["type"], "image_generation.completed");
    assert!(partial.len() <= 2 && last["usage"]["total_tokens"].as_u64().is_some_and(|n| n > 0), "{text}");
    for (i, event) in partial.iter().enumerate() {
        assert_eq!(
            (&event["type"], &event["partial_image_index"]),
            (&json!("image_generation.partial_image"), &json!(i))
        );
    }
    for event in &events {
        let png = STANDARD.decode(event["b64_json"].as_str().unwrap()).unwrap();
        let image = read_png_bytes(&png, "x", PictureLimits::default()).unwrap().0;
        assert_eq!((image.width, image.height, &event["size"]), (64, 64, &json!("64x64")));
    }
}

#[test]
fn errors_are_openais_and_never_sent_again() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    for (request, param) in [
        (json!({"size": "64x64"}), json!("prompt")),
        (json!({"prompt": "x", "size": "huge"}), json!("size")),
        (json!({"prompt": "x", "size": "7x7"}), json!("size")),
        (json!({"prompt": "x", "size": "9999x64"}), json!("size")),
        (json!({"prompt": "x", "n": 0}), json!("n")),
        (json!({"prompt": "x", "background": "transparent"}), json!("background")),
        (json!({"prompt": "x", "output_format": "webp"}), json!("output_format")),
        (json!({"prompt": "x", "loras": []}), json!("loras")),
        (json!([1]), Value::Null),
    ] {
        let answer = server.post("/v1/images/generations", &request);
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["param"]), (400, &param), "{request}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].is_string() && error.get("code").is_some());
        assert_eq!(answer.header("x-should-retry").as_deref(), Some("false"));
    }
    assert_eq!(server.get("/v1/no-such-thing").json()["error"]["type"], "invalid_request_error");
    assert_eq!(server.get("/v1/images/edits").status, 405);
}
