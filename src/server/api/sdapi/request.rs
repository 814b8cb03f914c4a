//! The fields of `txt2img` and `img2img` go in, an order and what the answer needs beside it come out. Every field that
//! would change a picture is honoured, or refused by its name.

use super::No;
use super::fields::Fields;
use super::pictures::bytes_of;
use super::scripts;
use super::settings::{Desk, Settings, Unknown};
use crate::diffusion::denoise::samplers::{Named, SAMPLERS, find_named};
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::diffusion::inpaint::Fill;
use crate::error::escape;
use crate::image::PARAMETERS;
use crate::image::resize::ResizeMode;
use crate::job::order::Order;
use crate::job::recipe::{Recipe, listed};
use crate::job::tags;
use crate::job::word::Seed;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::atomic::AtomicBool;

/// The webui's own defaults.
const STEPS: usize = 50;
const GUIDANCE: f32 = 7.0;
const SIDE: usize = 512;
const SAMPLER: &str = "Euler";
const STRENGTH: f32 = 0.75;
const BLUR: usize = 4;

/// A request, ready to become a job.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// What is to be drawn.
    pub(super) order: Order,
    /// The request with its defaults.
    pub(super) echo: Map<String, Value>,
    /// Whether the answer brings the pictures.
    pub(super) send_images: bool,
    /// The client's name for it.
    pub(super) task: Option<String>,
    /// Settings that stay after it.
    pub(super) lasting: Option<Settings>,
}

/// Reads a request; `picture` where it is `img2img`.
///
/// # Errors
/// 422: each field that is wrong or cannot be honoured. 400: no such sampler. 404: no picture to begin with.
pub(super) fn asked(mut f: Fields, picture: bool, desk: &dyn Desk, own: &Settings) -> Result<Asked, No> {
    let mut order = Order::default();
    if picture && !f.says("init_images") {
        return Err(No::new(StatusCode::NOT_FOUND, json!("Init image not found")));
    }
    words(&mut f, &mut order);
    numbers(&mut f, &mut order);
    sampling(&mut f, &mut order)?;
    absent(&mut f, picture)?;
    let settings = settings(&mut f, desk, own);
    if picture {
        begun(&mut f, &mut order, desk);
        masked(&mut f, &mut order, desk);
    }
    infotext(&mut f, &mut order, desk);
    settings.fill(&mut order);
    defaults(&mut order, picture);
    let lasting = f.flag("override_settings_restore_afterwards", json!(true)) == Some(false);
    let send_images = f.flag("send_images", json!(true)).unwrap_or(true);
    let task = f.word("force_task_id", Value::Null);
    for name in ["save_images", "do_not_save_samples", "do_not_save_grid"] {
        f.flag(name, json!(false));
    }
    Ok(Asked { order, echo: f.done()?, send_images, task, lasting: lasting.then_some(settings) })
}

/// Prompts and their styles.
fn words(f: &mut Fields, order: &mut Order) {
    let untagged = f.flag("disable_extra_networks", json!(false)) == Some(true);
    // Without networks the webui still takes their tags out.
    let plain = |text: String| if untagged { tags::taken_out(&text, |_| true).0 } else { text };
    order.prompt = f.text("prompt", json!("")).map(plain);
    order.negative_prompt = f.text("negative_prompt", json!("")).map(plain);
    for style in f.list("styles", Value::Null).unwrap_or_default() {
        match style.as_str() {
            Some(name) if name.is_empty() || name.eq_ignore_ascii_case("none") => {}
            Some(name) => order.styles.push(name.into()),
            None => f.refuse("styles", "Input should be a list of names"),
        }
    }
}

/// Sizes, counts and seeds.
fn numbers(f: &mut Fields, order: &mut Order) {
    order.width = f.count("width", SIDE as i64);
    order.height = f.count("height", SIDE as i64);
    let (size, batches) = (f.count("batch_size", 1), f.count("n_iter", 1));
    for (name, n) in [("batch_size", size), ("n_iter", batches)] {
        if let Some(n) = n.filter(|n| !(1..=64).contains(n)) {
            f.refuse(name, format!("{n} is out of range: use 1 to 64"));
        }
    }
    order.batch_size = size;
    if size.is_some() || batches.is_some() {
        order.count = Some(size.unwrap_or(1).saturating_mul(batches.unwrap_or(1)));
    }
    order.seed = seed(f, "seed").map(|seed| seed.map_or(Seed::Random, Seed::Fixed));
    order.variation_seed = seed(f, "subseed").flatten();
    order.variation_strength = f.number("subseed_strength", json!(0)).map(|v| v as f32).filter(|v| *v != 0.0);
    for name in ["seed_resize_from_h", "seed_resize_from_w"] {
        if f.whole(name, -1).is_some_and(|n| n > 0) {
            f.refuse(name, "noise of another size is not here: send -1");
        }
    }
}

