//! The fields of a generation, an edit or a variation go in, an order and what the answer needs beside it come out.
//! Every field that would change a picture is honoured, or refused by its name; those that mean something to OpenAI's
//! models alone are passed over.

use super::Wrong;
use crate::diffusion::denoise::samplers::find_named;
use crate::diffusion::inpaint::Fill;
use crate::diffusion::preview::{Preview, PreviewBy};
use crate::error::escape;
use crate::image::mask::Mask;
use crate::image::read::alpha_of;
use crate::image::{PictureLimits, png_bytes};
use crate::job::order::Order;
use crate::job::word::{Seed, Shown};
use crate::server::api::sdapi::pictures::bytes_of;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Pictures of one request.
const MOST: i64 = 10;
/// How much of a picture changes where nothing is said: an edit without a mask, and a variation.
const EDITED: f32 = 0.75;
const VARIED: f32 = 0.7;
/// Alpha up to this is transparent.
const TRANSPARENT: u8 = 128;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A picture from a prompt.
    Generate,
    /// A picture that is changed, all of it or where it is transparent.
    Edit,
    /// A picture like another.
    Vary,
}

/// How pictures are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As they are kept.
    Png,
    /// With this quality, 1 to 100.
    Jpeg(u8),
}

impl Format {
    /// As the API calls it.
    pub(super) fn name(self) -> &'static str {
        if self == Self::Png { "png" } else { "jpeg" }
    }
}

/// A request, ready to become a job.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// What is to be drawn.
    pub(super) order: Order,
    /// The model that was named, if one was.
    pub(super) model: Option<String>,
    /// Whether pictures are told by their address.
    pub(super) url: bool,
    /// How they are sent.
    pub(super) format: Format,
    /// Whether the answer comes in events.
    pub(super) stream: bool,
    /// Unfinished pictures that it may bring.
    pub(super) partials: usize,
    /// Said again in the answer.
    pub(super) quality: String,
}

/// A request's fields, as they came: texts of a form are strings, and its files stand apart.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// By name.
    pub(super) fields: Map<String, Value>,
    /// In their order.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

/// What is done with pictures that were sent.
pub(super) type Bring<'a> = &'a dyn Fn(&[u8]) -> Result<String, String>;

/// Reads a request.
///
/// # Errors
/// 400: the first field that is wrong or cannot be honoured.
pub(super) fn wanted(kind: Kind, mut form: Form, bring: Bring<'_>) -> Result<Wanted, Wrong> {
    form.fields.retain(|_, value| !value.is_null());
    pictures_of_json(&mut form)?;
    let mut f = Reader(form.fields);
    let mut order = Order { count: Some(f.whole("n", 1..=MOST)?.unwrap_or(1) as usize), ..Order::default() };
    let prompt = f.text("prompt")?;
    order.prompt = match (kind, prompt) {
        (Kind::Vary, prompt) => Some(prompt.unwrap_or_default()),
        (_, Some(prompt)) if !prompt.trim().is_empty() => Some(prompt),
        _ => {
            return Err(Wrong::of("prompt", "Missing required parameter: 'prompt'.").code("missing_required_parameter"));
        }
    };
    if let Some((width, height)) = size(&mut f)? {
        (order.width, order.height) = (Some(width), Some(height));
    }
    own(&mut f, &mut order)?;
    if kind != Kind::Generate {
        pictures(&form.files, kind, &mut order, bring)?;
    } else if let Some((name, _)) = form.files.first() {
        return Err(Wrong::of(name, "a generation takes no pictures: use /v1/images/edits"));
    }
    let partials = f.whole("partial_images", 0..=3)?.unwrap_or(0) as usize;
    let stream = f.flag("stream")?.unwrap_or(false);
    if stream && partials > 0 {
        // The pictures between them are alike; the last one is the finished picture.
        let steps = order.steps.unwrap_or(20);
        let preview = Preview { every: (steps / (partials + 1)).max(1), by: PreviewBy::Colours };
        order.preview = Some(Shown { preview, keep: false });
    }
    let url = matches!(f.word("response_format", &["b64_json", "url"])?.as_deref(), Some("url"));
    let format = format(&mut f)?;
    if url && format != Format::Png {
        return Err(Wrong::of("output_format", "pictures that are told by their url are PNG: ask for b64_json"));
    }
    if url && stream {
        return Err(Wrong::of("response_format", "a stream brings its pictures: ask for b64_json"));
    }
    if f.word("background", &["auto", "opaque", "transparent"])?.as_deref() == Some("transparent") {
        return Err(Wrong::of("background", "transparent pictures cannot be drawn: use auto or opaque"));
    }
    let quality = f.text("quality")?.unwrap_or_else(|| "auto".into());
    let model = f.text("model")?.filter(|name| !name.is_empty());
    // They change nothing here: there is one quality, no filter of contents, and nobody is counted.
    for name in ["style", "moderation", "user", "input_fidelity"] {
        f.0.remove(name);
    }
    f.done()?;
    Ok(Wanted { order, model, url, format, stream, partials, quality })
}

