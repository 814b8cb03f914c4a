//! A picture and what is to be done with it go in, a larger picture comes out: the webui's extras.

use super::No;
use super::fields::Fields;
use super::pictures::bytes_of;
use crate::error::escape;
use crate::image::parameters::Parameters;
use crate::image::read::Picture;
use crate::image::resize::{ResizeMode, fit, window};
use crate::image::{Image, PARAMETERS, PictureLimits, png_bytes};
use serde_json::{Value, json};
use std::path::Path;

/// Pixels of a result, and pictures of a request.
const MOST_PIXELS: f64 = 16_777_216.0;
const MOST_PICTURES: usize = 64;

/// How a picture is made larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upscaler {
    /// It stays as it is.
    None,
    /// Lanczos with three lobes.
    Lanczos,
    /// Each pixel becomes a square.
    Nearest,
}

const ALL: [(Upscaler, &str); 3] =
    [(Upscaler::None, "None"), (Upscaler::Lanczos, "Lanczos"), (Upscaler::Nearest, "Nearest")];

/// `upscalers`.
pub(super) fn list() -> Value {
    let one = |(_, name): &(Upscaler, &str)| json!({"name": name, "model_name": null, "model_path": null, "model_url": null, "scale": 4});
    ALL.iter().map(one).collect()
}

/// What is asked of each picture.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    first: Upscaler,
    second: Upscaler,
    /// How much of the second is seen.
    share: f64,
    size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Size {
    By(f64),
    To { width: usize, height: usize, crop: bool },
}

fn wish(f: &mut Fields) -> Wish {
    f.flag("show_extras_results", json!(true));
    for name in ["gfpgan_visibility", "codeformer_visibility"] {
        if f.number(name, json!(0)).is_some_and(|v| v > 0.0) {
            f.refuse(name, "restoring faces is not here: send 0");
        }
    }
    // How, and when, faces would be restored.
    f.number("codeformer_weight", json!(0));
    f.flag("upscale_first", json!(false));
    let by = f.number("upscaling_resize", json!(2)).unwrap_or(2.0);
    let (width, height) = (f.count("upscaling_resize_w", 512), f.count("upscaling_resize_h", 512));
    let crop = f.flag("upscaling_crop", json!(true)).unwrap_or(true);
    let size = match f.whole("resize_mode", 0) {
        None | Some(0) => {
            if !(0.05..=8.0).contains(&by) {
                f.refuse("upscaling_resize", "use 0.05 to 8");
            }
            Size::By(by)
        }
        Some(1) => {
            let side = |f: &mut Fields, name: &str, side: Option<usize>| {
                let side = side.unwrap_or(512);
                if !(1..=16_384).contains(&side) {
                    f.refuse(name, "use 1 to 16384");
                }
                side
            };
            Size::To {
                width: side(f, "upscaling_resize_w", width),
                height: side(f, "upscaling_resize_h", height),
                crop,
            }
        }
        Some(_) => {
            f.refuse("resize_mode", "use 0 (by a factor) or 1 (to a size)");
            Size::By(by)
        }
    };
    let (first, second) = (upscaler(f, "upscaler_1"), upscaler(f, "upscaler_2"));
    let share = f.number("extras_upscaler_2_visibility", json!(0)).unwrap_or(0.0);
    if !(0.0..=1.0).contains(&share) {
        f.refuse("extras_upscaler_2_visibility", "use 0 to 1");
    }
    Wish { first, second, share, size }
}

fn upscaler(f: &mut Fields, name: &str) -> Upscaler {
    let Some(wanted) = f.word(name, json!("None")) else { return Upscaler::None };
    match ALL.iter().find(|(_, own)| own.eq_ignore_ascii_case(wanted.trim())) {
        Some((upscaler, _)) => *upscaler,
        None => {
            f.refuse(name, format!("upscaler '{}' is not here: use None, Lanczos or Nearest", escape(&wanted)));
            Upscaler::None
        }
    }
}

/// `extra-single-image`: the larger picture's PNG.
///
/// # Errors
/// 422: what is wrong, by name.
pub(super) fn single(body: &[u8]) -> Result<Vec<u8>, No> {
    let mut f = Fields::read(body)?;
    let wish = wish(&mut f);
    let image = f.text("image", json!(""));
    let source = read(&mut f, &[json!("image")], image.as_deref().unwrap_or_default());
    let made = source.and_then(|source| done(&mut f, &[json!("image")], &source, &wish));
    f.done()?;
    // Without one something was wrong.
    made.ok_or_else(No::internal)
}

