//! The U-Nets of the whole family, as their published configurations describe them: as many parameters as their authors
//! counted, and the same architecture again out of nothing but names and shapes, in both layouts.

use super::*;
use crate::models::text::{MlpActivation, Padding, TextConfig};
use crate::models::unet::UnetConfig;
use crate::models::{Networks, Predictor};
use names::{Canonical, Portion};

const XL: &str = r#""addition_embed_type": "text_time", "addition_time_embed_dim": 256, "use_linear_projection": true"#;

/// Name, configuration, and millions of parameters.
fn published() -> Vec<(&'static str, String, f64)> {
    let sd = |more: &str| {
        format!(
            r#"{{"block_out_channels": [320, 640, 1280, 1280],
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"], {more}}}"#
        )
    };
    let three = |attends: [bool; 3], more: &str| {
        let down = attends.map(|a| if a { "\"CrossAttnDownBlock2D\"" } else { "\"DownBlock2D\"" }).join(", ");
        let up = attends.map(|a| if a { "\"CrossAttnUpBlock2D\"" } else { "\"UpBlock2D\"" });
        let up: Vec<&str> = up.into_iter().rev().collect();
        format!(
            r#"{{"block_out_channels": [320, 640, 1280], "down_block_types": [{down}], "up_block_types": [{}], {more}}}"#,
            up.join(", ")
        )
    };
    let xl = |more: &str| {
        let all = r#""cross_attention_dim": 2048, "projection_class_embeddings_input_dim": 2816,
            "attention_head_dim": [5, 10, 20]"#;
        three([false, true, true], &format!("{XL}, {all}, {more}"))
    };
    let refiner = r#"{"block_out_channels": [384, 768, 1536, 1536],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": 4, "attention_head_dim": [6, 12, 24, 24], "cross_attention_dim": 1280,
        "projection_class_embeddings_input_dim": 2560, "#;
    let refiner = format!("{refiner}{XL}}}");
    let linear = r#""use_linear_projection": true, "cross_attention_dim": 1024"#;
    vec![
        ("sd15", sd(r#""cross_attention_dim": 768, "attention_head_dim": 8"#), 859.5),
        ("sd21", sd(&format!(r#"{linear}, "attention_head_dim": [5, 10, 20, 20]"#)), 865.9),
        ("sdxl", xl(r#""transformer_layers_per_block": [1, 2, 10]"#), 2567.5),
        ("refiner", refiner, 2259.5),
        (
            "ssd-1b",
            xl(r#""transformer_layers_per_block": [1, [2, 2], [4, 4]], "mid_block_type": "UNetMidBlock2D",
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1]"#),
            1331.3,
        ),
        (
            "vega",
            xl(r#""transformer_layers_per_block": [1, [1, 1], [2, 2]], "mid_block_type": "UNetMidBlock2D",
            "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1]"#),
            745.2,
        ),
        (
            "koala-700m",
            xl(r#""transformer_layers_per_block": [0, 2, 5], "layers_per_block": 1, "mid_block_type": null"#),
            782.8,
        ),
        ("koala-1b", xl(r#""transformer_layers_per_block": [0, 2, 6], "layers_per_block": 1"#), 1161.2),
        ("bk-sdm-base", sd(r#""cross_attention_dim": 768, "layers_per_block": 1"#), 579.4),
        ("bk-sdm-small", sd(r#""cross_attention_dim": 768, "layers_per_block": 1, "mid_block_type": null"#), 482.3),
        (
            "bk-sdm-tiny",
            three([true; 3], r#""cross_attention_dim": 768, "layers_per_block": 1, "mid_block_type": null"#),
            323.4,
        ),
        (
            "bk-sdm-v2-tiny",
            three(
                [true; 3],
                &format!(
                    r#"{linear}, "attention_head_dim": [5, 10, 20], "layers_per_block": 1, "mid_block_type": null"#
                ),
            ),
            326.8,
        ),
        (
            "sdxs-512-dreamshaper",
            three([false, true, true], r#""cross_attention_dim": 768, "layers_per_block": 1, "mid_block_type": null"#),
            315.7,
        ),
        (
            "sdxs-512-0.9",
            three(
                [true; 3],
                &format!(
                    r#"{linear}, "attention_head_dim": [5, 10, 20], "layers_per_block": 1, "mid_block_type": null,
                    "only_cross_attention": [true, false, false]"#
                ),
            ),
            328.2,
        ),
        ("lcm", sd(r#""cross_attention_dim": 768, "time_cond_proj_dim": 256"#), 859.6),
    ]
}

/// The U-Net alone, with an encoder that pools where it is told pooled text.
fn networks(config: &str) -> Networks {
    let mut unet = config::unet(&serde_json::from_str(config).unwrap()).unwrap();
    let open = TextConfig {
        width: unet.context_width,
        heads: 1,
        activation: MlpActivation::Gelu,
        padding: Padding::Token(0),
        projection: unet.added.map(|_| 1280),
        ..TextConfig::default()
    };
    arch::fit_added(&mut unet, std::slice::from_ref(&open)).unwrap();
    Networks { text: vec![open], predictor: Some(Predictor::Unet(unet)), autoencoder: None, upscaler: None }
}

fn unet_of(networks: &Networks) -> &UnetConfig {
    match &networks.predictor {
        Some(Predictor::Unet(unet)) => unet,
        None => panic!("a U-Net"),
    }
}

#[test]
fn every_unet_of_the_family_has_as_many_parameters_as_published() {
    for (name, config, millions) in published() {
        let all = arch::required(&networks(&config)).unwrap();
        let unet = all.iter().filter(|(name, _)| name.starts_with("unet."));
        let count: usize = unet.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        assert!((count as f64 / 1e6 - millions).abs() < 0.51e-1 * (millions / 1000.0).max(1.0), "{name}: {count}");
    }
}

#[test]
fn names_and_shapes_alone_tell_every_unet_of_the_family() {
    for (name, config, _) in published() {
        let want = networks(&config);
        arch::sane(&want).unwrap();
        let model = Model::random(name, want.clone());
        let mut found = arch::unet(&*model.source, unet_of(&want).linear).unwrap();
        arch::fit_added(&mut found, &want.text).unwrap();
        assert_eq!(&found, unet_of(&want), "{name}");
        // The configuration that is written into files says the same.
        let again = config::unet_json(unet_of(&want));
        let mut again = config::unet(&again).unwrap();
        arch::fit_added(&mut again, &want.text).unwrap();
        assert_eq!(&again, unet_of(&want), "{name}: {}", config::unet_json(unet_of(&want)));
        // And back from the original layout's numbers.
        let layout = names::Original::new(&want);
        let ours: Vec<&str> = model.source.names().into_iter().filter(|n| n.starts_with("unet.")).collect();
        let original: Vec<String> = ours.iter().map(|n| layout.name(n).unwrap().name).collect();
        let back = names::single_file(&original.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        for ((name, original), back) in ours.iter().zip(&original).zip(back.names) {
            assert_eq!(back, [Canonical { name: (*name).to_owned(), view: Portion::Whole }], "{original}");
        }
    }
}

#[test]
fn one_resnet_a_level_is_read_with_gaps_in_the_numbers_and_with_leftover_names() {
    let unet = "model.diffusion_model.";
    for (original, ours) in [
        ("input_blocks.4.0.in_layers.2.weight", "down_blocks.1.resnets.0.conv1.weight"),
        ("input_blocks.6.0.op.bias", "down_blocks.1.downsamplers.0.conv.bias"),
        ("input_blocks.7.1.norm.weight", "down_blocks.2.attentions.0.norm.weight"),
        ("output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        ("output_blocks.4.0.out_layers.3.bias", "up_blocks.1.resnets.1.conv2.bias"),
        ("up_blocks.0.attentions.1.proj_in.weight", "up_blocks.0.attentions.1.proj_in.weight"),
    ] {
        let gaps = ["input_blocks.3.0.op.bias", "input_blocks.6.0.op.bias", "output_blocks.5.1.conv.weight"];
        let all: Vec<String> =
            gaps.iter().chain(&["output_blocks.2.1.conv.weight", original]).map(|n| format!("{unet}{n}")).collect();
        let names = names::single_file(&all.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().names;
        assert_eq!(names[4].first().map(|n| n.name.as_str()), Some(format!("unet.{ours}").as_str()), "{original}");
    }
}

#[test]
fn openclips_fused_and_turned_tensors_are_taken_apart() {
    let prefix = "conditioner.embedders.1.model.";
    let names = [
        "model.diffusion_model.out.0.bias",
        "conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_weight",
        "conditioner.embedders.1.model.text_projection",
        "conditioner.embedders.1.model.positional_embedding",
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
    ];
    let naming = names::single_file(&names).unwrap();
    assert_eq!(naming.openclip, [false, true], "{prefix}");
    let third = |i, p: &str| Canonical {
        name: format!("text_encoder_2.encoder.layers.3.self_attn.{p}_proj.weight"),
        view: Portion::Third(i),
    };
    assert_eq!(naming.names[1], [third(0, "q"), third(1, "k"), third(2, "v")]);
    let turned = Canonical { name: "text_encoder_2.text_projection.weight".into(), view: Portion::Transposed };
    assert_eq!(naming.names[2], [turned]);
    assert_eq!(naming.names[3][0].name, "text_encoder_2.embeddings.position_embedding.weight");
    assert_eq!(naming.names[4][0].name, "text_encoder.final_layer_norm.weight");
}

/// A small text encoder of OpenCLIP's kind, or of OpenAI's.
fn small_text(width: usize, openclip: bool, xl: bool) -> TextConfig {
    let usual =
        TextConfig { width, heads: 2, layers: 3, mlp_width: 8, vocab: 9, positions: 5, ..TextConfig::default() };
    let usual = if xl { TextConfig { trained: 2, called: 2, final_norm: false, ..usual } } else { usual };
    if !openclip {
        return usual;
    }
    TextConfig { activation: MlpActivation::Gelu, padding: Padding::Token(0), trained: 2, called: 2, ..usual }
}

fn small_unet(context: usize, added: Option<usize>) -> UnetConfig {
    UnetConfig {
        linear: true,
        added: added.map(|pooled| crate::models::unet::AddedEmbedding { pooled, numbers: 6, each: 256 }),
        ..UnetConfig::new(&[(32, 1, false), (64, 1, true)], 1, context)
    }
}

#[test]
fn every_kind_is_written_in_the_original_layout_and_read_back() {
    use crate::models::Autoencoder;
    use crate::models::autoencoder::tiny::TinyConfig;
    let kl = || KlConfig { channels: vec![32, 32], blocks: 1, ..KlConfig::default() };
    let one = |text, context| Networks::new(text, small_unet(context, None), kl());
    let projected = TextConfig { projection: Some(16), ..small_text(16, true, true) };
    let xl = Networks {
        text: vec![small_text(8, false, true), projected],
        ..Networks::new(small_text(8, false, true), small_unet(24, Some(16)), kl())
    };
    let tiny = Autoencoder::Tiny(TinyConfig { channels: 4, ..TinyConfig::default() });
    let with_tiny = Networks { autoencoder: Some(tiny.clone()), ..one(small_text(8, false, false), 8) };
    let alone = Networks { autoencoder: Some(tiny), ..Networks::default() };
    let kinds = [
        ("sd1", one(small_text(8, false, false), 8), "cond_stage_model.transformer.text_model.final_layer_norm.bias"),
        (
            "sd2",
            one(small_text(8, true, false), 8),
            "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight",
        ),
        ("sdxl", xl, "conditioner.embedders.1.model.text_projection"),
        ("tiny", with_tiny, "first_stage_model.taesd_decoder.1.weight"),
        ("alone", alone, "taesd_encoder.0.weight"),
    ];
    let folder = Folder::new("original");
    for (name, networks, expected) in kinds {
        let model = Model::random(name, networks);
        let path = folder.file(&format!("{name}.safetensors"));
        save_safetensors(&model, &path, Dtype::F16).unwrap();
        let file = format::raw(Bytes::open(&path).unwrap()).unwrap();
        assert!(file.tensors.contains_key(expected), "{name}: {:?}", file.tensors.keys().collect::<Vec<_>>());
        let back = if is_autoencoder(&path) { open_autoencoder(&path) } else { open(&path) }.unwrap();
        let required = arch::required_of(&model);
        assert_eq!(arch::required_of(&back), required, "{name}");
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (tensor, _) in required {
            model.source.read(&tensor, &mut a).unwrap();
            back.source.read(&tensor, &mut b).unwrap();
            assert_eq!(a, b, "{name}: {tensor}");
        }
        assert_eq!(back.networks.predictor, model.networks.predictor, "{name}");
        let state = |t: &TextConfig| (t.layers - t.trained, t.final_norm, t.projection, t.heads, t.padding);
        let states = |m: &Model| m.networks.text.iter().map(state).collect::<Vec<_>>();
        assert_eq!(states(&back), states(&model), "{name}");
    }
}

#[test]
fn distilled_models_are_taken_for_what_their_names_say_and_the_rest_for_their_family() {
    use crate::models::training::{Prediction, ScheduleConfig};
    let (sd2, sd1) = (networks(&published()[1].1), networks(&published()[0].1));
    let xl = networks(&published()[2].1);
    let noise = ScheduleConfig::default();
    let of = |networks: &Networks, name: &str| {
        let (own, kind) = Defaults::of(networks, &noise, name, false);
        (own.size, own.steps, own.guidance, own.sampler, kind.is_some())
    };
    let fast = |size, steps, sampler: &str| (size, steps, 1.0, sampler.to_owned(), true);
    assert_eq!(of(&sd2, "sd_turbo"), fast(512, 1, "euler trailing"));
    assert_eq!(of(&xl, "sd_xl_turbo_1.0_fp16"), fast(512, 1, "euler_a trailing"));
    assert_eq!(of(&xl, "sdxl_lightning_8step"), fast(1024, 8, "euler trailing"));
    assert_eq!(of(&xl, "Hyper-SDXL-1step-Unet").1, 1);
    assert_eq!(of(&sd1, "LCM_Dreamshaper_v7"), fast(512, 4, "lcm lcm"));
    assert_eq!(of(&sd1, "sdxs-512-dreamshaper"), fast(512, 1, "euler trailing"));
    assert_eq!(of(&sd1, "v1-5-pruned"), (512, 20, 7.5, "euler_a".into(), false));
    assert_eq!(of(&xl, "sd_xl_base_1.0").0, 1024);
    let velocity = ScheduleConfig { prediction: Prediction::V, ..noise.clone() };
    assert_eq!(Defaults::of(&sd2, &velocity, "v2-1_768", false).0.size, 768);
}

#[test]
fn a_vae_of_another_family_is_told_by_its_scale() {
    let folder = Folder::tiny("vae-scale");
    let path = folder.file("vae/config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let own = tiny().networks.family_scale();
    config["scaling_factor"] = json!(0.5);
    fs::write(&path, config.to_string()).unwrap();
    let text = refusal(open_with_vae(tiny(), &folder.file("vae")));
    let parts = ["vae", "scaled by 0.5", "scaled by ", &own.to_string()];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    config["scaling_factor"] = json!(own);
    fs::write(&path, config.to_string()).unwrap();
    assert!(open_with_vae(tiny(), &folder.file("vae")).is_ok());
}

#[test]
fn a_folder_without_a_scheduler_is_told_what_it_lacks() {
    let folder = Folder::tiny("no-scheduler");
    fs::remove_dir_all(folder.file("scheduler")).unwrap();
    let text = refusal(open(&folder.0));
    assert!(text.contains("no-scheduler") && text.contains("scheduler/scheduler_config.json"), "{text}");
}

#[test]
fn half_an_sdxl_and_networks_that_do_not_fit_are_told_their_widths() {
    let projected = TextConfig { projection: Some(16), ..small_text(16, true, true) };
    let kl = || KlConfig { channels: vec![32, 32], blocks: 1, ..KlConfig::default() };
    let one = |text: Vec<TextConfig>, unet: UnetConfig| {
        let networks = Networks { text, ..Networks::new(small_text(8, false, false), unet, kl()) };
        Model::random("whole", networks)
    };
    let xl = one(vec![small_text(8, false, true), projected], small_unet(24, Some(16)));
    let sd1 = one(vec![small_text(8, false, false)], small_unet(8, None));
    let folder = Folder::new("halves");
    let path = folder.file("xl.safetensors");
    save_safetensors(&xl, &path, Dtype::F16).unwrap();
    // The U-Net of one on the encoders of the other.
    let text = refusal(open_with_unet(sd1, &path));
    assert!(["xl.safetensors", "SDXL", "8 channels"].iter().all(|part| text.contains(part)), "{text}");
    // Without its second encoder.
    let whole = format::raw(Bytes::open(&path).unwrap()).unwrap();
    let kept = whole.tensors.into_iter().filter(|(name, _)| !name.starts_with("conditioner.embedders.1."));
    let half = table::RawFile { tensors: kept.collect(), lienzo: None, ..whole };
    let text = refusal(open::single(half, "half".into()));
    assert!(["xl.safetensors", "no text encoder with a projection"].iter().all(|part| text.contains(part)), "{text}");
}