/// A seed that was sent; None inside is a random one.
fn seed(f: &mut Fields, name: &str) -> Option<Option<u64>> {
    let n = f.whole(name, -1)?;
    if n > i128::from(u64::MAX) {
        f.refuse(name, "a seed has at most 64 bits");
    }
    Some(u64::try_from(n).ok())
}

/// Sampler, schedule, steps, guidance, noise.
fn sampling(f: &mut Fields, order: &mut Order) -> Result<(), No> {
    order.steps = f.count("steps", STEPS as i64);
    order.guidance = f.number("cfg_scale", json!(GUIDANCE)).map(|v| v as f32);
    let (name, index) = (f.word("sampler_name", Value::Null), f.word("sampler_index", json!(SAMPLER)));
    order.sampler = name.or(index).map(|name| sampler(&name)).transpose()?;
    let schedule = f.word("scheduler", Value::Null);
    match schedule.map(|name| ScheduleKind::parse(&name)).transpose() {
        // One that the sampler's name tells wins.
        Ok(schedule) => order.schedule = schedule.filter(|_| order.sampler.is_none_or(|s| s.schedule.is_none())),
        Err(e) => f.refuse("scheduler", e.message()),
    }
    let eta = f.number("eta", Value::Null).map(|v| v as f32);
    // What the sampler does anyway is not told: webuiapi sends 1 with everything.
    let own = order.sampler.unwrap_or(own_sampler()).sampler.eta;
    order.eta = eta.filter(|eta| own.is_some_and(|own| own != *eta));
    for (name, neutral) in
        [("s_churn", 0.0), ("s_min_uncond", 0.0), ("s_noise", 1.0), ("initial_noise_multiplier", 1.0)]
    {
        if f.number(name, Value::Null).is_some_and(|v| v != neutral) {
            f.refuse(name, format!("{name} is {neutral} here and cannot be changed"));
        }
    }
    // Bounds of the churn that there is none of, and the guidance of a kind of model that there is none of.
    for name in ["s_tmin", "s_tmax", "image_cfg_scale"] {
        f.number(name, Value::Null);
    }
    Ok(())
}

/// The sampler of the API's own default.
fn own_sampler() -> Named {
    let sampler = SAMPLERS.iter().find(|s| s.name == SAMPLER).unwrap_or(&SAMPLERS[0]);
    Named { sampler, schedule: None, timesteps: None }
}

fn sampler(name: &str) -> Result<Named, No> {
    find_named(name.trim()).map_err(|_| {
        let all: Vec<&str> = SAMPLERS.iter().map(|s| s.name).collect();
        let message = format!("Sampler not found: '{}'; there are: {}", escape(name), all.join(", "));
        No::new(StatusCode::BAD_REQUEST, json!(message))
    })
}

/// What is not here: it has to be off.
fn absent(f: &mut Fields, picture: bool) -> Result<(), No> {
    f.off("restore_faces", Value::Null, "restoring faces is not here: send false");
    f.off("tiling", Value::Null, "tiling pictures are not here: send false");
    let refiner = f.word("refiner_checkpoint", Value::Null);
    if refiner.is_some_and(|name| !name.eq_ignore_ascii_case("none")) {
        f.refuse("refiner_checkpoint", "a second model that refines is not here: send null");
    }
    f.number("refiner_switch_at", Value::Null);
    if !picture {
        f.off("enable_hr", json!(false), "a second, larger pass is not here: send false, and img2img with the result");
        for (name, default) in [
            ("denoising_strength", json!(0.75)),
            ("firstphase_width", json!(0)),
            ("firstphase_height", json!(0)),
            ("hr_scale", json!(2.0)),
            ("hr_upscaler", Value::Null),
            ("hr_second_pass_steps", json!(0)),
            ("hr_resize_x", json!(0)),
            ("hr_resize_y", json!(0)),
            ("hr_checkpoint_name", Value::Null),
            ("hr_sampler_name", Value::Null),
            ("hr_scheduler", Value::Null),
            ("hr_prompt", json!("")),
            ("hr_negative_prompt", json!("")),
        ] {
            f.value(name, default);
        }
    }
    f.value("comments", Value::Null);
    f.value("script_args", json!([]));
    if let Some(name) = f.word("script_name", Value::Null).filter(|name| !name.eq_ignore_ascii_case("none")) {
        let message = format!("Script '{}' not found: there are no scripts here", escape(&name));
        return Err(No::new(StatusCode::UNPROCESSABLE_ENTITY, json!(message)));
    }
    f.object("alwayson_scripts", json!({})).map_or(Ok(()), |scripts| scripts::none(&scripts))
}

