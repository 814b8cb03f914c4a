//! Painting a part of a picture anew, and beyond its edges, through the command and the model in the binary.

use crate::common::{Temp, golden, lienzo, stderr};
use lienzo::checkpoint::{self, Model};
use lienzo::dtype::Dtype;
use lienzo::image::{Image, PARAMETERS, PictureLimits, png_bytes, read_png};
use lienzo::models::unet::UnetConfig;
use lienzo::models::{Networks, Predictor};

const SIZE: usize = 64;

/// Soft colours with some structure, no two sides alike.
fn picture(width: usize, height: usize) -> Image {
    let at = |x: usize, y: usize| {
        let disc = (x as i32 - 30).pow(2) + (y as i32 - 36).pow(2) < 200;
        if disc {
            [190, 40 + (x % 40) as u8, 50]
        } else {
            [70 + (x * 60 / width) as u8, 120, 200 - (y * 50 / height) as u8]
        }
    };
    Image { width, height, rgb: (0..width * height).flat_map(|i| at(i % width, i / width)).collect() }
}

/// Black with a white rectangle.
fn mask(width: usize, height: usize, xs: std::ops::Range<usize>, ys: std::ops::Range<usize>) -> Image {
    let at = |i: usize| if xs.contains(&(i % width)) && ys.contains(&(i / width)) { [255; 3] } else { [0; 3] };
    Image { width, height, rgb: (0..width * height).flat_map(at).collect() }
}

fn write(dir: &Temp, name: &str, image: &Image) {
    std::fs::write(dir.join(name), png_bytes(image, None).expect("a PNG")).expect("a file");
}

fn read(dir: &Temp, name: &str) -> (Image, String) {
    let (image, texts) = read_png(&dir.join(name), PictureLimits::default()).expect("a PNG");
    (image, texts.into_iter().find(|(k, _)| k == PARAMETERS).expect("parameters").1)
}

fn run(dir: &Temp, more: &[&str]) -> (Image, String) {
    let seed: &[&str] = if more.contains(&"-s") { &[] } else { &["-s", "3"] };
    let base = ["generate", "a red apple", "-i", "a.png", "--steps", "4", "--overwrite", "-o", "out.png"];
    let output = lienzo(dir, &[&base[..], seed, more].concat());
    assert!(output.status.success(), "{more:?}: {}", stderr(&output));
    read(dir, "out.png")
}

fn refused(dir: &Temp, args: &[&str], words: &[&str]) {
    let output = lienzo(dir, &[&["generate", "x"], args].concat());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no '{word}' in: {text}");
    }
}

/// How many pixels differ within `reach` of the square from 24 to 40, and outside of it.
fn changed(a: &Image, b: &Image, reach: usize) -> (usize, usize) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let near = |i: usize| (24 - reach..40 + reach).contains(&i);
    let mut counts = (0, 0);
    for (i, (p, q)) in a.rgb.chunks_exact(3).zip(b.rgb.chunks_exact(3)).enumerate() {
        let inside = near(i % a.width) && near(i / a.width);
        match inside {
            _ if p == q => {}
            true => counts.0 += 1,
            false => counts.1 += 1,
        }
    }
    counts
}

