//! Programs that speak the webui's API find what they look for: each does here what it does at its start and in a job.

use super::client::{Answer, Server};
use crate::common::{Temp, lienzo, stderr};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lienzo::image::{Image, PictureLimits, png_bytes, read_png_bytes};
use serde_json::{Value, json};

const SMALL: &str = r#"{"prompt": "a red apple", "seed": 5, "steps": 1, "width": 64, "height": 64}"#;

/// A small request with some fields more.
fn small(more: Value) -> Value {
    let mut request: Value = serde_json::from_str(SMALL).unwrap();
    for (name, value) in more.as_object().expect("an object") {
        request[name] = value.clone();
    }
    request
}

fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// The pictures of an answer.
fn pictures(answer: &Value) -> Vec<Vec<u8>> {
    let images = answer["images"].as_array().expect("images");
    images.iter().map(|image| STANDARD.decode(image.as_str().expect("base64")).expect("plain base64")).collect()
}

fn info(answer: &Value) -> Value {
    serde_json::from_str(answer["info"].as_str().expect("a text")).expect("JSON")
}

/// The text of a picture.
fn text(png: &[u8]) -> String {
    read_png_bytes(png, "x", PictureLimits::default()).unwrap().1[0].1.clone()
}

/// A picture that is nowhere flat.
fn photo() -> Image {
    let rgb = (0..64 * 64).flat_map(|i| [(i % 64 * 4) as u8, (i / 64 * 4) as u8, 128]).collect();
    Image { width: 64, height: 64, rgb }
}

/// White on its right half.
fn half() -> Image {
    let rgb = (0..64 * 64).flat_map(|i| [if i % 64 >= 32 { 255 } else { 0 }; 3]).collect();
    Image { width: 64, height: 64, rgb }
}

fn encoded(image: &Image) -> String {
    STANDARD.encode(png_bytes(image, None).unwrap())
}

#[test]
fn sillytavern_lists_draws_changes_its_model_and_waits() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    // Credentials of nothing.
    let login = [("Authorization", "Basic ")];
    assert_eq!(server.send("GET", "/sdapi/v1/options", &login, None).status, 200);
    for list in ["samplers", "schedulers", "sd-models", "upscalers"] {
        let all = ok(&server.get(&format!("/sdapi/v1/{list}")));
        assert!(!all.as_array().unwrap().is_empty(), "{list}");
    }
    for list in ["sd-vae", "latent-upscale-modes", "loras", "hypernetworks", "extensions", "script-info"] {
        assert!(ok(&server.get(&format!("/sdapi/v1/{list}"))).is_array(), "{list}");
    }
    let request = small(json!({
        "url": "http://localhost:7860", "auth": "", "clip_skip": 1, "save_images": true, "send_images": true,
        "do_not_save_grid": false, "do_not_save_samples": false, "enable_hr": false, "hr_upscaler": "Latent",
        "denoising_strength": 0.7, "hr_second_pass_steps": 0, "sampler_name": "Euler a", "sampler_index": "Euler a",
        "scheduler": "Automatic", "restore_faces": false, "override_settings": {"CLIP_stop_at_last_layers": 1},
        "override_settings_restore_afterwards": true,
    }));
    let drawn = ok(&server.post("/sdapi/v1/txt2img", &request));
    assert_eq!(pictures(&drawn).len(), 1);
    let title = ok(&server.get("/sdapi/v1/sd-models"))[0]["title"].clone();
    assert_eq!(ok(&server.post("/sdapi/v1/options", &json!({"sd_model_checkpoint": title}))), Value::Null);
    let progress = ok(&server.get("/sdapi/v1/progress"));
    assert_eq!((&progress["progress"], &progress["state"]["job_count"]), (&json!(0.0), &json!(0)));
    assert_eq!(ok(&server.send("POST", "/sdapi/v1/interrupt", &[], None)), json!({}));
}