/// The settings that hold for this request.
fn settings(f: &mut Fields, desk: &dyn Desk, own: &Settings) -> Settings {
    let mut settings = own.clone();
    let given = f.object("override_settings", Value::Null).unwrap_or_default();
    for (name, why) in settings.take(&given, desk, Unknown::Refused).err().unwrap_or_default() {
        f.refuse_at(&[json!("override_settings"), json!(name)], &why, "value_error");
    }
    settings
}

/// The picture to begin with.
fn begun(f: &mut Fields, order: &mut Order, desk: &dyn Desk) {
    let images = f.list("init_images", Value::Null).unwrap_or_default();
    let echoed = f.flag("include_init_images", json!(false)) == Some(true);
    if !echoed {
        f.repeat("init_images", Value::Null);
    }
    match images.as_slice() {
        [] => f.refuse("init_images", "Input should have one picture"),
        [image] => order.init_image = brought(f, &[json!("init_images"), json!(0)], image, desk),
        more => f.refuse("init_images", format!("one picture is begun with; there are {}", more.len())),
    }
    order.strength = f.number("denoising_strength", json!(STRENGTH)).map(|v| v as f32);
    order.resize_mode = match f.whole("resize_mode", 0) {
        None => None,
        Some(0) => Some(ResizeMode::Just),
        Some(1) => Some(ResizeMode::Crop),
        Some(2) => Some(ResizeMode::Fill),
        Some(3) => {
            f.refuse("resize_mode", "3, resizing latents, is not here: use 0 (stretch), 1 (crop) or 2 (fill)");
            None
        }
        Some(_) => {
            f.refuse("resize_mode", "use 0 (stretch), 1 (crop) or 2 (fill)");
            None
        }
    };
}

fn brought(f: &mut Fields, place: &[Value], image: &Value, desk: &dyn Desk) -> Option<std::path::PathBuf> {
    let brought = match image.as_str() {
        Some(text) => bytes_of(text).and_then(|bytes| desk.bring(&bytes)),
        None => Err("Input should be a picture as base64".into()),
    };
    match brought {
        Ok(name) => Some(name.into()),
        Err(why) => {
            f.refuse_at(place, &why, "value_error");
            None
        }
    }
}

/// The part that is painted anew.
fn masked(f: &mut Fields, order: &mut Order, desk: &dyn Desk) {
    let mask = f.list("mask", Value::Null).unwrap_or_default();
    let (blur, x, y) = (f.count("mask_blur", BLUR as i64), f.count("mask_blur_x", 4), f.count("mask_blur_y", 4));
    let round = f.flag("mask_round", json!(true));
    let fill = f.whole("inpainting_fill", 0);
    let only = f.flag("inpaint_full_res", json!(true));
    let padding = f.count("inpaint_full_res_padding", 0);
    let invert = f.flag("inpainting_mask_invert", json!(0));
    if f.flag("include_init_images", json!(false)) != Some(true) {
        f.repeat("mask", Value::Null);
    }
    match mask.as_slice() {
        // Without a mask nothing of this means anything.
        [] => return,
        // An editor's empty layer.
        [Value::String(text)] if text.is_empty() => return,
        [one] => order.mask = brought(f, &[json!("mask")], one, desk),
        more => f.refuse("mask", format!("one mask is taken; there are {}", more.len())),
    }
    order.mask_blur = blur.or(match (x, y) {
        (None, None) => None,
        (x, y) if x.unwrap_or(BLUR) == y.unwrap_or(BLUR) => x.or(y),
        _ => {
            f.refuse("mask_blur_x", "a blur that differs along the axes is not here: send mask_blur");
            None
        }
    });
    order.soft_mask = round.map(|round| !round);
    order.inpaint_fill = match fill {
        None => None,
        Some(0) => Some(Fill::Fill),
        Some(1) => Some(Fill::Original),
        Some(2) => Some(Fill::LatentNoise),
        Some(3) => Some(Fill::LatentNothing),
        Some(_) => {
            f.refuse("inpainting_fill", "use 0 (fill), 1 (original), 2 (latent noise) or 3 (latent nothing)");
            None
        }
    };
    (order.only_masked, order.only_masked_padding, order.mask_invert) = (only, padding, invert);
}

