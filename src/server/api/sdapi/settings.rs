//! The webui's settings, of one request or of all that follow, go in; what they mean for an order comes out. One that
//! would change a picture in a way that is not here is refused by its name.

use super::fields::{flag, number, whole};
use crate::job::order::Order;
use crate::job::picture::Shelf;
use crate::rng::RngKind;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What this server looks up.
pub(super) trait Desk {
    /// The id of a model by title, file name, stem or hash.
    fn model(&self, name: &str) -> Result<String, String>;
    /// The id of a VAE by file name or stem.
    fn vae(&self, name: &str) -> Result<String, String>;
    /// Keeps a picture that was sent, and names it.
    fn bring(&self, bytes: &[u8]) -> Result<String, String>;
    /// The pictures by those names.
    fn shelf(&self) -> &dyn Shelf;
}

/// Settings that mean something here. None is the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    /// `sd_model_checkpoint`, by id.
    pub(super) model: Option<String>,
    /// `sd_vae`, by id.
    pub(super) vae: Option<String>,
    /// `CLIP_stop_at_last_layers`.
    pub(super) clip_skip: Option<usize>,
    /// `randn_source`.
    pub(super) rng: Option<RngKind>,
}

/// Settings that would change pictures, with the value that is meant here.
const FIXED: &[(&str, &str)] = &[
    ("samples_format", "\"png\""),
    ("eta_noise_seed_delta", "0"),
    ("eta_ancestral", "1.0"),
    ("eta_ddim", "0.0"),
    ("ddim_discretize", "\"uniform\""),
    ("s_churn", "0.0"),
    ("s_min_uncond", "0.0"),
    ("s_noise", "1.0"),
    ("sigma_min", "0.0"),
    ("sigma_max", "0.0"),
    ("rho", "0.0"),
    ("sd_noise_schedule", "\"Default\""),
    ("skip_early_cond", "0.0"),
    ("always_discard_next_to_last_sigma", "false"),
    ("sgm_noise_multiplier", "false"),
    ("initial_noise_multiplier", "1.0"),
    ("inpainting_mask_weight", "1.0"),
    ("img2img_extra_noise", "0.0"),
    ("img2img_color_correction", "false"),
    ("img2img_fix_steps", "false"),
    ("face_restoration", "false"),
    ("tiling", "\"None\""),
    ("token_merging_ratio", "0.0"),
    ("token_merging_ratio_img2img", "0.0"),
    ("token_merging_ratio_hr", "0.0"),
    ("emphasis", "\"Original\""),
    ("use_old_emphasis_implementation", "false"),
    ("use_old_karras_scheduler_sigmas", "false"),
    ("no_dpmpp_sde_batch_determinism", "false"),
    ("use_old_scheduling", "false"),
    ("use_downcasted_alpha_bar", "false"),
    ("refiner_switch_by_sample_steps", "false"),
    ("sd_hypernetwork", "\"None\""),
    ("sd_lora", "\"None\""),
    ("fp8_storage", "\"Disable\""),
    ("return_grid", "false"),
    ("return_mask", "false"),
    ("return_mask_composite", "false"),
];

/// Beginnings of the names of settings that change what is kept, shown or loaded, and no picture.
const ELSEWHERE: &[&str] = &[
    "save_",
    "samples_",
    "grid_",
    "show_",
    "live_preview",
    "jpeg_",
    "webp_",
    "enable_pnginfo",
    "export_",
    "outdir_",
    "directories_",
    "use_original_name",
    "use_upscaler_name",
    "add_model_",
    "add_vae_",
    "add_user_",
    "add_version_",
    "disable_weights_auto_swap",
    "sd_checkpoint",
    "sd_checkpoints",
    "sd_vae_checkpoint_cache",
    "sd_vae_overrides",
    "sd_unet",
    "ui_",
    "gallery_",
    "face_restoration_model",
    "face_restoration_unload",
    "code_former_weight",
    "interrogate_",
    "deepbooru_",
    "upscaler_for_img2img",
    "ESRGAN_",
    "DAT_",
    "SWIN_",
    "memmon_",
    "print_",
    "list_hidden_files",
    "dump_",
    "hide_",
    "temp_dir",
    "clean_temp_dir",
    "notification_",
    "localization",
    "api_",
    "extra_networks_",
    "keyedit_",
    "quicksettings",
    "compact_prompt_box",
    "do_not_",
    "send_",
    "pad_cond_uncond",
    "persistent_cond_cache",
    "batch_cond_uncond",
    "img2img_batch_",
    "img2img_editor_height",
    "img2img_inpaint_",
    "img2img_sketch_",
    "overlay_inpaint",
    "multiple_tqdm",
    "enable_console_prompts",
    "target_side_length",
    "img_",
    "upcast_attn",
    "training_",
    "unload_models",
    "pin_memory",
    "dataset_",
    "restore_",
    "disabled_extensions",
    "disable_all_extensions",
    "lora_",
    "auto_",
    "infotext_",
    "settings_",
    "bgcolor",
    "dimensions_and_batch_together",
    "sd_webui_modal_",
    "js_",
    "open_dir_",
    "filter_",
    "stream_",
    "profiling_",
    "postprocessing_",
    "sampler_order",
    "hires_fix_show_",
    "wildcard",
];