/// `extra-batch-images`: the larger pictures' PNGs. Their names are not looked at.
///
/// # Errors
/// 422: what is wrong, by name.
pub(super) fn batch(body: &[u8]) -> Result<Vec<Vec<u8>>, No> {
    let mut f = Fields::read(body)?;
    let wish = wish(&mut f);
    let list = f.list("imageList", json!([])).unwrap_or_default();
    if list.is_empty() || list.len() > MOST_PICTURES {
        f.refuse("imageList", format!("{} pictures: send 1 to {MOST_PICTURES}", list.len()));
    }
    let mut made = Vec::new();
    for (i, one) in list.iter().take(MOST_PICTURES).enumerate() {
        let place = [json!("imageList"), json!(i), json!("data")];
        let text = one.get("data").and_then(Value::as_str).unwrap_or_default();
        let Some(source) = read(&mut f, &place, text) else { continue };
        made.extend(done(&mut f, &place, &source, &wish));
    }
    f.done()?;
    Ok(made)
}

fn read(f: &mut Fields, place: &[Value], text: &str) -> Option<Picture> {
    let read = bytes_of(text).and_then(|bytes| {
        Picture::of_bytes(&bytes, Path::new("the picture"), PictureLimits::default()).map_err(|e| e.to_string())
    });
    read.map_err(|why| f.refuse_at(place, &why, "value_error")).ok()
}

fn done(f: &mut Fields, place: &[Value], source: &Picture, wish: &Wish) -> Option<Vec<u8>> {
    let made = enlarged(&source.image, wish).and_then(|image| {
        let text = source.texts.iter().find(|(key, _)| key == PARAMETERS).map(|(_, text)| noted(text, wish));
        png_bytes(&image, text.as_deref()).map_err(|e| e.to_string())
    });
    made.map_err(|why| f.refuse_at(place, &why, "value_error")).ok()
}

/// A picture's text with what was done to it.
fn noted(text: &str, wish: &Wish) -> String {
    let mut parameters = Parameters::parse(text);
    if wish.first == Upscaler::None || parameters.entries.is_empty() {
        return text.to_owned();
    }
    let name = ALL.iter().find(|(own, _)| *own == wish.first).map_or("", |(_, name)| name);
    if let Size::By(by) = wish.size {
        parameters.entries.push(("Postprocess upscale by".into(), by.to_string()));
    }
    parameters.entries.push(("Postprocess upscaler".into(), name.into()));
    parameters.to_text()
}

/// The picture as it was wished for. Without an upscaler it stays as it is, as in the webui.
fn enlarged(image: &Image, wish: &Wish) -> Result<Image, String> {
    if wish.first == Upscaler::None {
        return Ok(image.clone());
    }
    let (w, h) = (image.width as f64, image.height as f64);
    let (scale, window_of) = match wish.size {
        Size::By(by) => (by, None),
        Size::To { width, height, crop } => {
            ((width as f64 / w).max(height as f64 / h), crop.then_some((width, height)))
        }
    };
    let side = |n: f64| (n * scale).round().max(1.0);
    if side(w) * side(h) > MOST_PIXELS {
        return Err(format!("{}x{} pixels are too many: at most {MOST_PIXELS} are made", side(w), side(h)));
    }
    let size = (side(w) as usize, side(h) as usize);
    let mut out = resized(image, size, wish.first);
    if wish.second != Upscaler::None && wish.share > 0.0 {
        let other = resized(image, size, wish.second);
        let mixed = |(a, b): (&mut u8, u8)| {
            *a = (f64::from(*a) * (1.0 - wish.share) + f64::from(b) * wish.share).round() as u8;
        };
        out.rgb.iter_mut().zip(other.rgb).for_each(mixed);
    }
    Ok(match window_of {
        Some((width, height)) => {
            let at = |have: usize, want: usize| (have as isize - want as isize) / 2;
            window(&out, (at(out.width, width), at(out.height, height)), (width, height))
        }
        None => out,
    })
}

