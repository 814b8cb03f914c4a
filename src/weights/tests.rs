//! Checkpoints, whole and broken, to models and to errors: every format and every way a file can lie.

use super::bytes::Bytes;
use super::*;
use crate::error::Kind;
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
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
    assert_eq!((&a.clip, &a.unet, &a.vae, &a.schedule), (&b.clip, &b.unet, &b.vae, &b.schedule));
}

/// A safetensors file of these header and data, the header's length told truly.
fn safetensors_file(header: &str, data: usize) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.resize(out.len() + data, 0);
    out
}

fn refusal(content: Vec<u8>) -> String {
    let error = match open::raw(Bytes::memory("test file", content)) {
        Ok(_) => panic!("accepted"),
        Err(e) => e,
    };
    assert_eq!(error.kind(), &Kind::BadFile);
    let text = error.to_string();
    assert!(text.starts_with("test file: "), "{text}");
    text
}

#[test]
fn shared() {
    let root = Path::new("/work/shared/fixtures");
    let folder = open(&root.join("tiny-sd")).unwrap();
    for f in ["tiny-sd.safetensors", "tiny-sd.ckpt"] {
        let t = std::time::Instant::now();
        let m = open(&root.join(f)).unwrap();
        println!("{f} {:?}", t.elapsed());
        same_shapes(&folder, &m);
        same_tensors(&folder, &m);
    }
    for f in ["tiny-sd", "tiny-sd-inpaint.safetensors", "tiny-sd.ckpt", "../demo-model"] {
        println!("{}", describe(&open(&root.join(f)).unwrap()));
    }
    let m = open_with_vae(open(&root.join("tiny-sd")).unwrap(), &root.join("tiny-sd.ckpt")).unwrap();
    same_tensors(&folder, &m);
    println!("{}", describe(&m));
    let e = Model::embedded().unwrap();
    let d = open(&root.join("../demo-model")).unwrap();
    same_tensors(&e, &d);
    same_shapes(&e, &d);
    assert_eq!(e.tokenizer, d.tokenizer);
    println!("{}", describe(&e));
    let keys = |f: &str| fs::read_to_string(root.join(f)).unwrap();
    let ldm = keys("sd15_ldm_keys.txt");
    let ldm: Vec<&str> = ldm.lines().map(|l| l.split('\t').next().unwrap()).collect();
    let diff = keys("sd15_diffusers_keys.txt");
    let mut diff: Vec<String> = diff.lines().map(|l| {
        let (p, n) = l.split('\t').next().unwrap().split_once('/').unwrap();
        names::component(p, n).unwrap()
    }).collect();
    diff.sort();
    let mut got: Vec<String> = names::single_file(&ldm).unwrap().into_iter().flatten().collect();
    got.sort();
    println!("{} {} {}", ldm.len(), diff.len(), got.len());
    assert_eq!(diff, got);
    for (name, l) in names::single_file(&ldm).unwrap().into_iter().zip(&ldm) {
        if let Some(n) = name {
            let unet = UnetConfig { blocks: 2, levels: [true, true, true, false].map(|attention| crate::diffusion::unet::UnetLevel { channels: 32, heads: 8, attention }).to_vec(), ..folder.unet.clone() };
            assert_eq!(names::original(&n, &unet, 4).as_deref(), Some(*l));
        } else { println!("ignored {l}"); }
    }
}