/// What this server understands beside OpenAI's fields.
fn own(f: &mut Reader, order: &mut Order) -> Result<(), Wrong> {
    order.negative_prompt = f.text("negative_prompt")?;
    order.seed = f.whole("seed", -1..=i64::MAX)?.map(|seed| u64::try_from(seed).map_or(Seed::Random, Seed::Fixed));
    order.steps = f.whole("steps", 1..=1000)?.map(|steps| steps as usize);
    for name in ["guidance", "cfg_scale", "guidance_scale"] {
        order.guidance = f.number(name)?.or(order.guidance);
    }
    order.strength = f.number("strength")?;
    if let Some(name) = f.text("sampler")? {
        order.sampler = Some(find_named(&name).map_err(|e| Wrong::of("sampler", e.message()))?);
    }
    Ok(())
}

/// A size that was asked for.
fn size(f: &mut Reader) -> Result<Option<(usize, usize)>, Wrong> {
    let Some(text) = f.text("size")?.filter(|text| text != "auto" && !text.is_empty()) else { return Ok(None) };
    let side = |side: &str| side.trim().parse::<usize>().ok().filter(|side| *side <= 1 << 20);
    let sides = text.split_once(['x', 'X']).and_then(|(w, h)| side(w).zip(side(h)));
    let wrong =
        || Wrong::of("size", format!("Invalid value: '{}'. Use auto, or a size such as 512x512.", escape(&text)));
    sides.map(Some).ok_or_else(wrong)
}

fn format(f: &mut Reader) -> Result<Format, Wrong> {
    let quality = f.whole("output_compression", 0..=100)?;
    Ok(match f.word("output_format", &["png", "jpeg", "jpg", "webp"])?.as_deref() {
        None | Some("png") => Format::Png,
        Some("webp") => return Err(Wrong::of("output_format", "webp is not written here: use png or jpeg")),
        Some(_) => Format::Jpeg(quality.unwrap_or(100).clamp(1, 100) as u8),
    })
}

/// Newer programs send an edit's pictures in JSON: `images: [{image_url}]`, `mask: {image_url}`.
fn pictures_of_json(form: &mut Form) -> Result<(), Wrong> {
    let url = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(one) => one.get("image_url").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    for name in ["images", "image", "mask"] {
        let all = match form.fields.remove(name) {
            None => continue,
            Some(Value::Array(all)) => all,
            Some(one) => vec![one],
        };
        for one in &all {
            let read = url(one).ok_or_else(|| "send a picture as base64 or as a data: URL".to_owned());
            let bytes = read.and_then(|text| bytes_of(&text)).map_err(|why| Wrong::of(name, why))?;
            let name = if name == "mask" { "mask" } else { "image" };
            form.files.push((name.into(), bytes));
        }
    }
    Ok(())
}