fn resized(image: &Image, size: (usize, usize), upscaler: Upscaler) -> Image {
    if upscaler != Upscaler::Nearest {
        return fit(image, size, ResizeMode::Just);
    }
    let (width, height) = size;
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            // The pixel under the middle of the new one.
            let at = |i: usize, new: usize, old: usize| ((2 * i + 1) * old / (2 * new)).min(old - 1);
            let from = (at(y, height, image.height) * image.width + at(x, width, image.width)) * 3;
            rgb.extend_from_slice(&image.rgb[from..from + 3]);
        }
    }
    Image { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::super::pictures::base64_of;
    use super::*;
    use crate::image::read_png_bytes;

    fn picture(width: usize, height: usize, text: Option<&str>) -> String {
        let rgb = (0..width * height * 3).map(|i| (i * 37 % 256) as u8).collect();
        base64_of(&png_bytes(&Image { width, height, rgb }, text).unwrap())
    }

    fn made(request: Value) -> Image {
        read_png_bytes(&single(request.to_string().as_bytes()).unwrap(), "x", PictureLimits::default()).unwrap().0
    }

    #[test]
    fn a_picture_grows_by_a_factor_or_to_a_size() {
        let image = picture(8, 6, None);
        let size = |request: Value| {
            let image = made(request);
            (image.width, image.height)
        };
        assert_eq!(size(json!({"image": image, "upscaler_1": "Lanczos"})), (16, 12));
        assert_eq!(size(json!({"image": image, "upscaler_1": "nearest", "upscaling_resize": 1.5})), (12, 9));
        assert_eq!(size(json!({"image": image})), (8, 6));
        let to = json!({"image": image, "upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_w": 20, "upscaling_resize_h": 20});
        assert_eq!(size(to.clone()), (20, 20));
        let mut whole = to;
        whole["upscaling_crop"] = json!(false);
        assert_eq!(size(whole), (27, 20));
    }

    #[test]
    fn nearest_repeats_pixels_and_two_upscalers_are_mixed() {
        let image = picture(4, 4, None);
        let ask = |first: &str, second: &str, share: f64| {
            made(
                json!({"image": image, "upscaler_1": first, "upscaler_2": second, "extras_upscaler_2_visibility": share}),
            )
        };
        let nearest = ask("Nearest", "None", 1.0);
        assert_eq!(nearest.rgb[0..3], nearest.rgb[3..6]);
        assert_eq!(nearest.rgb[0..24], nearest.rgb[24..48]);
        let lanczos = ask("Lanczos", "None", 0.5);
        let half = ask("Lanczos", "Nearest", 0.5);
        for ((a, b), mixed) in lanczos.rgb.iter().zip(&nearest.rgb).zip(&half.rgb) {
            assert!(mixed.abs_diff(((u16::from(*a) + u16::from(*b)) / 2) as u8) <= 1);
        }
        assert_eq!(ask("Lanczos", "Nearest", 1.0), nearest);
    }

    #[test]
    fn a_pictures_text_stays_and_says_what_was_done() {
        let image = picture(8, 8, Some("a cat\nSteps: 4, Seed: 1, Size: 8x8"));
        let png = single(json!({"image": image, "upscaler_1": "Lanczos"}).to_string().as_bytes()).unwrap();
        let texts = read_png_bytes(&png, "x", PictureLimits::default()).unwrap().1;
        assert_eq!(
            texts[0].1,
            "a cat\nSteps: 4, Seed: 1, Size: 8x8, Postprocess upscale by: 2, Postprocess upscaler: Lanczos"
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let image = picture(8, 8, None);
        for (field, value) in [
            ("upscaler_1", json!("R-ESRGAN 4x+")),
            ("upscaler_2", json!("SwinIR")),
            ("gfpgan_visibility", json!(0.5)),
            ("codeformer_visibility", json!(1)),
            ("upscaling_resize", json!(99)),
            ("extras_upscaler_2_visibility", json!(2)),
            ("resize_mode", json!(2)),
            ("image", json!("http://127.0.0.1/a.png")),
            ("image", json!(base64_of(b"no picture"))),
        ] {
            let mut request = json!({"image": image, "upscaler_1": "Lanczos"});
            request[field] = value;
            let no = single(request.to_string().as_bytes()).unwrap_err();
            assert_eq!((no.status.as_u16(), &no.detail[0]["loc"][1]), (422, &json!(field)));
        }
        let huge = json!({"image": image, "upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_w": 16000, "upscaling_resize_h": 16000});
        assert!(single(huge.to_string().as_bytes()).unwrap_err().detail.to_string().contains("too many"));
        let trap = json!({"imageList": [{"data": image, "name": "../../../etc/passwd"}], "upscaler_1": "Lanczos"});
        assert_eq!(batch(trap.to_string().as_bytes()).unwrap().len(), 1);
        let empty = batch(b"{\"imageList\": []}").unwrap_err();
        assert_eq!(empty.detail[0]["loc"][1], "imageList");
    }
}
