//! Files that lie, end early or are something else: an error that names them, never a panic.

use super::*;

fn raw_refusal(content: Vec<u8>) -> String {
    let text = refusal(open_bytes(content));
    assert!(text.starts_with("test file: "), "{text}");
    text
}

fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn a_safetensors_header_is_not_believed() {
    let two = |a: &str, b: &str| {
        let entry = |name: &str, at: &str| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":{at}}}"#);
        format!("{{{},{}}}", entry("a", a), entry("b", b))
    };
    for (header, data, told) in [
        (one("F32", "[2]", "[0,8]"), 7, "truncated"),
        (one("F32", "[2]", "[0,8]"), 9, "belong to no tensor"),
        (one("F32", "[3]", "[0,8]"), 8, "needs 12 bytes and has 8"),
        (one("F32", "[2]", "[8,0]"), 8, "leaves a gap"),
        (one("F32", "[2]", "[4,12]"), 12, "leaves a gap"),
        (one("F32", "[2]", "[0,18446744073709551615]"), 8, "needs 8 bytes"),
        (one("F32", "[4294967296,4294967296]", "[0,0]"), 0, "overflows"),
        (one("F32", "[2305843009213693952,2]", "[0,0]"), 0, "overflows"),
        (one("F32", "[-1]", "[0,8]"), 8, "malformed"),
        (one("F33", "[2]", "[0,8]"), 8, "malformed"),
        (one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "more than 8 dimensions"),
        (one("F32", "[2]", "[0]"), 8, "malformed"),
        (two("[0,8]", "[4,12]"), 12, "overlaps"),
        (two("[0,8]", "[0,8]"), 8, "overlaps"),
        (two("[0,8]", "[12,20]"), 20, "gap"),
        (two("[0,8]", "[8,16]").replace("\"b\"", "\"a\""), 16, "two tensors of one name"),
        ("[]".into(), 0, "does not begin with {"),
        (String::new(), 0, "does not begin with {"),
        ("{\"a\":".into(), 0, "malformed"),
        ("{\"a\":[".repeat(200), 0, "malformed"),
    ] {
        let text = raw_refusal(safetensors_file(&header, &vec![0; data]));
        assert!(text.contains(told), "{told}: {text}");
    }
    let mut not_utf8 = safetensors_file(&one("F32", "[2]", "[0,8]"), &[0; 8]);
    not_utf8[10] = 0xff;
    assert!(raw_refusal(not_utf8).contains("not UTF-8"));
    for len in [100_000_001, u64::MAX, u64::MAX - 7] {
        let huge = [&len.to_le_bytes()[..], b"{}"].concat();
        assert!(raw_refusal(huge).contains("more than the format allows"));
    }
    let long = [&3u64.to_le_bytes()[..], b"{}"].concat();
    assert!(raw_refusal(long).contains("truncated inside its header"));
}