#[test]
fn what_is_outside_of_the_blurred_mask_stays() {
    let dir = Temp::new();
    let given = picture(SIZE, SIZE);
    write(&dir, "a.png", &given);
    write(&dir, "m.png", &mask(SIZE, SIZE, 24..40, 24..40));
    let more: [&[&str]; 7] = [
        &["--sampling-method", "euler"],
        &["--sampling-method", "ddim", "--soft-mask", "--strength", "1"],
        &["--sampling-method", "unipc", "--inpaint-fill", "fill", "--strength", "1"],
        &["--sampling-method", "dpm++2m_sde", "--inpaint-fill", "latent-noise", "--strength", "1"],
        &["--sampling-method", "dpm_adaptive", "--inpaint-fill", "latent-nothing"],
        &["--mask-blur", "0"],
        &["--only-masked", "--only-masked-padding", "8"],
    ];
    for more in more {
        let (image, text) = run(&dir, &[&["--mask", "m.png"], more].concat());
        let reach = if more.contains(&"--mask-blur") { 0 } else { 10 };
        let (inside, outside) = changed(&image, &given, reach);
        assert_eq!(outside, 0, "{more:?}");
        assert!(inside > 50, "{more:?}: only {inside} pixels changed");
        assert!(text.contains("Mask blur: ") && text.contains("Mask hash: "), "{text}");
    }
    let (image, text) = run(&dir, &["--mask", "m.png", "--mask-invert", "--mask-blur", "0", "--strength", "1"]);
    assert_eq!(changed(&image, &given, 0).0, 0);
    assert!(text.contains("Mask mode: Inpaint not masked"), "{text}");
    // All white is fine, and is not the picture any more.
    write(&dir, "white.png", &mask(SIZE, SIZE, 0..SIZE, 0..SIZE));
    assert!(changed(&run(&dir, &["--mask", "white.png", "--strength", "1"]).0, &given, 24).0 > 2000);
}

#[test]
fn only_masked_keeps_the_size_of_a_photograph() {
    let dir = Temp::new();
    let given = picture(2100, 300);
    write(&dir, "a.png", &given);
    write(&dir, "m.png", &mask(2100, 300, 24..40, 24..40));
    let (image, text) = run(&dir, &["--mask", "m.png", "--only-masked"]);
    let (inside, outside) = changed(&image, &given, 10);
    assert!(inside > 50 && outside == 0, "{inside} {outside}");
    assert!(text.contains("Inpaint area: Only masked, Masked area padding: 32"), "{text}");
    refused(&dir, &["-i", "a.png", "--mask", "m.png"], &["2100x300", "2048", "--only-masked"]);
}

