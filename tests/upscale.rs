//! Upscalers against PyTorch's values, and pictures through `lienzo upscale`.

use crate::common::{Temp, golden, lienzo, stderr};
use lienzo::backend::cpu::Cpu;
use lienzo::dtype::Storage;
use lienzo::engine::Engine;
use lienzo::image::PictureLimits;
use lienzo::image::raster::Raster;
use lienzo::simd::Isa;
use lienzo::verify::{Status, VerifyOptions, upscalers};
use std::fs;
use std::path::Path;
use std::sync::Arc;

#[test]
fn every_layout_computes_what_pytorch_does_on_every_instruction_set() {
    for isa in Isa::available() {
        let engine = Engine::new(Arc::new(Cpu::new(2, isa, Storage::F16).unwrap()));
        let mut passed = 0;
        upscalers(&engine, &golden("upscalers"), &VerifyOptions::default(), &mut |check| {
            assert_eq!(check.status, Status::Pass, "{isa}: {check:?}");
            passed += 1;
        })
        .unwrap();
        assert_eq!(passed, 7 + 18 + 2 + 3);
    }
}

/// A picture with edges and a gradient, which an upscaler has something to do with.
fn drawing(width: usize, height: usize, sixteen: bool, alpha: bool) -> Raster {
    let top: usize = if sixteen { 65_535 } else { 255 };
    let inside = |i: usize| {
        let (x, y) = (i % width, i / width);
        x > width / 4 && x < 3 * width / 4 && y > height / 4 && y < 3 * height / 4
    };
    let colour = |i: usize| {
        let shade = top - i % width * top / (2 * width);
        if inside(i) { [top, top / 5, 0] } else { [shade, shade, shade] }.map(|v| v as u16)
    };
    let pixels = || 0..width * height;
    Raster {
        width,
        height,
        sixteen,
        colours: pixels().flat_map(colour).collect(),
        alpha: alpha.then(|| pixels().map(|i| if inside(i) { top as u16 } else { 0 }).collect()),
        profile: Some((0..200).collect()),
        texts: Vec::new(),
    }
}

fn save(dir: &Temp, name: &str, picture: &Raster) {
    fs::write(dir.join(name), picture.png_bytes(Some("a red square\nSteps: 1, Seed: 2")).unwrap()).unwrap();
}

fn read(dir: &Temp, name: &str) -> Raster {
    Raster::of_bytes(&fs::read(dir.join(name)).unwrap(), Path::new(name), PictureLimits::default()).unwrap()
}

