//! A job that ended and the request that it came from go in; OpenAI's answer comes out, whole or in events.

use super::request::{Format, Kind, Wanted};
use crate::error::{Error, Result};
use crate::image::resize::{ResizeMode, fit};
use crate::image::{Image, PictureLimits, png_bytes, read_png_bytes};
use crate::server::api::sdapi::pictures::base64_of;
use crate::server::jobs::record::{Job, Picture, PictureKind, Preview};
use jpeg_encoder::{ColorType, Encoder};
use serde_json::{Value, json};

/// A job's own pictures.
pub(super) fn pictures(job: &Job) -> Vec<&Picture> {
    let mut all: Vec<&Picture> = job.pictures.iter().filter(|p| p.kind == PictureKind::Picture).collect();
    all.sort_by_key(|p| p.index);
    all
}

/// A PNG in the format that was asked for.
///
/// # Errors
/// It cannot be written so.
pub(super) fn formatted(png: Vec<u8>, format: Format) -> Result<Vec<u8>> {
    let Format::Jpeg(quality) = format else { return Ok(png) };
    let image = read_png_bytes(&png, "the picture", PictureLimits::default())?.0;
    let side =
        |n: usize| u16::try_from(n).map_err(|_| Error::usage(format!("a side of {n} pixels is too long for JPEG")));
    let mut out = Vec::new();
    let encoder = Encoder::new(&mut out, quality);
    let encoded = encoder.encode(&image.rgb, side(image.width)?, side(image.height)?, ColorType::Rgb);
    encoded.map_err(|e| Error::other(format!("the picture cannot be written as JPEG: {e}")))?;
    Ok(out)
}

/// An unfinished picture in the size that it will have.
///
/// # Errors
/// It cannot be written so.
pub(super) fn unfinished(preview: &Preview, format: Format) -> Result<Vec<u8>> {
    let image: Image = read_png_bytes(&preview.png, "the preview", PictureLimits::default())?.0;
    let image = fit(&image, (preview.width, preview.height), ResizeMode::Just);
    formatted(png_bytes(&image, None)?, format)
}

/// What was counted: tokens of the prompts; pictures have none here.
pub(super) fn usage(tokens: usize) -> Value {
    json!({
        "input_tokens": tokens,
        "output_tokens": 0,
        "total_tokens": tokens,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": tokens},
    })
}

/// One picture as the answer's `data` has it.
pub(super) enum Sent {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Its address.
    Url(String),
}

/// The whole answer.
pub(super) fn whole(wanted: &Wanted, created: u64, sent: &[Sent], size: (usize, usize), tokens: usize) -> Value {
    let data: Vec<Value> = sent
        .iter()
        .map(|sent| match sent {
            Sent::Bytes(bytes) => json!({"b64_json": base64_of(bytes)}),
            Sent::Url(url) => json!({"url": url}),
        })
        .collect();
    json!({
        "created": created,
        "data": data,
        "size": format!("{}x{}", size.0, size.1),
        "quality": wanted.quality,
        "background": "opaque",
        "output_format": wanted.format.name(),
        "usage": usage(tokens),
    })
}

/// One event of a stream: an unfinished picture with its number, or a finished one with what was counted.
pub(super) fn event(
    wanted: &Wanted,
    kind: Kind,
    created: u64,
    bytes: &[u8],
    size: (usize, usize),
    which: std::result::Result<usize, usize>,
) -> String {
    let family = if kind == Kind::Generate { "image_generation" } else { "image_edit" };
    let name = format!("{family}.{}", if which.is_ok() { "partial_image" } else { "completed" });
    let mut data = json!({
        "type": name,
        "b64_json": base64_of(bytes),
        "created_at": created,
        "size": format!("{}x{}", size.0, size.1),
        "quality": wanted.quality,
        "background": "opaque",
        "output_format": wanted.format.name(),
    });
    match which {
        Ok(index) => data["partial_image_index"] = json!(index),
        Err(tokens) => data["usage"] = usage(tokens),
    }
    format!("event: {name}\ndata: {data}\n\n")
}
