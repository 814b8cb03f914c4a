//! Checkpoints in every format to models, whose tensors must be the same bytes under the same names.

mod ckpt;
mod family;
mod fuzz;
mod hostile;
mod types;

use super::*;
use crate::dtype::Dtype;
use crate::error::{Kind, Result};
use crate::models::Predictor;
use crate::models::autoencoder::kl::KlConfig;
use crate::models::training::{Prediction, Spacing};
use crate::models::unet::UnetConfig;
use crate::weights::bytes::Bytes;
use crate::weights::{StoredAs, TensorInfo, decode_f32, format, table};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-sd");

/// A fresh folder below the system's temporary one, removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lienzo-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A copy of the tiny model.
    fn tiny(name: &str) -> Self {
        let folder = Self::new(name);
        for part in ["unet", "vae", "text_encoder", "scheduler"] {
            fs::create_dir(folder.file(part)).unwrap();
            for entry in fs::read_dir(Path::new(TINY).join(part)).unwrap().flatten() {
                fs::copy(entry.path(), folder.file(part).join(entry.file_name())).unwrap();
            }
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tiny() -> Model {
    open(Path::new(TINY)).unwrap()
}

/// The tiny model as one file in the original layout.
fn tiny_single(name: &str) -> Vec<u8> {
    let folder = Folder::new(name);
    save_safetensors(&tiny(), &folder.file("m.safetensors"), Dtype::F16).unwrap();
    fs::read(folder.file("m.safetensors")).unwrap()
}

fn open_bytes(content: Vec<u8>) -> Result<Model> {
    open::single(format::raw(Bytes::memory("test file", content))?, "test".into())
}

fn refusal(result: Result<Model>) -> String {
    let Err(error) = result else { panic!("accepted") };
    assert_eq!(error.kind(), &Kind::BadFile, "{error}");
    error.to_string()
}

fn same_tensors(a: &Model, b: &Model) {
    assert_eq!(a.source.names(), b.source.names());
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for name in a.source.names() {
        assert_eq!(a.source.info(name), b.source.info(name), "{name}");
        a.source.read(name, &mut x).unwrap();
        b.source.read(name, &mut y).unwrap();
        assert!(x == y, "{name} differs");
        assert_eq!(x.len(), a.source.info(name).unwrap().bytes());
    }
}

fn same_shapes(a: &Model, b: &Model) {
    assert_eq!((&a.networks, &a.schedule), (&b.networks, &b.schedule));
}

/// A safetensors file of this header, with a change to it.
fn edit(file: &[u8], change: impl Fn(&mut Value)) -> Vec<u8> {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&file[8..8 + len]).unwrap();
    change(&mut header);
    safetensors_file(&header.to_string(), &file[8 + len..])
}

fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn a_folder_and_its_single_file_hold_the_same_tensors() {
    let (folder, file) = (tiny(), tiny_single("single"));
    let single = open_bytes(file.clone()).unwrap();
    same_tensors(&folder, &single);
    same_shapes(&folder, &single);
    assert_eq!(single.defaults, folder.defaults);
    // Without the metadata entry, the shapes alone must tell the same architecture.
    let bare = open_bytes(edit(&file, |h| h["__metadata__"] = json!({"format": "pt"}))).unwrap();
    same_tensors(&folder, &bare);
    same_shapes(&folder, &bare);
    // What the format's own crate thinks of our file.
    let read = ::safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(read.len(), 980);
    let kernel = read.tensor("first_stage_model.decoder.mid.attn_1.q.weight").unwrap();
    assert_eq!(kernel.shape(), [64, 64, 1, 1]);
}

#[test]
fn unknown_tensors_and_the_older_text_names_are_taken_as_they_come() {
    let file = tiny_single("unknown");
    let changed = edit(&file, |header| {
        let map = header.as_object_mut().unwrap();
        let text: Vec<String> = map.keys().filter(|k| k.contains(".text_model.")).cloned().collect();
        for name in text {
            let entry = map.remove(&name).unwrap();
            map.insert(name.replace("text_model.", ""), entry);
        }
        let end = map.values().filter_map(|v| v["data_offsets"][1].as_u64()).max().unwrap();
        for (i, name) in
            ["betas", "model_ema.decay", "cond_stage_model.transformer.embeddings.position_ids"].iter().enumerate()
        {
            let at = end + 8 * i as u64;
            map.insert((*name).into(), json!({"dtype": "I64", "shape": [1], "data_offsets": [at, at + 8]}));
        }
    });
    same_tensors(&tiny(), &open_bytes([changed, vec![0; 24]].concat()).unwrap());
}

#[test]
fn names_map_back_and_forth_for_any_number_of_levels_and_blocks() {
    let model = tiny();
    for (attention, blocks) in [
        (vec![true, true, true, false], 2),
        (vec![true, true, false], 1),
        (vec![false, true], 3),
        (vec![true], 2),
        (vec![true, false, true, true, false], 1),
    ] {
        let levels: Vec<_> = attention.iter().map(|&attends| (32, 8, attends)).collect();
        let kl = KlConfig { channels: vec![32; attention.len()], blocks, ..KlConfig::default() };
        let text = model.networks.text[0].clone();
        let networks = Networks::new(text, UnetConfig::new(&levels, blocks, 48), kl);
        let names: Vec<String> = arch::required(&networks).unwrap().into_iter().map(|(name, _)| name).collect();
        let layout = names::Original::new(&networks);
        let original: Vec<String> = names.iter().map(|n| layout.name(n).unwrap().name).collect();
        let back = names::single_file(&original.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        for ((name, original), back) in names.iter().zip(&original).zip(back.names) {
            assert_eq!(back.first().map(|n| &n.name), Some(name), "{original}");
        }
    }
}

#[test]
fn the_original_names_are_the_published_ones() {
    let model = tiny();
    for (canonical, original) in [
        (
            "unet.down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k.weight",
            "model.diffusion_model.input_blocks.5.1.transformer_blocks.0.attn2.to_k.weight",
        ),
        ("unet.down_blocks.2.downsamplers.0.conv.bias", "model.diffusion_model.input_blocks.9.0.op.bias"),
        ("unet.up_blocks.0.upsamplers.0.conv.weight", "model.diffusion_model.output_blocks.2.1.conv.weight"),
        ("unet.up_blocks.2.upsamplers.0.conv.weight", "model.diffusion_model.output_blocks.8.2.conv.weight"),
        (
            "unet.up_blocks.3.resnets.2.conv_shortcut.weight",
            "model.diffusion_model.output_blocks.11.0.skip_connection.weight",
        ),
        ("unet.mid_block.resnets.1.time_emb_proj.bias", "model.diffusion_model.middle_block.2.emb_layers.1.bias"),
        ("unet.conv_norm_out.weight", "model.diffusion_model.out.0.weight"),
        (
            "vae.decoder.up_blocks.1.resnets.0.conv_shortcut.bias",
            "first_stage_model.decoder.up.2.block.0.nin_shortcut.bias",
        ),
        ("vae.decoder.up_blocks.0.upsamplers.0.conv.bias", "first_stage_model.decoder.up.3.upsample.conv.bias"),
        ("vae.encoder.down_blocks.0.downsamplers.0.conv.bias", "first_stage_model.encoder.down.0.downsample.conv.bias"),
        ("vae.encoder.mid_block.attentions.0.to_out.0.weight", "first_stage_model.encoder.mid.attn_1.proj_out.weight"),
        ("vae.quant_conv.weight", "first_stage_model.quant_conv.weight"),
        ("text_encoder.final_layer_norm.bias", "cond_stage_model.transformer.text_model.final_layer_norm.bias"),
    ] {
        assert_eq!(names::Original::new(&model.networks).name(canonical).map(|n| n.name).as_deref(), Some(original));
    }
}

#[test]
fn saving_as_f32_keeps_every_value_and_nothing_is_overwritten() {
    let folder = Folder::new("save");
    let (out, back) = (folder.file("wide.safetensors"), folder.file("back.safetensors"));
    save_safetensors(&tiny(), &out, Dtype::F32).unwrap();
    let wide = open(&out).unwrap();
    assert_eq!((wide.name.as_str(), wide.path.as_deref()), ("wide", Some(out.as_path())));
    save_safetensors(&wide, &back, Dtype::F16).unwrap();
    same_tensors(&tiny(), &open(&back).unwrap());
    let mut refused = vec![out.clone(), back.clone()];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&out, folder.file("link")).unwrap();
        fs::hard_link(&out, folder.file("hard")).unwrap();
        refused.extend([folder.file("link"), folder.file("hard")]);
    }
    let before = fs::read(&out).unwrap();
    for path in refused {
        let error = save_safetensors(&wide, &path, Dtype::F16).unwrap_err();
        assert_eq!(error.kind(), &Kind::Usage, "{error}");
        let is_input = path != back;
        assert_eq!(error.to_string().contains("is the checkpoint that is read"), is_input, "{error}");
    }
    assert!(fs::read(&out).unwrap() == before);
    let left: Vec<_> = fs::read_dir(&folder.0).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().contains(".tmp")), "{left:?}");
    let nowhere = save_safetensors(&wide, &folder.file("no/such/folder.safetensors"), Dtype::F16).unwrap_err();
    assert!(nowhere.to_string().contains("cannot be written"), "{nowhere}");
}