/// What the request says nothing about, out of a picture's text.
fn infotext(f: &mut Fields, order: &mut Order, desk: &dyn Desk) {
    let Some(text) = f.word("infotext", Value::Null) else { return };
    let read = Recipe::read(&vec![(PARAMETERS.to_owned(), text)]);
    let filled = read
        .and_then(|recipe| recipe.fill(order, &[], desk.shelf(), &AtomicBool::new(false)).map_err(|e| e.to_string()));
    match filled {
        Ok(lacking) if lacking.is_empty() => {}
        Ok(lacking) => f.refuse("infotext", format!("it cannot be repeated exactly: {}", listed(&lacking))),
        Err(why) => f.refuse("infotext", why),
    }
}

/// The webui's defaults, where nothing was said.
fn defaults(order: &mut Order, picture: bool) {
    order.prompt.get_or_insert_default();
    order.negative_prompt.get_or_insert_default();
    order.width.get_or_insert(SIDE);
    order.height.get_or_insert(SIDE);
    order.steps.get_or_insert(STEPS);
    order.guidance.get_or_insert(GUIDANCE);
    order.sampler.get_or_insert_with(own_sampler);
    order.count.get_or_insert(1);
    order.batch_size.get_or_insert(1);
    if picture {
        order.strength.get_or_insert(STRENGTH);
        order.resize_mode.get_or_insert(ResizeMode::Just);
    }
    if order.mask.is_some() {
        order.mask_blur.get_or_insert(BLUR);
        order.soft_mask.get_or_insert(false);
        order.inpaint_fill.get_or_insert(Fill::Fill);
        order.only_masked.get_or_insert(true);
        order.only_masked_padding.get_or_insert(0);
        order.mask_invert.get_or_insert(false);
    }
}