/// The picture, and where it is painted anew: where the mask is transparent, or the picture itself if there is no mask.
fn pictures(files: &[(String, Vec<u8>)], kind: Kind, order: &mut Order, bring: Bring<'_>) -> Result<(), Wrong> {
    let named = |names: &[&str]| -> Vec<&Vec<u8>> {
        files.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, bytes)| bytes).collect()
    };
    if let Some((name, _)) = files.iter().find(|(name, _)| !["image", "image[]", "mask"].contains(&name.as_str())) {
        return Err(Wrong::of(name, format!("Unknown parameter: '{}'.", escape(name))).code("unknown_parameter"));
    }
    let [image] = named(&["image", "image[]"])[..] else {
        let count = named(&["image", "image[]"]).len();
        let missing = Wrong::of("image", "Missing required parameter: 'image'.").code("missing_required_parameter");
        let many = Wrong::of("image", format!("one picture is worked on at a time; {count} were sent"));
        return Err(if count == 0 { missing } else { many });
    };
    let brought = |name: &str, bytes: &[u8]| bring(bytes).map(PathBuf::from).map_err(|why| Wrong::of(name, why));
    order.init_image = Some(brought("image", image)?);
    if kind == Kind::Vary {
        if !named(&["mask"]).is_empty() {
            return Err(Wrong::of("mask", "a variation takes no mask: use /v1/images/edits"));
        }
        order.strength.get_or_insert(VARIED);
        return Ok(());
    }
    let masked = match named(&["mask"])[..] {
        [] => masked(image, false)?,
        [mask] => masked(mask, true)?,
        _ => return Err(Wrong::of("mask", "one mask is taken")),
    };
    let Some(mask) = masked else {
        order.strength.get_or_insert(EDITED);
        return Ok(());
    };
    (order.mask, order.mask_invert) = match mask {
        // Read by its alpha: what is opaque is painted, so that it has to be inverted.
        Where::Transparent(bytes) => (Some(brought("mask", bytes)?), Some(true)),
        Where::Everywhere(white) => (Some(brought("mask", &white)?), Some(false)),
    };
    // What is kept stays as it is, byte for byte.
    (order.mask_blur, order.inpaint_fill) = (Some(0), Some(Fill::Original));
    order.strength.get_or_insert(1.0);
    Ok(())
}

/// Where a picture is painted anew.
enum Where<'a> {
    Transparent(&'a [u8]),
    /// A white mask of its size.
    Everywhere(Vec<u8>),
}

/// What a file's transparency says; `must` where it is there for nothing else.
fn masked(bytes: &[u8], must: bool) -> Result<Option<Where<'_>>, Wrong> {
    let name = if must { "mask" } else { "image" };
    let read = alpha_of(bytes, Path::new("the picture"), PictureLimits::default());
    let (width, height, alpha) = read.map_err(|e| Wrong::of(name, e.to_string()))?;
    let clear = |alpha: &u8| *alpha <= TRANSPARENT;
    let alpha = alpha.unwrap_or_default();
    if !alpha.iter().any(clear) {
        if !must {
            return Ok(None);
        }
        let message = "the mask has no transparent part: make transparent what is to be painted anew, and leave the rest \
                       opaque (black and white alone say nothing here)";
        return Err(Wrong::of("mask", message));
    }
    if !alpha.iter().all(clear) {
        return Ok(Some(Where::Transparent(bytes)));
    }
    let white = png_bytes(&Mask::filled(width, height, 255).image(), None);
    white.map(|png| Some(Where::Everywhere(png))).map_err(|e| Wrong::of(name, e.to_string()))
}

/// Fields, taken out one by one: what is left at the end is unknown.
struct Reader(Map<String, Value>);