#[test]
fn rows_are_a_part_of_the_whole() {
    let source = tiny().source;
    let (name, mut all, mut part) = ("unet.conv_in.weight", Vec::new(), Vec::new());
    source.read(name, &mut all).unwrap();
    source.read_rows(name, 3, 5, &mut part).unwrap();
    let row = all.len() / 32;
    assert_eq!(part, all[3 * row..8 * row]);
    source.read_rows(name, 32, 0, &mut part).unwrap();
    assert!(part.is_empty());
    for (first, count) in [(32, 1), (0, 33), (usize::MAX, 2)] {
        assert!(source.read_rows(name, first, count, &mut part).is_err());
    }
    assert!(source.read("unet.nothing", &mut part).is_err());
}

#[test]
fn the_embedded_model_opens_with_its_own_settings() {
    let model = Model::embedded().unwrap();
    let d = &model.defaults;
    assert_eq!((d.size, d.steps, d.guidance, d.sampler.as_str()), (64, 20, 3.0, "ddim"));
    assert_eq!(model.path, None);
    // Its vocabulary belongs to its embedding.
    let vocab: Value = serde_json::from_str(&model.tokenizer.as_ref().unwrap().vocab).unwrap();
    assert_eq!(vocab.as_object().unwrap().len(), model.networks.text[0].vocab);
    let hash = model_hash(&model, &Default::default()).unwrap();
    assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(describe(&model).contains("text to image (4-channel U-Net)"));
    // At most 8 MB, in 8 bits where it is large.
    assert!(Model::embedded_bytes().len() <= 8_000_000);
    let largest = model.source.names().into_iter().max_by_key(|n| model.source.info(n).unwrap().len()).unwrap();
    assert_eq!(model.source.stored(largest).unwrap().name, "i8 rows");
    assert!(describe(&model).contains(" i8 rows"));
    // Its configs are not SD 1.x's, so a file written from it must carry them.
    let folder = Folder::new("embedded");
    save_safetensors(&model, &folder.file("m.safetensors"), Dtype::F16).unwrap();
    let back = open(&folder.file("m.safetensors")).unwrap();
    same_shapes(&model, &back);
    same_tensors(&model, &back);
    assert_eq!((&back.tokenizer, &back.defaults), (&model.tokenizer, &model.defaults));
}