#[test]
fn open_webui_posts_all_options_back_and_reads_images_and_info() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let options = ok(&server.send("GET", "/sdapi/v1/options", &[("authorization", "")], None));
    assert!(options["sd_model_checkpoint"].is_string());
    let models = ok(&server.get("/sdapi/v1/sd-models"));
    assert!(models[0]["title"].is_string() && models[0]["model_name"].is_string());
    assert_eq!(ok(&server.post("/sdapi/v1/options", &options)), Value::Null);
    let request = json!({"prompt": "a red apple", "batch_size": 2, "width": 64, "height": 64, "steps": 1});
    let drawn = ok(&server.post("/sdapi/v1/txt2img", &request));
    let (all, info) = (pictures(&drawn), info(&drawn));
    assert!(all.len() == 2 && all[0] != all[1]);
    let seeds = info["all_seeds"].as_array().unwrap();
    assert_eq!(seeds[0].as_u64().unwrap() + 1, seeds[1].as_u64().unwrap());
    let refused = server.post("/sdapi/v1/options", &json!({"sd_model_checkpoint": "no-such.safetensors"}));
    assert_eq!(refused.status, 422);
    assert_eq!(ok(&server.get("/sdapi/v1/options"))["sd_model_checkpoint"], options["sd_model_checkpoint"]);
}

#[test]
fn librechat_and_the_photoshop_plugin_read_the_texts() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let librechat = small(json!({"negative_prompt": "blurry", "cfg_scale": 4.5}));
    let drawn = ok(&server.post("/sdapi/v1/txt2img", &librechat));
    let image = drawn["images"][0].as_str().unwrap();
    assert!(!image.contains(','));
    let texts = info(&drawn)["infotexts"].clone();
    assert_eq!(texts[0], text(&pictures(&drawn)[0]));
    assert!(texts[0].as_str().unwrap().contains("Negative prompt: blurry\nSteps: 1, Sampler: Euler,"), "{texts}");
    // The plugin asks for each picture's text.
    let plugin = json!({"image": format!("data:image/png;base64,{image}")});
    let said = ok(&server.post("/sdapi/v1/png-info", &plugin));
    assert_eq!(said["info"], texts[0]);
    assert_eq!((&said["parameters"]["Seed"], &said["parameters"]["Size-1"]), (&json!("5"), &json!("64")));
    let request =
        small(json!({"uniqueDocumentId": "x", "use_prompt_shortcut": true, "sampler_index": "DPM++ 2M Karras"}));
    let info = info(&ok(&server.post("/sdapi/v1/txt2img", &request)));
    assert_eq!(info["sampler_name"], "DPM++ 2M");
    assert!(info["infotexts"][0].as_str().unwrap().contains("Schedule type: Karras"));
    assert!(ok(&server.get("/sdapi/v1/progress?skip_current_image=false"))["state"].is_object());
    let kind = [("Content-Type", "application/json")];
    assert_eq!(ok(&server.send("POST", "/sdapi/v1/interrupt", &kind, None)), json!({}));
}

#[test]
fn sd_backend_client_and_gimp_find_the_server_and_its_keys() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    // Neither ComfyUI nor ControlNet is here.
    for path in ["/system_stats", "/controlnet/model_list"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let task = json!({"force_task_id": "task(abc)", "sampler_index": "Euler a"});
    let info = info(&ok(&server.post("/sdapi/v1/txt2img", &small(task))));
    for (key, value) in [
        ("restore_faces", json!(false)),
        ("face_restoration_model", Value::Null),
        ("subseed_strength", json!(0.0)),
        ("seed", json!(5)),
        ("width", json!(64)),
        ("steps", json!(1)),
        ("batch_size", json!(1)),
        ("styles", json!([])),
        ("index_of_first_image", json!(0)),
        ("clip_skip", json!(1)),
        ("is_using_inpainting_conditioning", json!(false)),
        ("seed_resize_from_w", json!(-1)),
        ("sampler_name", json!("Euler a")),
        ("denoising_strength", Value::Null),
    ] {
        assert_eq!(info.get(key), Some(&value), "{key}");
    }
    assert!(info["sd_model_hash"].as_str().is_some_and(|hash| hash.len() == 10), "{info}");
    assert!(info["job_timestamp"].as_str().is_some_and(|time| time.len() == 14 && time.starts_with("20")));
    let progress = ok(&server.get("/sdapi/v1/progress"));
    for key in ["progress", "eta_relative", "state", "current_image", "textinfo"] {
        assert!(progress.get(key).is_some(), "{key}");
    }
    let asked = json!({"id_task": "task(abc)", "id_live_preview": -1, "live_preview": true});
    let told = ok(&server.post("/internal/progress", &asked));
    assert_eq!((&told["completed"], &told["active"], &told["queued"]), (&json!(true), &json!(false), &json!(false)));
    assert_eq!(ok(&server.get("/internal/pending-tasks")), json!({"size": 0, "tasks": []}));
}