impl Reader {
    fn text(&mut self, name: &str) -> Result<Option<String>, Wrong> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => {
                Err(Wrong::of(name, format!("Invalid type for '{name}': expected a string.")).code("invalid_type"))
            }
        }
    }

    fn word(&mut self, name: &str, known: &[&str]) -> Result<Option<String>, Wrong> {
        let Some(word) = self.text(name)?.filter(|word| !word.is_empty()) else { return Ok(None) };
        let word = word.to_ascii_lowercase();
        if known.contains(&word.as_str()) {
            return Ok(Some(word));
        }
        let known = known.join(", ");
        Err(Wrong::of(name, format!("Invalid value: '{}'. Supported values are: {known}.", escape(&word)))
            .code("invalid_value"))
    }

    fn number(&mut self, name: &str) -> Result<Option<f32>, Wrong> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let number = match &value {
            Value::String(text) => text.trim().parse::<f64>().ok(),
            other => other.as_f64(),
        };
        let wrong = || Wrong::of(name, format!("Invalid type for '{name}': expected a number.")).code("invalid_type");
        number.filter(|v| v.is_finite()).map(|v| Some(v as f32)).ok_or_else(wrong)
    }

    fn whole(&mut self, name: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, Wrong> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let whole = match &value {
            Value::String(text) => text.trim().parse::<i64>().ok(),
            other => other
                .as_i64()
                .or_else(|| other.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9e15).map(|v| v as i64)),
        };
        let Some(whole) = whole else {
            return Err(
                Wrong::of(name, format!("Invalid type for '{name}': expected an integer.")).code("invalid_type")
            );
        };
        if !range.contains(&whole) {
            let message = format!("Invalid '{name}': {whole} is not between {} and {}.", range.start(), range.end());
            return Err(Wrong::of(name, message).code("invalid_value"));
        }
        Ok(Some(whole))
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Wrong> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(Some(text == "true")),
            Some(_) => {
                Err(Wrong::of(name, format!("Invalid type for '{name}': expected a boolean.")).code("invalid_type"))
            }
        }
    }

    fn done(self) -> Result<(), Wrong> {
        match self.0.keys().next() {
            Some(name) => {
                Err(Wrong::of(name, format!("Unknown parameter: '{}'.", escape(name))).code("unknown_parameter"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::cell::RefCell;

    fn form(fields: Value, files: &[(&str, &[u8])]) -> Form {
        let Value::Object(fields) = fields else { panic!("an object") };
        Form { fields, files: files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect() }
    }

    /// The request, and what was brought, by number.
    fn read(kind: Kind, form: Form) -> Result<(Wanted, Vec<Vec<u8>>), Wrong> {
        let brought = RefCell::new(Vec::new());
        let wanted = wanted(kind, form, &|bytes| {
            brought.borrow_mut().push(bytes.to_vec());
            Ok((brought.borrow().len() - 1).to_string())
        })?;
        Ok((wanted, brought.into_inner()))
    }

    fn generated(fields: Value) -> Result<Wanted, Wrong> {
        read(Kind::Generate, form(fields, &[])).map(|(wanted, _)| wanted)
    }

    /// A PNG of four pixels with this alpha.
    fn png(alpha: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, 2, 2);
        encoder.set_color(if alpha.is_some() { png::ColorType::Rgba } else { png::ColorType::Rgb });
        let mut writer = encoder.write_header().unwrap();
        let pixels = (0..4u8).flat_map(|i| [i, 9, 9].into_iter().chain(alpha.map(|a| a[usize::from(i)])));
        writer.write_image_data(&pixels.collect::<Vec<u8>>()).unwrap();
        writer.finish().unwrap();
        out
    }

    #[test]
    fn what_gpt_image_clients_send_is_an_order() {
        let sent = json!({
            "model": "gpt-image-1", "prompt": "a red apple", "size": "64x128", "quality": "low", "background": "auto",
            "moderation": "auto", "output_format": "png", "user": "me", "n": 2, "style": null,
        });
        let w = generated(sent).unwrap();
        assert_eq!((w.order.width, w.order.height, w.order.count), (Some(64), Some(128), Some(2)));
        assert_eq!((w.order.prompt.as_deref(), w.model.as_deref()), (Some("a red apple"), Some("gpt-image-1")));
        assert_eq!((w.format, w.url, w.stream, w.quality.as_str()), (Format::Png, false, false, "low"));
        let w = generated(json!({"prompt": "x", "size": "auto", "response_format": "url"})).unwrap();
        assert_eq!((w.order.width, w.order.steps, w.url, w.order.count), (None, None, true, Some(1)));
        let own = json!({"prompt": "x", "seed": 7, "steps": 5, "guidance": 3.5, "negative_prompt": "y", "sampler": "euler_a"});
        let order = generated(own).unwrap().order;
        assert_eq!((order.seed, order.steps, order.guidance), (Some(Seed::Fixed(7)), Some(5), Some(3.5)));
        let w = generated(json!({"prompt": "x", "stream": true, "partial_images": 3, "steps": 20})).unwrap();
        assert_eq!((w.stream, w.partials, w.order.preview.unwrap().preview.every), (true, 3, 5));
        let w = generated(json!({"prompt": "x", "output_format": "jpeg", "output_compression": 80})).unwrap();
        assert_eq!(w.format, Format::Jpeg(80));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (fields, name) in [
            (json!({}), "prompt"),
            (json!({"prompt": "  "}), "prompt"),
            (json!({"prompt": 3}), "prompt"),
            (json!({"prompt": "x", "n": 0}), "n"),
            (json!({"prompt": "x", "n": 100000}), "n"),
            (json!({"prompt": "x", "n": 1.5}), "n"),
            (json!({"prompt": "x", "size": "huge"}), "size"),
            (json!({"prompt": "x", "size": "9999999x64"}), "size"),
            (json!({"prompt": "x", "size": "-64x64"}), "size"),
            (json!({"prompt": "x", "background": "transparent"}), "background"),
            (json!({"prompt": "x", "output_format": "webp"}), "output_format"),
            (json!({"prompt": "x", "output_format": "jpeg", "response_format": "url"}), "output_format"),
            (json!({"prompt": "x", "response_format": "file"}), "response_format"),
            (json!({"prompt": "x", "stream": "perhaps"}), "stream"),
            (json!({"prompt": "x", "stream": true, "partial_images": 4}), "partial_images"),
            (json!({"prompt": "x", "sampler": "warp"}), "sampler"),
            (json!({"prompt": "x", "a_field_of_tomorrow": 1}), "a_field_of_tomorrow"),
        ] {
            assert_eq!(generated(fields.clone()).unwrap_err().param.as_deref(), Some(name), "{fields}");
        }
    }

    #[test]
    fn transparent_is_painted_anew_and_the_rest_is_kept() {
        let (image, mask) = (png(None), png(Some([0, 255, 0, 255])));
        for order_of_fields in [[0, 1], [1, 0]] {
            let files: [(&str, &[u8]); 2] = [("image[]", &image), ("mask", &mask)];
            let (w, brought) =
                read(Kind::Edit, form(json!({"prompt": "a banana", "n": "1"}), &order_of_fields.map(|i| files[i])))
                    .unwrap();
            assert_eq!(brought, [image.clone(), mask.clone()]);
            assert_eq!((w.order.mask_invert, w.order.mask_blur, w.order.strength), (Some(true), Some(0), Some(1.0)));
            assert_eq!(w.order.mask.unwrap().to_str(), Some("1"));
        }
        // The picture's own transparency, where there is no mask.
        let clear = png(Some([255, 0, 255, 255]));
        let (w, brought) = read(Kind::Edit, form(json!({"prompt": "x"}), &[("image", &clear)])).unwrap();
        assert_eq!((brought, w.order.mask_invert), (vec![clear.clone(), clear], Some(true)));
        // Transparent all over: everything.
        let all = png(Some([0; 4]));
        let (w, brought) =
            read(Kind::Edit, form(json!({"prompt": "x"}), &[("image", &image), ("mask", &all)])).unwrap();
        let white = crate::image::read_png_bytes(&brought[1], "x", PictureLimits::default()).unwrap().0;
        assert!(white.rgb.iter().all(|v| *v == 255) && w.order.mask_invert == Some(false));
        // Without any of this the whole picture is changed a little.
        let (w, _) = read(Kind::Edit, form(json!({"prompt": "x"}), &[("image", &image)])).unwrap();
        assert_eq!((w.order.mask, w.order.strength), (None, Some(0.75)));
        let (w, _) = read(Kind::Vary, form(json!({"n": "2"}), &[("image", &image)])).unwrap();
        assert_eq!((w.order.prompt.as_deref(), w.order.strength, w.order.count), (Some(""), Some(0.7), Some(2)));
    }

    #[test]
    fn a_mask_that_says_nothing_is_refused_with_a_hint() {
        let image = png(None);
        for mask in [png(None), png(Some([255; 4])), png(Some([200, 255, 255, 255]))] {
            let wrong =
                read(Kind::Edit, form(json!({"prompt": "x"}), &[("image", &image), ("mask", &mask)])).unwrap_err();
            assert!(wrong.param.as_deref() == Some("mask") && wrong.message.contains("make transparent"), "{wrong:?}");
        }
        let none: [(&str, &[u8]); 0] = [];
        assert_eq!(read(Kind::Edit, form(json!({"prompt": "x"}), &none)).unwrap_err().param.as_deref(), Some("image"));
        let two = [("image[]", &image[..]), ("image[]", &image[..])];
        assert!(read(Kind::Edit, form(json!({"prompt": "x"}), &two)).unwrap_err().message.contains("2 were sent"));
        let other = [("image", &image[..]), ("picture", &image[..])];
        assert_eq!(
            read(Kind::Edit, form(json!({"prompt": "x"}), &other)).unwrap_err().param.as_deref(),
            Some("picture")
        );
    }

    #[test]
    fn an_edit_may_come_as_json() {
        use crate::server::api::sdapi::pictures::base64_of;
        let (image, mask) = (png(None), png(Some([0, 255, 0, 255])));
        let url = |bytes: &[u8]| json!({"image_url": format!("data:image/png;base64,{}", base64_of(bytes))});
        let sent = json!({"prompt": "x", "images": [url(&image)], "mask": url(&mask)});
        assert_eq!(read(Kind::Edit, form(sent, &[])).unwrap().1, [image, mask]);
        let fetched = json!({"prompt": "x", "images": [{"image_url": "http://127.0.0.1/a.png"}]});
        assert!(read(Kind::Edit, form(fetched, &[])).unwrap_err().message.contains("never fetched"));
    }
}