/// Settings as the webui calls them, for a server that is asked what it has.
pub(super) fn fixed() -> impl Iterator<Item = (&'static str, Value)> {
    // The table above is JSON: a test reads it.
    FIXED.iter().map(|(name, value)| (*name, serde_json::from_str(value).unwrap_or_default()))
}

/// What a request does with settings that nobody here knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// `options`: other programs' settings are posted back with the rest.
    PassedOver,
    /// `override_settings`: sent to change the picture.
    Refused,
}

impl Settings {
    /// Takes settings over.
    ///
    /// # Errors
    /// In words, by name: those that cannot be honoured. Nothing is taken over then.
    pub(super) fn take(
        &mut self,
        given: &Map<String, Value>,
        desk: &dyn Desk,
        unknown: Unknown,
    ) -> Result<(), Vec<(String, String)>> {
        let (mut new, mut wrong) = (self.clone(), Vec::new());
        for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
            if let Err(why) = new.one(name, value, desk, unknown) {
                wrong.push((name.clone(), why));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        *self = new;
        Ok(())
    }

    fn one(&mut self, name: &str, value: &Value, desk: &dyn Desk, unknown: Unknown) -> Result<(), String> {
        let text = || value.as_str().map(str::trim).ok_or_else(|| "Input should be a valid string".to_owned());
        match name {
            "sd_model_checkpoint" => {
                let name = text()?;
                if !name.is_empty() {
                    self.model = Some(desk.model(name)?);
                }
            }
            "sd_vae" => match text()?.to_ascii_lowercase().as_str() {
                "" | "none" | "automatic" => self.vae = None,
                _ => self.vae = Some(desk.vae(text()?)?),
            },
            "CLIP_stop_at_last_layers" => {
                let layers = whole(value).map_err(|[message, _]| message.to_owned())?;
                let layers = usize::try_from(layers).ok().filter(|n| (1..=12).contains(n));
                self.clip_skip = Some(layers.ok_or("CLIP_stop_at_last_layers is 1 to 12")?);
            }
            "randn_source" => {
                self.rng = Some(match text()?.to_ascii_uppercase().as_str() {
                    "GPU" | "NV" => RngKind::Nv,
                    "CPU" => RngKind::Cpu,
                    _ => return Err("randn_source is GPU, NV or CPU".into()),
                });
            }
            "samples_format" if value.as_str().is_some_and(|v| v.eq_ignore_ascii_case("png")) => {}
            _ => return fixed_or_elsewhere(name, value, unknown),
        }
        Ok(())
    }

    /// Puts them into an order where it says nothing itself.
    pub(super) fn fill(&self, order: &mut Order) {
        order.model = order.model.take().or(self.model.as_ref().map(PathBuf::from));
        order.vae = order.vae.take().or(self.vae.as_ref().map(PathBuf::from));
        order.clip_skip = order.clip_skip.or(self.clip_skip);
        order.rng = order.rng.or(self.rng);
    }
}

/// A setting that means nothing here: it has to be what is done anyway.
fn fixed_or_elsewhere(name: &str, value: &Value, unknown: Unknown) -> Result<(), String> {
    if let Some((_, own)) = fixed().find(|(fixed, _)| *fixed == name) {
        return match same(&own, value) {
            true => Ok(()),
            false => Err(format!("{name} cannot be changed here: it is {own}")),
        };
    }
    let elsewhere = ELSEWHERE.iter().any(|begin| name.starts_with(begin));
    let nothing = matches!(value, Value::Bool(false))
        || value.as_str().is_some_and(str::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(Map::is_empty);
    if elsewhere || nothing || unknown == Unknown::PassedOver {
        return Ok(());
    }
    Err(format!("{} is no setting of this server", crate::error::escape(name)))
}

/// Whether a value means the same, however it is written.
fn same(own: &Value, value: &Value) -> bool {
    match own {
        Value::Number(_) => number(own).ok() == number(value).ok(),
        Value::Bool(own) => flag(value) == Ok(*own),
        Value::String(own) => {
            let empty = own == "None" && value.as_array().is_some_and(Vec::is_empty);
            empty || value.as_str().is_some_and(|v| v.eq_ignore_ascii_case(own) || v.is_empty() && own == "None")
        }
        _ => own == value,
    }
}

/// What `GET options` tells beside the model: everything that is posted back is taken.
pub(super) fn told(settings: &Settings) -> Map<String, Value> {
    let mut out: Map<String, Value> = fixed().map(|(name, value)| (name.into(), value)).collect();
    out.insert("sd_vae".into(), json!(settings.vae.as_deref().unwrap_or("Automatic")));
    out.insert("CLIP_stop_at_last_layers".into(), json!(settings.clip_skip.unwrap_or(1)));
    let rng = if settings.rng == Some(RngKind::Cpu) { "CPU" } else { "NV" };
    out.insert("randn_source".into(), json!(rng));
    for (name, value) in [
        ("samples_save", json!(true)),
        ("samples_filename_pattern", json!("")),
        ("grid_save", json!(false)),
        ("enable_pnginfo", json!(true)),
        ("save_txt", json!(false)),
        ("live_previews_enable", json!(true)),
        ("show_progress_every_n_steps", json!(10)),
        ("face_restoration_model", Value::Null),
        ("upscaler_for_img2img", Value::Null),
        ("sd_checkpoint_cache", json!(0)),
        ("sd_vae_checkpoint_cache", json!(0)),
    ] {
        out.insert(name.into(), value);
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One model, one VAE; pictures are named by their length.
    pub(in super::super) struct Fake;

    impl Desk for Fake {
        fn model(&self, name: &str) -> Result<String, String> {
            let known = ["a.safetensors", "a.safetensors [0123456789]", "a", "0123456789"];
            known.contains(&name).then(|| "a.safetensors".into()).ok_or_else(|| format!("no model '{name}'"))
        }

        fn vae(&self, name: &str) -> Result<String, String> {
            (name == "v.safetensors").then(|| name.into()).ok_or_else(|| format!("no VAE '{name}'"))
        }

        fn bring(&self, bytes: &[u8]) -> Result<String, String> {
            if bytes.is_empty() { Err("is no picture".into()) } else { Ok(format!("{:064x}", bytes.len())) }
        }

        fn shelf(&self) -> &dyn Shelf {
            &crate::job::picture::Files
        }
    }

    fn taken(value: Value, unknown: Unknown) -> Result<Settings, Vec<(String, String)>> {
        let mut settings = Settings::default();
        let Value::Object(given) = value else { panic!("an object") };
        settings.take(&given, &Fake, unknown).map(|()| settings)
    }

    #[test]
    fn settings_that_are_here_become_an_order() {
        let given = json!({
            "sd_model_checkpoint": "a.safetensors [0123456789]", "sd_vae": "v.safetensors", "CLIP_stop_at_last_layers": 2.0,
            "randn_source": "CPU", "samples_format": "PNG", "eta_noise_seed_delta": 0, "save_txt": true, "made_up": null,
        });
        let settings = taken(given, Unknown::Refused).unwrap();
        let mut order = Order { clip_skip: Some(3), ..Order::default() };
        settings.fill(&mut order);
        assert_eq!(order.model.unwrap().to_str(), Some("a.safetensors"));
        assert_eq!(order.vae.unwrap().to_str(), Some("v.safetensors"));
        assert_eq!((order.clip_skip, order.rng), (Some(3), Some(RngKind::Cpu)));
    }

    #[test]
    fn what_would_change_a_picture_is_refused_by_name() {
        for (name, value) in [
            ("sd_model_checkpoint", json!("b.safetensors")),
            ("sd_vae", json!("b")),
            ("CLIP_stop_at_last_layers", json!(0)),
            ("randn_source", json!("dice")),
            ("samples_format", json!("webp")),
            ("eta_noise_seed_delta", json!(31337)),
            ("sd_hypernetwork", json!("x")),
            ("token_merging_ratio", json!(0.5)),
            ("img2img_color_correction", json!(true)),
            ("a_setting_of_an_extension", json!(3)),
        ] {
            let wrong = taken(json!({name: value}), Unknown::Refused).unwrap_err();
            assert_eq!(wrong[0].0, name);
        }
        // Of the other programs' settings that are posted back nothing is known.
        assert!(taken(json!({"a_setting_of_an_extension": 3}), Unknown::PassedOver).is_ok());
        assert!(taken(json!({"eta_noise_seed_delta": 31337}), Unknown::PassedOver).is_err());
    }

    #[test]
    fn what_is_told_can_be_posted_back() {
        let own = Settings { vae: Some("v.safetensors".into()), clip_skip: Some(2), ..Settings::default() };
        let mut again = Settings::default();
        again.take(&told(&own), &Fake, Unknown::Refused).unwrap();
        assert_eq!(again, Settings { rng: Some(RngKind::Nv), ..own });
        assert!(fixed().all(|(_, value)| !value.is_null()));
    }
}