#[test]
fn the_bytes_are_the_command_lines() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    std::fs::write(dir.join("photo.png"), png_bytes(&photo(), None).unwrap()).unwrap();
    let common = ["generate", "a red apple", "--seed", "5", "--steps", "2", "-W", "64", "-H", "64", "-t", "2"];
    let drawn_by = |more: &[&str], name: &str| {
        let args: Vec<&str> = common.into_iter().chain(more.iter().copied()).chain(["-o", name]).collect();
        let output = lienzo(&dir, &args);
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read(dir.join(name)).unwrap()
    };
    let euler = drawn_by(&["--sampling-method", "euler_a", "--cfg-scale", "7"], "a.png");
    let request = small(json!({"steps": 2, "sampler_name": "Euler a", "eta": 1.0}));
    assert!(pictures(&ok(&server.post("/sdapi/v1/txt2img", &request)))[0] == euler, "txt2img");
    let more = ["--sampling-method", "euler", "--cfg-scale", "7", "-i", "photo.png", "--strength", "0.6"];
    let begun = drawn_by(&[&more[..], &["--resize-mode", "just"]].concat(), "b.png");
    let request = small(json!({"steps": 2, "init_images": [encoded(&photo())], "denoising_strength": 0.6}));
    assert!(pictures(&ok(&server.post("/sdapi/v1/img2img", &request)))[0] == begun, "img2img");
}

#[test]
fn what_a_mask_keeps_stays_and_what_is_not_here_is_refused_by_name() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let masked = |more: Value| {
        let mut request = small(json!({
            "init_images": [encoded(&photo())], "mask": encoded(&half()), "mask_blur": 0, "inpainting_fill": 1,
            "inpaint_full_res": false, "denoising_strength": 1.0,
        }));
        more.as_object().unwrap().iter().for_each(|(name, value)| request[name] = value.clone());
        request
    };
    for (invert, kept) in [(0, 0..32), (1, 32..64)] {
        let request = masked(json!({"inpainting_mask_invert": invert, "mask": [encoded(&half())]}));
        let png = pictures(&ok(&server.post("/sdapi/v1/img2img", &request))).remove(0);
        let image = read_png_bytes(&png, "x", PictureLimits::default()).unwrap().0;
        for (i, (new, old)) in image.rgb.chunks_exact(3).zip(photo().rgb.chunks_exact(3)).enumerate() {
            assert!(!kept.contains(&(i % 64)) || new == old, "pixel {i} changed");
        }
        assert!(image != photo());
    }
    for (path, request, status, named) in [
        ("txt2img", small(json!({"enable_hr": true})), 422, "enable_hr"),
        ("txt2img", small(json!({"tiling": true})), 422, "tiling"),
        ("txt2img", small(json!({"steps": "many"})), 422, "steps"),
        ("txt2img", small(json!({"width": 100000})), 422, "width"),
        ("txt2img", small(json!({"cfg_scale": -1e30})), 422, "cfg_scale"),
        ("txt2img", small(json!({"sampler_name": "No Such Sampler"})), 400, "No Such Sampler"),
        ("txt2img", small(json!({"alwayson_scripts": {"ControlNet": {"args": [{"model": "x"}]}}})), 422, "ControlNet"),
        ("txt2img", small(json!({"prompt": "<lora:x:1> a cat"})), 422, "prompt"),
        ("img2img", small(json!({})), 404, "Init image not found"),
        ("img2img", masked(json!({"init_images": ["http://127.0.0.1/a.png"]})), 422, "never fetched"),
        ("img2img", masked(json!({"mask": "http://127.0.0.1/a.png"})), 422, "mask"),
        ("img2img", masked(json!({"resize_mode": 3})), 422, "resize_mode"),
        ("extra-single-image", json!({"image": encoded(&photo()), "upscaler_1": "R-ESRGAN"}), 422, "upscaler_1"),
        ("interrogate", json!({"image": encoded(&photo())}), 404, "Not Found"),
    ] {
        let answer = server.post(&format!("/sdapi/v1/{path}"), &request);
        let detail = answer.json()["detail"].to_string();
        assert!(answer.status == status && detail.contains(named), "{path} {named}: {} {detail}", answer.status);
    }
}