/// How this API calls a field of an order.
pub(super) fn name_of(field: &str) -> &str {
    match field {
        "guidance" => "cfg_scale",
        "count" => "n_iter",
        "sampler" => "sampler_name",
        "schedule" => "scheduler",
        "strength" => "denoising_strength",
        "variation_seed" => "subseed",
        "variation_strength" => "subseed_strength",
        "init_image" => "init_images",
        "mask_invert" => "inpainting_mask_invert",
        "inpaint_fill" => "inpainting_fill",
        "only_masked" => "inpaint_full_res",
        "only_masked_padding" => "inpaint_full_res_padding",
        "model" => "sd_model_checkpoint",
        "vae" => "sd_vae",
        "clip_skip" => "CLIP_stop_at_last_layers",
        "rng" => "randn_source",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pictures::base64_of;
    use super::super::settings::tests::Fake;
    use super::*;
    use crate::job::word::Word;

    fn read(value: Value, picture: bool) -> Result<Asked, No> {
        asked(Fields::read(value.to_string().as_bytes())?, picture, &Fake, &Settings::default())
    }

    fn order(value: Value) -> Order {
        read(value, false).unwrap().order
    }

    /// The fields that are refused, or the text of a refusal.
    fn refused(value: Value, picture: bool) -> (u16, String) {
        let no = read(value, picture).unwrap_err();
        let list = no.detail.as_array().map(|all| {
            let place = |e: &Value| {
                e["loc"].as_array().map(|l| l.iter().skip(1).map(|p| p.to_string()).collect::<Vec<_>>().join("."))
            };
            all.iter().filter_map(place).collect::<Vec<_>>().join(" ").replace('"', "")
        });
        (no.status.as_u16(), list.unwrap_or_else(|| no.detail.as_str().unwrap_or_default().to_owned()))
    }

    #[test]
    fn an_empty_request_is_the_webuis_own() {
        let Asked { order, echo, send_images, task, lasting } = read(json!({}), false).unwrap();
        assert_eq!(
            (order.width, order.height, order.steps, order.guidance),
            (Some(512), Some(512), Some(50), Some(7.0))
        );
        assert_eq!(order.sampler.unwrap().sampler.name, "Euler");
        assert!(send_images && task.is_none() && lasting.is_none() && order.seed.is_none());
        for (name, value) in [
            ("prompt", json!("")),
            ("negative_prompt", json!("")),
            ("styles", Value::Null),
            ("seed", json!(-1)),
            ("subseed", json!(-1)),
            ("subseed_strength", json!(0)),
            ("seed_resize_from_h", json!(-1)),
            ("sampler_name", Value::Null),
            ("sampler_index", json!("Euler")),
            ("scheduler", Value::Null),
            ("batch_size", json!(1)),
            ("n_iter", json!(1)),
            ("steps", json!(50)),
            ("cfg_scale", json!(7.0)),
            ("width", json!(512)),
            ("height", json!(512)),
            ("eta", Value::Null),
            ("override_settings", Value::Null),
            ("override_settings_restore_afterwards", json!(true)),
            ("enable_hr", json!(false)),
            ("hr_scale", json!(2.0)),
            ("denoising_strength", json!(0.75)),
            ("script_args", json!([])),
            ("send_images", json!(true)),
            ("save_images", json!(false)),
            ("alwayson_scripts", json!({})),
            ("infotext", Value::Null),
        ] {
            assert_eq!(echo.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn nulls_are_defaults_and_strangers_are_passed_over() {
        let nulls: Map<String, Value> =
            read(json!({}), false).unwrap().echo.into_iter().map(|(k, _)| (k, Value::Null)).collect();
        let plain = read(json!({}), false).unwrap();
        let nulled = read(Value::Object(nulls), false).unwrap();
        assert_eq!((nulled.order, nulled.echo), (plain.order.clone(), plain.echo));
        let foreign = json!({"uniqueDocumentId": "x", "use_prompt_shortcut": 1, "url": "http://localhost", "auth": "", "clip_skip": 9});
        assert_eq!(order(foreign), plain.order);
    }

    #[test]
    fn what_webuiapi_sends_with_everything_changes_nothing() {
        // As it stands in its source: too long for the macro.
        let all = r#"{
            "prompt": "x", "enable_hr": false, "hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 0,
            "hr_resize_x": 0, "hr_resize_y": 0, "denoising_strength": 0.7, "firstphase_width": 0, "firstphase_height": 0,
            "styles": [], "seed": -1, "subseed": -1, "subseed_strength": 0.0, "seed_resize_from_h": 0,
            "seed_resize_from_w": 0, "batch_size": 1, "n_iter": 1, "steps": 20, "cfg_scale": 7.0, "width": 64,
            "height": 64, "restore_faces": false, "tiling": false, "do_not_save_samples": false,
            "do_not_save_grid": false, "negative_prompt": "", "eta": 1.0, "s_churn": 0, "s_tmax": 0, "s_tmin": 0,
            "s_noise": 1, "override_settings": {}, "override_settings_restore_afterwards": true, "script_args": [],
            "script_name": null, "send_images": true, "save_images": false, "alwayson_scripts": {},
            "sampler_name": "Euler a", "sampler_index": "Euler a", "scheduler": "automatic", "initial_noise_multiplier": 1,
            "image_cfg_scale": 1.5, "refiner_checkpoint": null, "refiner_switch_at": null, "hr_prompt": ""
        }"#;
        let all: Value = serde_json::from_str(all).unwrap();
        let plain =
            json!({"prompt": "x", "seed": -1, "steps": 20, "width": 64, "height": 64, "sampler_name": "Euler a"});
        let (got, want) = (order(all), order(plain));
        assert_eq!(Order { schedule: None, ..got.clone() }, Order { negative_prompt: Some(String::new()), ..want });
        assert_eq!(got.schedule, Some(ScheduleKind::Automatic));
    }

    #[test]
    fn samplers_have_their_old_names_too() {
        let named = |value: Value| {
            let order = order(value);
            (order.sampler.unwrap().word(), order.schedule.map(ScheduleKind::name))
        };
        assert_eq!(named(json!({"sampler_index": "DPM++ 2M"})).0, "DPM++ 2M");
        assert_eq!(
            named(json!({"sampler_name": "DPM++ 2M Karras", "scheduler": "exponential"})),
            ("DPM++ 2M Karras".into(), None)
        );
        assert_eq!(named(json!({"sampler_name": "k_euler_a", "sampler_index": "Heun"})).0, "Euler a");
        assert_eq!(named(json!({"sampler_name": "", "sampler_index": "Heun"})).0, "Heun");
        assert_eq!(named(json!({"sampler_name": "Euler", "scheduler": "Karras"})).1, Some("Karras"));
        assert_eq!(named(json!({"sampler_name": "Euler", "scheduler": "sgm_uniform"})).1, Some("SGM Uniform"));
        let (status, why) = refused(json!({"sampler_name": "No Such Sampler"}), false);
        assert!(
            status == 400 && why.contains("Sampler not found: 'No Such Sampler'") && why.contains("Euler a"),
            "{why}"
        );
        assert_eq!(refused(json!({"scheduler": "warp"}), false), (422, "scheduler".into()));
    }

    #[test]
    fn numbers_of_pictures_and_seeds_are_the_orders() {
        let made =
            order(json!({"batch_size": 2, "n_iter": 3, "seed": 4294967295u64, "subseed": 7, "subseed_strength": 0.25}));
        assert_eq!((made.count, made.batch_size, made.seed), (Some(6), Some(2), Some(Seed::Fixed(4_294_967_295))));
        assert_eq!((made.variation_seed, made.variation_strength), (Some(7), Some(0.25)));
        // Without a strength the second seed means nothing, and the first one is counted up.
        let made = order(json!({"subseed": -1, "seed": -1}));
        assert_eq!((made.variation_seed, made.variation_strength, made.seed), (None, None, Some(Seed::Random)));
    }

    #[test]
    fn an_eta_is_told_where_it_changes_something() {
        let eta = |sampler: &str, eta: f64| order(json!({"sampler_name": sampler, "eta": eta})).eta;
        assert_eq!((eta("Euler a", 1.0), eta("Euler a", 0.5), eta("Euler", 1.0)), (None, Some(0.5), None));
        assert_eq!((eta("DDIM", 0.0), eta("DDIM", 1.0)), (None, Some(1.0)));
    }

    #[test]
    fn what_is_not_here_is_refused_by_name() {
        for (field, value) in [
            ("restore_faces", json!(true)),
            ("tiling", json!(true)),
            ("enable_hr", json!(true)),
            ("s_churn", json!(0.5)),
            ("s_noise", json!(1.01)),
            ("s_min_uncond", json!(0.5)),
            ("initial_noise_multiplier", json!(0.9)),
            ("seed_resize_from_w", json!(512)),
            ("refiner_checkpoint", json!("b.safetensors")),
            ("batch_size", json!(10000)),
            ("n_iter", json!(-1)),
            ("width", json!(-64)),
            ("infotext", json!("a cat\nSteps: 4, Seed: 1, Size: 64x64, Tiling: True")),
        ] {
            assert_eq!(refused(json!({field: value}), false), (422, field.into()));
        }
        let (_, why) =
            refused(json!({"override_settings": {"eta_noise_seed_delta": 31337, "sd_model_checkpoint": "no"}}), false);
        assert_eq!(why, "override_settings.eta_noise_seed_delta override_settings.sd_model_checkpoint");
        let (status, why) = refused(json!({"script_name": "x/y/z plot"}), false);
        assert!(status == 422 && why.contains("Script 'x/y/z plot' not found"), "{why}");
        let (status, why) = refused(json!({"alwayson_scripts": {"ControlNet": {"args": [{"model": "canny"}]}}}), false);
        assert!(status == 422 && why.contains("always on script ControlNet not found"), "{why}");
        assert_eq!(refused(json!({"steps": "many", "width": [64]}), false), (422, "width steps".into()));
    }

    #[test]
    fn a_text_fills_what_was_not_said() {
        let text = "a cat\nNegative prompt: dog\nSteps: 4, Sampler: Euler a, Seed: 9, Size: 128x64, Clip skip: 2";
        let made = order(json!({"infotext": text, "steps": 3, "prompt": "a bird"}));
        assert_eq!((made.prompt.as_deref(), made.negative_prompt.as_deref()), (Some("a bird"), Some("dog")));
        assert_eq!((made.steps, made.width, made.height, made.clip_skip), (Some(3), Some(128), Some(64), Some(2)));
        assert_eq!((made.seed, made.sampler.unwrap().sampler.name), (Some(Seed::Fixed(9)), "Euler a"));
    }

    #[test]
    fn a_picture_begins_as_the_webui_begins_it() {
        let image = base64_of(&[1; 9]);
        let Asked { order, echo, .. } = read(json!({"init_images": [&image]}), true).unwrap();
        assert_eq!((order.strength, order.resize_mode, order.mask.clone()), (Some(0.75), Some(ResizeMode::Just), None));
        assert_eq!(order.init_image.unwrap().to_string_lossy(), format!("{:064x}", 9));
        assert_eq!((&echo["init_images"], &echo["denoising_strength"]), (&Value::Null, &json!(0.75)));
        assert!(order.mask_blur.is_none() && order.only_masked.is_none());
        let kept = read(json!({"init_images": [&image], "include_init_images": true}), true).unwrap().echo;
        assert_eq!(kept["init_images"], json!([&image]));
        let crop =
            read(json!({"init_images": &image, "resize_mode": 1, "denoising_strength": 0.4}), true).unwrap().order;
        assert_eq!((crop.resize_mode, crop.strength), (Some(ResizeMode::Crop), Some(0.4)));
    }

    #[test]
    fn a_mask_has_the_webuis_defaults_and_is_never_left_out() {
        let (image, mask) = (base64_of(&[1; 9]), base64_of(&[1; 5]));
        let plain = read(json!({"init_images": [&image], "mask": &mask}), true).unwrap().order;
        assert_eq!((plain.mask_blur, plain.inpaint_fill, plain.only_masked), (Some(4), Some(Fill::Fill), Some(true)));
        assert_eq!(
            (plain.only_masked_padding, plain.soft_mask, plain.mask_invert),
            (Some(0), Some(false), Some(false))
        );
        let listed = read(json!({"init_images": [&image], "mask": [&mask]}), true).unwrap().order;
        assert_eq!(listed, plain);
        let told = json!({
            "init_images": [&image], "mask": &mask, "mask_blur": null, "mask_blur_x": 2, "mask_blur_y": 2, "inpainting_fill": 1,
            "inpaint_full_res": 0, "inpaint_full_res_padding": 8, "inpainting_mask_invert": 1, "mask_round": false,
        });
        let told = read(told, true).unwrap().order;
        assert_eq!((told.mask_blur, told.inpaint_fill, told.only_masked), (Some(2), Some(Fill::Original), Some(false)));
        assert_eq!((told.only_masked_padding, told.soft_mask, told.mask_invert), (Some(8), Some(true), Some(true)));
    }

    #[test]
    fn pictures_that_are_none_are_refused_in_their_place() {
        let image = base64_of(&[1; 9]);
        assert_eq!(refused(json!({}), true), (404, "Init image not found".into()));
        assert_eq!(refused(json!({"init_images": null}), true).0, 404);
        for (value, place) in [
            (json!({"init_images": []}), "init_images"),
            (json!({"init_images": [&image, &image]}), "init_images"),
            (json!({"init_images": ["!!!"]}), "init_images.0"),
            (json!({"init_images": ["http://127.0.0.1/a.png"]}), "init_images.0"),
            (json!({"init_images": [3]}), "init_images.0"),
            (json!({"init_images": [&image], "mask": "https://127.0.0.1/a.png"}), "mask"),
            (json!({"init_images": [&image], "mask": [&image, &image]}), "mask"),
            (json!({"init_images": [&image], "mask": &image, "mask_blur": null, "mask_blur_x": 9}), "mask_blur_x"),
            (json!({"init_images": [&image], "mask": &image, "inpainting_fill": 4}), "inpainting_fill"),
            (json!({"init_images": [&image], "resize_mode": 3}), "resize_mode"),
        ] {
            assert_eq!(refused(value.clone(), true), (422, place.into()), "{value}");
        }
    }
}