fn run(dir: &Temp, args: &[&str]) -> String {
    let output = lienzo(dir, &[&["upscale"], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

fn refused(dir: &Temp, args: &[&str]) -> (i32, String) {
    let output = lienzo(dir, &[&["upscale"], args].concat());
    assert!(!output.status.success(), "{args:?} is not refused");
    (output.status.code().unwrap_or(-1), stderr(&output))
}

#[test]
fn tiles_of_any_size_give_the_same_picture_as_the_whole() {
    let dir = Temp::new();
    save(&dir, "a.png", &drawing(150, 70, false, false));
    run(&dir, &["a.png", "-o", "whole.png"]);
    for tile in ["16", "52", "100"] {
        run(&dir, &["a.png", "-o", "tiles.png", "--tile", tile, "--overwrite"]);
        assert!(read(&dir, "tiles.png") == read(&dir, "whole.png"), "tiles of {tile}");
    }
}

#[test]
fn alpha_depth_profile_and_words_are_kept() {
    let dir = Temp::new();
    let picture = drawing(24, 20, true, true);
    save(&dir, "a.png", &picture);
    run(&dir, &["a.png"]);
    let large = read(&dir, "a-x4.png");
    assert_eq!((large.width, large.height, large.sixteen, &large.profile), (96, 80, true, &picture.profile));
    let text = &large.texts.iter().find(|(keyword, _)| keyword == "parameters").unwrap().1;
    let own = "Postprocess upscale by: 4, Postprocess upscaler: realesr-animevideov3";
    assert_eq!(*text, format!("a red square\nSteps: 1, Seed: 2, {own}"));
    // What nobody sees was grey; no grey is seen at the edge of the red square.
    let alpha = large.alpha.as_ref().unwrap();
    assert!(alpha.contains(&0) && alpha.contains(&65_535));
    for (i, pixel) in large.colours.chunks_exact(3).enumerate().filter(|(i, _)| alpha[*i] > 6000) {
        assert!(pixel[0] > 50_000 && pixel[1] < 25_000 && pixel[2] < 15_000, "pixel {i}: {pixel:?}");
    }
}

#[test]
fn no_border_is_darker_after_two_passes() {
    let dir = Temp::new();
    let mut picture = drawing(64, 64, false, false);
    picture.colours.fill(200);
    save(&dir, "a.png", &picture);
    run(&dir, &["a.png", "-o", "b.png", "-s", "8"]);
    let large = read(&dir, "b.png");
    assert_eq!((large.width, large.height), (512, 512));
    // The network has a colour of its own for a grey; it is the same everywhere.
    let middle = large.colours[(256 * 512 + 256) * 3];
    let far = large.colours.iter().map(|v| v.abs_diff(middle)).max().unwrap();
    assert!(far <= 4 && middle.abs_diff(200) <= 12, "{far} from {middle}");
}

#[test]
fn folders_are_done_picture_by_picture_and_finished_files_are_kept() {
    let dir = Temp::new();
    fs::create_dir(dir.join("in")).unwrap();
    save(&dir, "in/a.png", &drawing(20, 16, false, false));
    fs::write(dir.join("in/b.png"), b"not a picture").unwrap();
    fs::write(dir.join("in/notes.txt"), b"words").unwrap();
    save(&dir, "in/c.png", &drawing(16, 20, false, false));
    let (code, said) = refused(&dir, &["in", "-o", "out", "-s", "2"]);
    assert_eq!(code, 1);
    assert!(said.contains("1 files in in are no PNG") && said.contains("b.png") && said.contains("2 of 3"), "{said}");
    let before = fs::read(dir.join("out/a-x2.png")).unwrap();
    assert_eq!(read(&dir, "out/c-x2.png").height, 40);
    let (code, said) = refused(&dir, &["in", "-o", "out", "-s", "2"]);
    assert!(code == 2 && said.contains("exists"), "{said}");
    fs::remove_file(dir.join("in/b.png")).unwrap();
    fs::remove_file(dir.join("out/c-x2.png")).unwrap();
    assert!(run(&dir, &["in", "-o", "out", "-s", "2", "--resume"]).contains("a.png: there already"));
    assert!(fs::read(dir.join("out/a-x2.png")).unwrap() == before && dir.join("out/c-x2.png").exists());
}

#[test]
fn what_is_no_upscaler_is_told_as_what_it_is() {
    let dir = Temp::new();
    save(&dir, "a.png", &drawing(8, 8, false, false));
    let pth = fs::read(golden("upscalers/upscale/rrdb_x8_2018.pth")).unwrap();
    fs::write(dir.join("cut.pth"), &pth[..pth.len() - 100]).unwrap();
    fs::write(dir.join("head.pth"), &pth[..60]).unwrap();
    let tiny = golden("tiny-sd/unet/diffusion_pytorch_model.safetensors");
    for (file, why) in [
        ("cut.pth", "ends within storage"),
        ("head.pth", "ends too early"),
        ("a.png", "not a checkpoint"),
        (tiny.to_str().unwrap(), "no upscaler"),
    ] {
        let (_, said) = refused(&dir, &["a.png", "--upscale-model", file]);
        assert!(said.contains(why) && said.contains(file), "{said}");
    }
    for (args, why) in [
        (&["a.png", "-s", "0"][..], "no factor"),
        (&["a.png", "--tile", "3"], "no tile"),
        (&["a.png", "--max-memory", "20M"], "are needed"),
        (&["none.png"], "none.png"),
    ] {
        let (_, said) = refused(&dir, args);
        assert!(said.contains(why), "{said}");
    }
    assert!(!dir.join("a-x4.png").exists());
}

#[test]
fn a_drawn_picture_is_made_larger_and_says_so() {
    let dir = Temp::new();
    let draw = |args: &[&str]| lienzo(&dir, &[&["generate", "a red apple", "-s", "1", "--steps", "2"], args].concat());
    assert!(draw(&["-o", "a.png"]).status.success());
    assert!(draw(&["-o", "b.png", "--upscale", "2"]).status.success());
    run(&dir, &["a.png", "-o", "c.png", "-s", "2"]);
    assert!(read(&dir, "b.png") == read(&dir, "c.png") && read(&dir, "b.png").width == 128);
    for (args, why) in [(&["--upscale", "0"][..], "no factor"), (&["--upscale", "2", "--resume"], "cannot be used")] {
        let output = draw(&[&["-o", "d.png"], args].concat());
        assert!(output.status.code() == Some(2) && stderr(&output).contains(why), "{}", stderr(&output));
    }
}
