//! Checkpoints of every element type to models; types that are not read are told with what to do.

use super::*;
use crate::weights::encode;

/// Every value that the tiny model needs, as it reads.
fn values(model: &Model) -> Vec<(String, Vec<f32>)> {
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    for (name, _) in arch::required_of(model) {
        model.source.read(&name, &mut raw).unwrap();
        let mut values = Vec::new();
        decode_f32(model.source.info(&name).unwrap().dtype, &raw, &mut values);
        out.push((name, values));
    }
    out
}

#[test]
fn doubles_and_8_bit_floats_are_read() {
    let folder = Folder::new("types");
    for (dtype, reads) in [(Dtype::F64, Dtype::F32), (Dtype::F8E4m3, Dtype::F16), (Dtype::F8E5m2, Dtype::F16)] {
        let path = folder.file(&format!("{}.safetensors", dtype.name()));
        save_safetensors(&tiny(), &path, dtype).unwrap();
        let model = open(&path).unwrap();
        for ((name, have), (_, exact)) in values(&model).into_iter().zip(values(&tiny())) {
            let (mut stored, mut want) = (Vec::new(), Vec::new());
            encode(dtype, &exact, &mut stored);
            decode_f32(dtype, &stored, &mut want);
            assert!(have == want, "{name} as {}", dtype.name());
            let (info, stored) = (model.source.info(&name).unwrap(), model.source.stored(&name).unwrap());
            assert_eq!((info.dtype, stored.name, stored.bytes), (reads, dtype.name(), dtype.bytes() * info.len()));
        }
        // A part of a tensor is that part of it.
        let name = "unet.conv_in.weight";
        let (mut all, mut rows) = (Vec::new(), Vec::new());
        model.source.read(name, &mut all).unwrap();
        model.source.read_rows(name, 3, 2, &mut rows).unwrap();
        let row = all.len() / model.source.info(name).unwrap().shape[0];
        assert_eq!(rows, all[3 * row..5 * row]);
        // Its VAE alone will do as well.
        assert!(open_with_vae(tiny(), &path).is_ok());
    }
}

/// `h` with every tensor's entry put through `change`.
fn every(h: &mut Value, change: impl Fn(&str, &mut Value)) {
    let tensors = h.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__");
    tensors.for_each(|(name, entry)| change(name, entry));
}

#[test]
fn scaled_8_bit_floats_and_integers_are_told_with_a_remedy() {
    let file = tiny_single("scaled");
    // Two bytes each, as the f16 that are there: what the header says is what counts.
    let integers = edit(&file, |h| every(h, |_, e| e["dtype"] = json!("I16")));
    let text = refusal(open_bytes(integers.clone()));
    assert!(text.contains("is of type I16, which is not read: convert it to f16"), "{text}");
    let folder = Folder::new("scaled");
    fs::write(folder.file("vae.safetensors"), integers).unwrap();
    let text = refusal(open_with_vae(tiny(), &folder.file("vae.safetensors")));
    assert!(text.contains("is of type I16, which is not read: convert it to f16"), "{text}");
    let scaled = r#"{"a.weight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},
        "a.scale_weight":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#;
    let file = format::raw(Bytes::memory("scaled", safetensors_file(scaled, &[0; 6]))).unwrap();
    assert_eq!(file.other, [("a.weight".to_string(), "F8_E4M3 with scales".to_string())]);
}

#[test]
fn metadata_that_is_null_is_none() {
    let text = r#"{"__metadata__":null,"a":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[0,2]}}"#;
    let file = format::raw(Bytes::memory("null", safetensors_file(text, &[0x3c, 0xbc]))).unwrap();
    let mut out = Vec::new();
    file.tensors["a"].read(&mut out).unwrap();
    assert_eq!(out, [0x00, 0x3c, 0x00, 0xbc]);
    for wrong in ["1", "[]", "\"x\""] {
        let text = text.replace("null", wrong);
        assert!(format::raw(Bytes::memory("wrong", safetensors_file(&text, &[0; 2]))).is_err(), "{wrong}");
    }
}
