//! A job that ended and the request that it came from go in; the answer of `txt2img` and `img2img` comes out, with all
//! keys of its `info`.

use super::pictures::base64_of;
use crate::image::parameters::Parameters;
use crate::server::jobs::record::{Job, Picture, PictureKind};
use serde_json::{Map, Value, json};

/// A job's own pictures, in the webui's order: iterations, and the batch within each.
pub(super) fn pictures(job: &Job) -> Vec<&Picture> {
    let mut all: Vec<&Picture> = job.pictures.iter().filter(|p| p.kind == PictureKind::Picture).collect();
    all.sort_by_key(|p| p.index);
    all
}

/// The whole answer. `files` are the pictures' PNGs, where they are to be sent.
pub(super) fn reply(job: &Job, echo: Map<String, Value>, files: &[Vec<u8>], inpaints: bool) -> Value {
    let info = info(job, &echo, inpaints).to_string();
    let images: Vec<String> = files.iter().map(|png| base64_of(png)).collect();
    json!({"images": images, "parameters": echo, "info": info})
}

/// A number that was an f32, in its short form.
fn short(value: f32) -> f64 {
    // What prints as a number is read as one.
    value.to_string().parse().unwrap_or_default()
}

/// What a picture's text says.
fn texts(picture: &Picture) -> Parameters {
    Parameters::parse(picture.parameters.as_deref().unwrap_or_default())
}

fn info(job: &Job, echo: &Map<String, Value>, inpaints: bool) -> Value {
    let order = &job.order;
    let pictures = pictures(job);
    let first = pictures.first().map(|p| texts(p)).unwrap_or_default();
    // As they were typed, unless something was made of them.
    let typed = order.styles.is_empty();
    let prompts = |typed_one: &Option<String>, of: &dyn Fn(&Parameters) -> String| -> Vec<String> {
        let one = |p: &&Picture| match typed && p.cell.is_none() {
            true => typed_one.clone().unwrap_or_default(),
            false => of(&texts(p)),
        };
        pictures.iter().map(one).collect()
    };
    let all_prompts = prompts(&order.prompt, &|p| p.prompt.clone());
    let all_negative = prompts(&order.negative_prompt, &|p| p.negative_prompt.clone());
    let varied = order.variation_strength.is_some();
    let seeds: Vec<u64> = pictures.iter().map(|p| p.seed.unwrap_or_default()).collect();
    let second = |p: &&Picture| match order.variation_seed.filter(|_| varied) {
        Some(seed) => json!(seed.wrapping_add(p.index as u64)),
        None => echo.get("subseed").cloned().unwrap_or(json!(-1)),
    };
    let subseeds: Vec<Value> = pictures.iter().map(second).collect();
    let hash = job.model.sha256.as_deref().map(|hash| hash.chars().take(10).collect::<String>());
    let own_seed = order.seed.map(crate::job::word::Seed::drawn).unwrap_or_default();
    let timestamp: String =
        job.started.as_deref().unwrap_or(&job.created).chars().filter(char::is_ascii_digit).take(14).collect();
    let mut more = Map::new();
    for key in ["Schedule type", "RNG", "Init image hash", "Mask blur", "Masked content"] {
        if let Some(value) = first.get(key) {
            more.insert(key.into(), value.into());
        }
    }
    json!({
        "prompt": all_prompts.first().cloned().unwrap_or_else(|| order.prompt.clone().unwrap_or_default()),
        "all_prompts": all_prompts,
        "negative_prompt": all_negative.first().cloned().unwrap_or_else(|| order.negative_prompt.clone().unwrap_or_default()),
        "all_negative_prompts": all_negative,
        "seed": seeds.first().copied().unwrap_or(own_seed),
        "all_seeds": seeds,
        "subseed": subseeds.first().cloned().unwrap_or(json!(-1)),
        "all_subseeds": subseeds,
        "subseed_strength": order.variation_strength.map_or(0.0, short),
        "width": order.width,
        "height": order.height,
        "sampler_name": order.sampler.map(|named| named.sampler.name),
        "cfg_scale": order.guidance.map(short),
        "steps": order.steps,
        "batch_size": order.batch_size.unwrap_or(1),
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": job.model.name,
        "sd_model_hash": first.get("Model hash").map(str::to_owned).or(hash).unwrap_or_default(),
        "sd_vae_name": order.vae.as_deref().map(|vae| vae.to_string_lossy()),
        "sd_vae_hash": first.get("VAE hash"),
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": order.init_image.as_ref().and(order.strength).map(short),
        "extra_generation_params": more,
        "index_of_first_image": 0,
        "infotexts": pictures.iter().map(|p| p.parameters.clone().unwrap_or_default()).collect::<Vec<_>>(),
        "styles": order.styles,
        "job_timestamp": timestamp,
        "clip_skip": order.clip_skip.unwrap_or(1),
        "is_using_inpainting_conditioning": inpaints,
        "version": format!("Lienzo v{}", env!("CARGO_PKG_VERSION")),
    })
}