#[test]
fn a_hash_is_the_sha256_and_can_be_stopped() {
    let folder = Folder::new("hash");
    fs::write(folder.file("abc"), "abc").unwrap();
    let hash = sha256_file(&folder.file("abc"), &false.into()).unwrap();
    assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(sha256_file(&folder.file("abc"), &true.into()).unwrap_err().kind(), &Kind::Cancelled);
    assert_eq!(sha256_file(Path::new(TINY), &false.into()).unwrap().len(), 64);
}

#[test]
fn a_vae_comes_from_any_layout() {
    let (folder, single) = (Folder::new("vae"), tiny_single("vae-single"));
    let only = |strip: &str, keep: &str| {
        edit(&single, |header| {
            let map = header.as_object_mut().unwrap();
            map.remove("__metadata__");
            let all: Vec<String> = map.keys().cloned().collect();
            for name in all {
                let entry = map.remove(&name).unwrap();
                // The others stay under names that nobody knows: the data may have no holes.
                let new = name.strip_prefix(strip).map_or(format!("x.{name}"), |n| format!("{keep}{n}"));
                map.insert(new, entry);
            }
        })
    };
    fs::write(folder.file("bare"), only("first_stage_model.", "")).unwrap();
    fs::write(folder.file("prefixed"), only("first_stage_model.", "first_stage_model.")).unwrap();
    let diffusers = Path::new(TINY).join("vae");
    let paths = [
        folder.file("bare"),
        folder.file("prefixed"),
        diffusers.join("diffusion_pytorch_model.safetensors"),
        diffusers,
        TINY.into(),
    ];
    for path in paths {
        let model = open_with_vae(tiny(), &path).unwrap();
        same_tensors(&tiny(), &model);
        assert_eq!(model.networks, tiny().networks);
    }
    let text = Path::new(TINY).join("text_encoder/model.safetensors");
    assert!(refusal(open_with_vae(tiny(), &text)).contains("it is no VAE"));
    let other = Model::embedded().unwrap();
    assert!(refusal(open_with_vae(other, Path::new(TINY))).contains("8 pixels per latent; the model needs one of 4"));
}