#[test]
fn a_batch_equals_its_pictures_and_a_recipe_repeats_them() {
    let dir = Temp::new();
    write(&dir, "a.png", &picture(SIZE, SIZE));
    write(&dir, "m.png", &mask(SIZE, SIZE, 24..40, 24..40));
    let how = ["--mask", "m.png", "--inpaint-fill", "latent-noise", "--sampling-method", "euler_a", "--soft-mask"];
    let batch = ["-b", "2", "--batch-size", "2", "-o", "b%d.png"];
    let base = ["generate", "a red apple", "-i", "a.png", "-s", "3", "--steps", "4"];
    let output = lienzo(&dir, &[&base[..], &how, &batch].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let names: Vec<String> = dir.names().into_iter().filter(|n| n.starts_with('b')).collect();
    assert_eq!(names.len(), 2);
    let (second, text) = read(&dir, &names[1]);
    assert!(text.contains("Seed: 4"), "{text}");
    assert_eq!(run(&dir, &[&how[..], &["-s", "4"]].concat()).0, second);
    let files = ["-i", "a.png", "--mask", "m.png", "-o", "again.png"];
    let again = lienzo(&dir, &[&["generate", "--from-image", &names[1]], &files[..]].concat());
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(read(&dir, "again.png"), (second, text));
    let lacking = ["--from-image", &names[1], "-i", "a.png"];
    let output = lienzo(&dir, &[&["generate"], &lacking[..]].concat());
    assert!(output.status.code() == Some(2) && stderr(&output).contains("Mask blur"), "{}", stderr(&output));
}

/// A picture turned so that `side` is on its right, as rows of pixels.
fn turned(image: &Image, side: &str) -> Vec<Vec<[u8; 3]>> {
    let (w, h) = (image.width, image.height);
    let at = |x: usize, y: usize| -> [u8; 3] { std::array::from_fn(|c| image.rgb[(y * w + x) * 3 + c]) };
    match side {
        "left" => (0..h).map(|y| (0..w).rev().map(|x| at(x, y)).collect()).collect(),
        "right" => (0..h).map(|y| (0..w).map(|x| at(x, y)).collect()).collect(),
        "up" => (0..w).map(|x| (0..h).rev().map(|y| at(x, y)).collect()).collect(),
        _ => (0..w).map(|x| (0..h).map(|y| at(x, y)).collect()).collect(),
    }
}

/// Mean absolute difference of the columns `x` and `x + 1`.
fn step(rows: &[Vec<[u8; 3]>], x: usize) -> f64 {
    let sum: u32 = rows.iter().flat_map(|r| r[x].iter().zip(&r[x + 1]).map(|(a, b)| u32::from(a.abs_diff(*b)))).sum();
    f64::from(sum) / (3 * rows.len()) as f64
}

#[test]
fn outpainting_keeps_the_original_and_has_no_seam() {
    let dir = Temp::new();
    let made = ["generate", "a penguin on a blue background", "-s", "1", "-o", "made.png"];
    assert!(lienzo(&dir, &made).status.success());
    let (made, _) = read(&dir, "made.png");
    // How far the object is moved towards the side, so that the border lies beside it or goes through its middle.
    for (side, (x, y)) in [("left", (1, 0)), ("right", (-1, 0)), ("up", (0, 1)), ("down", (0, -1))] {
        for moved in [0, 32] {
            let given = lienzo::image::resize::window(&made, (x * moved, y * moved), (SIZE, SIZE));
            write(&dir, "a.png", &given);
            let (mut seam, mut beside) = (0.0, 0.0);
            for seed in ["3", "4", "5", "6"] {
                let grow = format!("{side}=32");
                let args = ["generate", "a penguin on a blue background", "-i", "a.png", "--outpaint", &grow];
                let output = lienzo(&dir, &[&args[..], &["-s", seed, "--overwrite", "-o", "out.png"]].concat());
                assert!(output.status.success(), "{}", stderr(&output));
                let (image, text) = read(&dir, "out.png");
                let rows = turned(&image, side);
                assert!(rows.iter().zip(turned(&given, side)).all(|(r, g)| r[..SIZE] == g[..]), "{side}");
                assert!(text.contains("Denoising strength: 0.8") && text.contains("CFG scale: 2,"), "{text}");
                seam += step(&rows, SIZE - 1);
                beside += (step(&rows, SIZE - 2) + step(&rows, SIZE)) / 2.0;
                // Nor is it only elsewhere: where there is but a background, it stays one.
                let most = (SIZE..SIZE + 31).map(|x| step(&rows, x)).fold(0.0, f64::max);
                assert!(moved > 0 || most < 8.0, "{side}, seed {seed}: a step of {most} levels further out");
            }
            // Pixels are whole levels: less than one beside the seam says nothing.
            assert!(seam <= 2.0 * beside.max(4.0), "{side}, moved by {moved}: {seam} at the seam, {beside} beside it");
        }
    }
}

#[test]
fn outpainting_is_repeatable_whatever_the_threads() {
    let dir = Temp::new();
    let made = ["generate", "a red apple on a blue background", "-s", "1", "--steps", "8", "-o", "a.png"];
    assert!(lienzo(&dir, &made).status.success());
    let (given, _) = read(&dir, "a.png");
    let (one, _) = run(&dir, &["--outpaint", "left=13,down=40", "-t", "1"]);
    assert_eq!(run(&dir, &["--outpaint", "left=13,down=40", "-t", "3"]).0, one);
    let (image, text) = run(&dir, &["--outpaint", "left=40,up=10,down=3", "--sampling-method", "euler"]);
    assert_eq!((image.width, image.height), (104, 77));
    assert_eq!(lienzo::image::resize::window(&image, (40, 10), (64, 64)), given);
    assert!(text.contains("Size: 104x77"), "{text}");
    std::fs::copy(dir.join("out.png"), dir.join("first.png")).expect("a copy");
    let again = ["generate", "--from-image", "first.png", "-i", "a.png", "-o", "again.png"];
    let output = lienzo(&dir, &again);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(read(&dir, "again.png"), (image, text));
}

#[test]
fn an_inpainting_model_is_known_by_its_shape() {
    let dir = Temp::new();
    let like = checkpoint::open(&golden("tiny-sd")).expect("the tiny model");
    let Some(Predictor::Unet(unet)) = like.networks.predictor.clone() else { panic!("a U-Net") };
    let predictor = Some(Predictor::Unet(UnetConfig { in_channels: 9, ..unet }));
    let model = Model::random("nine", Networks { predictor, ..like.networks.clone() });
    checkpoint::save_safetensors(&model, &dir.join("nine.safetensors"), Dtype::F16).expect("a model's file");
    let given = picture(SIZE, SIZE);
    write(&dir, "a.png", &given);
    write(&dir, "m.png", &mask(SIZE, SIZE, 24..40, 24..40));
    for strength in ["0.75", "1"] {
        let how = ["-m", "nine.safetensors", "--mask", "m.png", "--strength", strength];
        let (inside, outside) = changed(&run(&dir, &how).0, &given, 10);
        assert!(inside > 50 && outside == 0, "{strength}: {inside} {outside}");
    }
    let (image, text) = run(&dir, &["-m", "nine.safetensors", "-W", "64", "--outpaint", "down=16"]);
    assert_eq!((image.width, image.height), (64, 80));
    assert!(text.contains("Denoising strength: 1,"), "{text}");
    let alone = ["generate", "x", "-m", "nine.safetensors", "-W", "64", "-H", "64", "--steps", "2", "-b", "2"];
    let output = lienzo(&dir, &[&alone[..], &["--batch-size", "2"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_painted_is_refused() {
    let dir = Temp::new();
    write(&dir, "a.png", &picture(SIZE, SIZE));
    write(&dir, "black.png", &mask(SIZE, SIZE, 0..0, 0..0));
    write(&dir, "white.png", &mask(SIZE, SIZE, 0..SIZE, 0..SIZE));
    write(&dir, "wide.png", &mask(128, SIZE, 24..40, 24..40));
    refused(&dir, &["-i", "a.png", "--mask", "black.png"], &["nothing to repaint", "all black", "--mask-invert"]);
    refused(&dir, &["-i", "a.png", "--mask", "white.png", "--mask-invert"], &["nothing to repaint", "all white"]);
    refused(&dir, &["--mask", "white.png"], &["--mask needs the picture", "-i"]);
    refused(&dir, &["-i", "a.png", "--mask", "wide.png"], &["128x64", "64x64", "proportions"]);
    refused(&dir, &["-i", "a.png", "--mask", "white.png", "--mask-blur", "99"], &["--mask-blur 99", "0 to 64"]);
    refused(&dir, &["-i", "a.png", "--mask", "white.png", "--inpaint-fill", "red"], &["red", "latent-nothing"]);
    refused(&dir, &["-i", "a.png", "--outpaint", "left=0,right=0"], &["nothing to paint", "left=128,right=64"]);
    refused(&dir, &["-i", "a.png", "--outpaint", "left=2000"], &["2064x64", "2048"]);
    refused(&dir, &["--outpaint", "left=8"], &["--outpaint needs a picture", "-i"]);
    refused(&dir, &["-i", "a.png", "--mask", "white.png", "--outpaint", "left=8"], &["--outpaint", "--mask"]);
    // Another size in the same proportions is only worth a note.
    write(&dir, "large.png", &mask(2 * SIZE, 2 * SIZE, 48..80, 48..80));
    let args = ["generate", "x", "-i", "a.png", "--mask", "large.png", "--steps", "2"];
    let output = lienzo(&dir, &args);
    assert!(output.status.success() && stderr(&output).contains("the mask is resized"), "{}", stderr(&output));
}
