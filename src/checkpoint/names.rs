//! The names of a checkpoint's tensors, in any layout, to the one canonical naming, and back to the original layout.
//!
//! Canonical is diffusers' naming with the component in front. One file a layout; a tensor of the file may stand for
//! several of ours, or for one of another shape.

mod diffusers;
mod openclip;
mod original;
mod refuse;
mod taesd;
mod upscaler;

pub use diffusers::component;
pub use original::Original;
pub use upscaler::upscaler;

use original::{Blocks, CLIP, UNET, VAE, vae_levels, vae_name};

/// What of a file's tensor a canonical one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// All of it.
    Whole,
    /// One of three equal parts along dimension 0.
    Third(usize),
    /// A matrix's transpose.
    Transposed,
}

/// A canonical name, and what of the file's tensor it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// The canonical name.
    pub name: String,
    /// What of the tensor it is.
    pub view: Portion,
}

/// Under one name as it is, or nothing.
pub fn whole(name: Option<String>) -> Vec<Canonical> {
    name.map(|name| Canonical { name, view: Portion::Whole }).into_iter().collect()
}

/// The names of a file, one list a tensor (empty for what no model needs: schedule buffers, EMA copies), and which text
/// encoders are in OpenCLIP's layout.
pub struct Naming {
    /// By tensor.
    pub names: Vec<Vec<Canonical>>,
    /// Whether the n-th text encoder is OpenCLIP's.
    pub openclip: [bool; 2],
}

/// Replaces the leading path `from` by `to` for the first pair that fits.
fn swap(rest: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(from, to)| {
        let tail = rest.strip_prefix(from)?;
        tail.starts_with('.').then(|| format!("{to}{tail}"))
    })
}

/// The same from right to left.
fn swap_back(rest: &str, pairs: &[(&str, &str)]) -> Option<String> {
    pairs.iter().find_map(|(to, from)| {
        let tail = rest.strip_prefix(from)?;
        tail.starts_with('.').then(|| format!("{to}{tail}"))
    })
}

/// `12.rest` to `(12, rest)`. Numbers are capped: no model of the family has a thousand blocks.
fn number(text: &str) -> Option<(usize, &str)> {
    let (n, rest) = text.split_once('.')?;
    Some((n.parse().ok().filter(|&n| n < 1000)?, rest))
}

/// In front of text encoders' names in files of one piece: component, and whether the layout is OpenCLIP's.
const TEXT: [(&str, usize, bool); 6] = [
    (CLIP, 0, false),
    ("cond_stage_model.model.", 0, true),
    ("conditioner.embedders.0.transformer.", 0, false),
    ("conditioner.embedders.0.model.", 0, true),
    ("conditioner.embedders.1.transformer.", 1, false),
    ("conditioner.embedders.1.model.", 1, true),
];
/// Canonical components of text encoders.
const ENCODERS: [&str; 2] = ["text_encoder", "text_encoder_2"];

/// The canonical names of a single file's tensors.
///
/// # Errors
/// A sentence when the names show a kind of file that is known and not read.
pub fn single_file(names: &[&str]) -> Result<Naming, String> {
    refuse::other_kinds(names)?;
    Ok(naming(names))
}

/// The same of tensors that are no whole file.
pub fn naming(names: &[&str]) -> Naming {
    let blocks = Blocks::new(names.iter().copied());
    let levels = vae_levels(names.iter().filter_map(|n| n.strip_prefix(VAE)));
    let mut openclip = [false; 2];
    let mut one = |name: &&str| {
        if let Some(rest) = name.strip_prefix(UNET) {
            return whole(blocks.name(rest).map(|n| format!("unet.{n}")));
        }
        if let Some(rest) = name.strip_prefix(VAE) {
            return whole(taesd::inside(rest).or_else(|| vae_name(rest, levels)));
        }
        for (prefix, n, open) in TEXT {
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            openclip[n] |= open;
            return if open { openclip::name(ENCODERS[n], rest) } else { whole(component(ENCODERS[n], rest)) };
        }
        let Some((part, rest)) = name.split_once('.') else { return Vec::new() };
        let ours = ["unet", "vae"].iter().chain(&ENCODERS).any(|p| *p == part);
        whole(if ours { component(part, rest) } else { None })
    };
    Naming { names: names.iter().map(&mut one).collect(), openclip }
}

/// The canonical names of a file that holds a VAE: `first_stage_model.`, `vae.`, or bare in either layout; or a tiny
/// one.
pub fn vae_file(names: &[&str]) -> Vec<Option<String>> {
    if taesd::is_tiny(names) {
        return taesd::file(names);
    }
    let prefix = [VAE, "vae."].into_iter().find(|p| names.iter().any(|n| n.starts_with(p))).unwrap_or("");
    let bare: Vec<Option<&str>> = names.iter().map(|n| n.strip_prefix(prefix)).collect();
    let levels = vae_levels(bare.iter().copied().flatten());
    let diffusers = bare.iter().flatten().any(|n| n.contains("mid_block."));
    bare.into_iter().map(|name| if diffusers { component("vae", name?) } else { vae_name(name?, levels) }).collect()
}

/// The canonical names of a file that holds a U-Net: with a prefix, or bare in either layout.
pub fn unet_file(names: &[&str]) -> Vec<Vec<Canonical>> {
    let any = |prefix: &str| names.iter().any(|n| n.starts_with(prefix));
    let prefix = if any(UNET) || any("unet.") {
        ""
    } else if any("input_blocks.") {
        UNET
    } else {
        "unet."
    };
    let prefixed: Vec<String> = names.iter().map(|n| format!("{prefix}{n}")).collect();
    let mut named = naming(&prefixed.iter().map(String::as_str).collect::<Vec<_>>()).names;
    named.iter_mut().for_each(|list| list.retain(|n| n.name.starts_with("unet.")));
    named
}

/// The canonical names of a file that holds one text encoder, as the `n`-th of a model; and whether it is OpenCLIP's.
pub fn text_file(names: &[&str], n: usize) -> (Vec<Vec<Canonical>>, bool) {
    let open = names.iter().any(|n| n.contains("transformer.resblocks."));
    let prefixes = ["text_encoders.clip_l.", "text_encoders.clip_g.", "clip_l.", "clip_g.", "transformer.", "model."];
    let prefixes: Vec<&str> = TEXT.iter().map(|t| t.0).chain(prefixes).collect();
    let strip = |name: &str| {
        let own = |prefix: &&&str| name.starts_with(**prefix) && !name.starts_with("transformer.resblocks.");
        prefixes.iter().find(own).map_or(0, |prefix| prefix.len())
    };
    let one = |name: &&str| {
        let rest = &name[strip(name)..];
        if open { openclip::name(ENCODERS[n], rest) } else { whole(component(ENCODERS[n], rest)) }
    };
    (names.iter().map(one).collect(), open)
}