#[test]
fn a_folder_may_have_older_names_shards_and_a_tokenizer() {
    let folder = Folder::tiny("variants");
    let rename = |path: &Path, change: &dyn Fn(&str) -> String| {
        let changed = edit(&fs::read(path).unwrap(), |header| {
            let map = std::mem::take(header.as_object_mut().unwrap());
            *header = Value::Object(
                map.into_iter().map(|(k, v)| if k == "__metadata__" { (k, v) } else { (change(&k), v) }).collect(),
            );
        });
        fs::write(path, changed).unwrap();
    };
    rename(&folder.file("text_encoder/model.safetensors"), &|k| format!("text_model.{k}"));
    rename(&folder.file("vae/diffusion_pytorch_model.safetensors"), &|k| {
        let k = k.replace(".to_q.", ".query.").replace(".to_k.", ".key.");
        k.replace(".to_v.", ".value.").replace(".to_out.0.", ".proj_attn.")
    });
    let unet = folder.file("unet/diffusion_pytorch_model.safetensors");
    fs::rename(&unet, folder.file("unet/part-1.safetensors")).unwrap();
    let index = folder.file("unet/diffusion_pytorch_model.safetensors.index.json");
    fs::write(&index, json!({"weight_map": {"conv_in.weight": "part-1.safetensors"}}).to_string()).unwrap();
    fs::create_dir(folder.file("tokenizer")).unwrap();
    let tokenizer = json!({"model": {"vocab": {"a": 0}, "merges": ["a b", ["c", "d"]]}});
    fs::write(folder.file("tokenizer/tokenizer.json"), tokenizer.to_string()).unwrap();
    let model = open(&folder.0).unwrap();
    same_tensors(&tiny(), &model);
    let words = TokenizerFiles { vocab: r#"{"a":0}"#.into(), merges: "#version: 0.2\na b\nc d\n".into() };
    assert_eq!(model.tokenizer, Some(words));
    for elsewhere in ["../vae/config.json", "/etc/passwd", "..", "a\\b"] {
        fs::write(&index, json!({"weight_map": {"conv_in.weight": elsewhere}}).to_string()).unwrap();
        assert!(refusal(open(&folder.0)).contains("not a file beside it"));
    }
}

#[test]
fn what_a_folder_says_is_honoured_or_refused() {
    let folder = Folder::tiny("configs");
    let set = |file: &str, key: &str, value: Value| {
        let path = folder.file(file);
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let old = std::mem::replace(&mut config[key], value);
        fs::write(&path, config.to_string()).unwrap();
        old
    };
    // SD 2.x: heads by level, linear projections, OpenCLIP's activation, v-prediction.
    set("unet/config.json", "attention_head_dim", json!([1, 2, 4, 8]));
    set("text_encoder/config.json", "hidden_act", json!("gelu"));
    set("scheduler/scheduler_config.json", "prediction_type", json!("v_prediction"));
    set("scheduler/scheduler_config.json", "timestep_spacing", json!("trailing"));
    let model = open(&folder.0).unwrap();
    let Some(Predictor::Unet(unet)) = &model.networks.predictor else { panic!("a U-Net") };
    assert_eq!(unet.down.iter().map(|b| b.heads).collect::<Vec<_>>(), [1, 2, 4, 8]);
    assert_eq!(unet.up.iter().map(|b| b.heads).collect::<Vec<_>>(), [8, 4, 2, 1]);
    assert_eq!(model.networks.text[0].activation, crate::models::text::MlpActivation::Gelu);
    assert_eq!((model.schedule.prediction, model.schedule.spacing), (Prediction::V, Spacing::Trailing));
    for (file, key, value, told) in [
        ("unet/config.json", "addition_embed_type", json!("text_time"), "projection_class_embeddings_input_dim"),
        ("unet/config.json", "addition_embed_type", json!("image"), "addition_embed_type"),
        ("unet/config.json", "class_embed_type", json!("timestep"), "class_embed_type"),
        ("unet/config.json", "attention_head_dim", json!(5), "not divisible into 5 U-Net heads"),
        ("unet/config.json", "attention_head_dim", json!(0), "not divisible into 0 U-Net heads"),
        ("unet/config.json", "norm_num_groups", json!(0), "groups"),
        ("unet/config.json", "layers_per_block", json!(1_000_000), "blocks per level"),
        ("unet/config.json", "block_out_channels", json!([]), "block_out_channels"),
        ("unet/config.json", "block_out_channels", json!([32, 32, 64, -1]), "not a size"),
        ("unet/config.json", "cross_attention_dim", json!([48, 48]), "not a size"),
        ("unet/config.json", "in_channels", json!(5), "inpainting"),
        ("unet/config.json", "down_block_types", json!(vec!["\u{1b}[2J"; 4]), "\\u001b[2J"),
        ("vae/config.json", "latent_channels", json!(16), "latent channels"),
        ("vae/config.json", "scaling_factor", json!(0), "scaling factor"),
        ("text_encoder/config.json", "hidden_size", json!(96), "do not fit"),
        ("scheduler/scheduler_config.json", "beta_schedule", json!("squaredcos_cap_v2"), "squaredcos_cap_v2"),
        ("scheduler/scheduler_config.json", "beta_start", json!(2.0), "betas"),
    ] {
        let old = set(file, key, value);
        let text = refusal(open(&folder.0));
        assert!(text.contains(told), "{told}: {text}");
        set(file, key, old);
    }
    fs::create_dir(folder.file("text_encoder_2")).unwrap();
    assert!(refusal(open(&folder.0)).contains("text_encoder_2"));
    fs::remove_dir(folder.file("text_encoder_2")).unwrap();
    fs::remove_file(folder.file("vae/diffusion_pytorch_model.safetensors")).unwrap();
    assert!(refusal(open(&folder.0)).contains("diffusion_pytorch_model.safetensors"));
}