#[test]
fn eight_bit_rows_need_their_scales() {
    let entry = |name: &str, dtype: &str, shape: &str, from: usize, to: usize| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let rows = entry("a", "I8", "[2,3]", 0, 6);
    for (scale, len) in [
        (entry("a.scale", "F32", "[3]", 6, 18), 18),
        (entry("a.scale", "F32", "[2,1]", 6, 14), 14),
        (entry("a.scale", "F32", "[]", 6, 10), 10),
        (entry("a.scale", "F16", "[2]", 6, 10), 10),
        (entry("a.scale", "F32", "[0]", 6, 6), 6),
    ] {
        let text = raw_refusal(safetensors_file(&format!("{{{rows},{scale}}}"), &vec![1; len]));
        assert!(text.contains("tensor a.scale is of") && text.contains("need one F32 a row"), "{text}");
    }
    // Without a scale, and a scale of something else, it is a tensor of a type that is not read.
    for other in ["b.scale", "scale", "a.scale.scale"] {
        let file = safetensors_file(&format!("{{{rows},{}}}", entry(other, "F32", "[2]", 6, 14)), &[1; 14]);
        let raw = format::raw(Bytes::memory("test file", file)).unwrap();
        assert!(!raw.tensors.contains_key("a") && raw.other == [("a".to_string(), "I8".to_string())], "{other}");
    }
    let read = |scales: [f32; 2]| {
        let scales: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let data = [&[1, 2, 3, 0xff, 0x80, 0x7f][..], &scales].concat();
        let file = safetensors_file(&format!("{{{rows},{}}}", entry("a.scale", "F32", "[2]", 6, 14)), &data);
        let raw = format::raw(Bytes::memory("test file", file)).unwrap();
        table::Table::new(raw.tensors, "test")
    };
    let (table, mut out) = (read([0.5, 2.0]), Vec::new());
    let halves = |out: &[u8]| {
        let mut values = Vec::new();
        decode_f32(Dtype::F16, out, &mut values);
        values
    };
    table.read("a", &mut out).unwrap();
    assert_eq!(halves(&out), [0.5, 1.0, 1.5, -2.0, -256.0, 254.0]);
    table.read_rows("a", 1, 1, &mut out).unwrap();
    assert_eq!(halves(&out), [-2.0, -256.0, 254.0]);
    assert_eq!(table.stored("a"), Some(StoredAs { name: "i8 rows", bytes: 14 }));
    assert_eq!(table.info("a").unwrap(), &TensorInfo { dtype: Dtype::F16, shape: vec![2, 3] });
    for broken in [0.0, -0.5, f32::NAN, f32::NEG_INFINITY, 1e6] {
        let table = read([1.0, broken]);
        for error in [table.read("a", &mut out), table.read_rows("a", 1, 1, &mut out)] {
            let text = error.unwrap_err().to_string();
            assert!(text.contains("8-bit rows") && text.contains("download it again"), "{text}");
        }
        table.read_rows("a", 0, 1, &mut out).unwrap();
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = tiny_single("cut");
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    for len in [0, 1, 7, 8, 9, 100, header - 1, header, header + 1, file.len() / 2, file.len() - 1] {
        raw_refusal(file[..len].to_vec());
    }
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let file = tiny_single("missing");
    let name = "model.diffusion_model.middle_block.1.norm.weight";
    let renamed = |map: &mut Value, from: &str| {
        let entry = map.as_object_mut().unwrap().remove(from).unwrap();
        map[format!("x.{from}")] = entry;
    };
    let text = raw_refusal(edit(&file, |h| renamed(h, name)));
    assert!(text.contains("1 tensor is missing, first: unet.mid_block.attentions.0.norm.weight"), "{text}");
    let text = raw_refusal(edit(&file, |h| {
        h["model.diffusion_model.input_blocks.1.0.in_layers.2.bias"]["shape"] = json!([4, 8])
    }));
    let told = "1 tensor is misshapen, first: unet.down_blocks.0.resnets.0.conv1.bias is [4, 8] where [32] belongs";
    assert!(text.contains(told), "{text}");
    // A whole part.
    let without = |part: &str| {
        edit(&file, |h| {
            let names: Vec<String> = h.as_object().unwrap().keys().filter(|k| k.starts_with(part)).cloned().collect();
            names.iter().for_each(|n| renamed(h, n));
        })
    };
    let text = raw_refusal(without("cond_stage_model"));
    assert!(text.contains("holds no text encoder"), "{text}");
    // Without a VAE it opens, because one may be given beside it; what needs one says so.
    let folder = Folder::new("no-vae");
    fs::write(folder.file("m.safetensors"), without("first_stage")).unwrap();
    let model = open(&folder.file("m.safetensors")).unwrap();
    let text = crate::models::part::Part::Decode { size: (1, 8, 8) }.graph(&model.networks).unwrap_err().to_string();
    assert!(text.contains("has no VAE"), "{text}");
    let whole = open_with_vae(model, &Path::new(TINY).join("vae")).unwrap();
    assert_eq!(whole.networks, tiny().networks);
    // Weights of a type that is not read are told apart from missing ones.
    let text = raw_refusal(edit(&file, |h| h[name]["dtype"] = json!("I16")));
    assert!(text.contains("unet.mid_block.attentions.0.norm.weight is of type I16"), "{text}");
}

#[test]
fn other_kinds_of_files_are_called_by_their_names() {
    let named =
        |name: &str| safetensors_file(&one("F32", "[1]", "[0,4]").replace("\"a\"", &format!("\"{name}\"")), &[0; 4]);
    for (content, told) in [
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), "GGUF"),
        (b"<!DOCTYPE html><html></html>".to_vec(), "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(), "torch.save"),
        (b"\x80\x02}q\0.........".to_vec(), "bare pickle"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0\0\0\0\0".to_vec(), "not a checkpoint"),
        (vec![0; 100], "does not begin with {"),
        (named("model.diffusion_model.joint_blocks.0.x"), "SD 3"),
        (named("double_blocks.0.x"), "Flux"),
        (named("edm_mean"), "Playground"),
        (named("edm_vpred.sigma_max"), "CosXL"),
        (named("model_ema.diffusion_modelinput_blocks00weight"), "EMA"),
        (named("lora_unet_down_blocks_0.alpha"), "LoRA"),
        (named("control_model.input_blocks.0.0.weight"), "ControlNet"),
        (named("down_blocks.0.resnets.0.conv1.weight"), "holds only a U-Net"),
        (named("\\u001b[2J"), "\\u{1b}[2J"),
    ] {
        let text = raw_refusal(content);
        assert!(text.contains(told), "{told}: {text}");
    }
    let folder = Folder::new("kinds");
    assert!(refusal(open(&folder.0)).contains("no unet folder"));
    assert!(refusal(open(&folder.file("nothing"))).contains("cannot be opened"));
}

#[test]
fn a_bundle_whose_configs_lie_is_refused() {
    let file = tiny_single("bundle");
    for (entry, told) in [
        ("{", "malformed lienzo entry"),
        (r#"{"unet":{}}"#, "its U-Net configuration has no block_out_channels"),
        (r#"{"unet":[1]}"#, "its U-Net configuration has no"),
        (r#"{"tokenizer":{}}"#, "tokenizer without vocab"),
        (r#"{"defaults":{"steps":0}}"#, "no picture can be made"),
        (r#"{"defaults":{"size":1e9}}"#, "not a size"),
        (r#"{"vae":{"block_out_channels":[32,32,32,64],"layers_per_block":9}}"#, "are missing"),
    ] {
        let text = raw_refusal(edit(&file, |h| h["__metadata__"]["lienzo"] = json!(entry)));
        assert!(text.contains(told), "{told}: {text}");
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let small = safetensors_file(
        &one("F32", "[2]", "[0,8]").replace("\"a\"", "\"model.diffusion_model.input_blocks.1.0.op.weight\""),
        &[0; 8],
    );
    ckpt::flip(&small);
}
