//! The tiny autoencoder's own names: numbers, of which the decoder's begin at 1 because 0 is its clamp.

use super::number;

/// In front of the encoder's and the decoder's names where both are in one file.
const PREFIXES: [(&str, &str); 4] = [
    ("taesd_encoder.", "encoder"),
    ("taesd_decoder.", "decoder"),
    ("tae.encoder.", "encoder"),
    ("tae.decoder.", "decoder"),
];

/// Whether names are those of a tiny autoencoder, in whatever layout.
pub(super) fn is_tiny(names: &[&str]) -> bool {
    let bare = |n: &&str| number(n).is_some_and(|(_, rest)| rest.starts_with("conv.") || rest == "weight");
    let prefixed = |n: &&str| PREFIXES.iter().any(|(p, _)| n.starts_with(p)) || n.contains("decoder.layers.");
    names.iter().any(prefixed) || names.iter().all(|n| number(n).is_some()) && names.iter().any(bare)
}

/// Canonical names of a tiny autoencoder's file: diffusers' (`decoder.layers.0`), with or without `vae.` in front,
/// TAESD's own with a prefix for each half, or one half's bare numbers.
pub(super) fn file(names: &[&str]) -> Vec<Option<String>> {
    let starts_at_0 = names.iter().any(|n| n.starts_with("0."));
    let one = |name: &&str| {
        let name = name.strip_prefix("vae.").or_else(|| name.strip_prefix("first_stage_model.")).unwrap_or(name);
        if name.starts_with("encoder.layers.") || name.starts_with("decoder.layers.") {
            return Some(format!("vae.{name}"));
        }
        let half = if starts_at_0 { "encoder" } else { "decoder" };
        let prefixed = PREFIXES.iter().find_map(|(p, half)| Some((*half, name.strip_prefix(p)?)));
        let (half, rest) = prefixed.unwrap_or((half, name));
        let (n, inner) = number(rest)?;
        let n = if half == "decoder" { n.checked_sub(1)? } else { n };
        Some(format!("vae.{half}.layers.{n}.{inner}"))
    };
    names.iter().map(one).collect()
}

/// A tensor below `first_stage_model.` of a whole checkpoint, where the tiny autoencoder has a prefix for each half.
pub(super) fn inside(rest: &str) -> Option<String> {
    let (half, rest) = PREFIXES.iter().find_map(|(p, half)| Some((*half, rest.strip_prefix(p)?)))?;
    let (n, inner) = number(rest)?;
    let n = if half == "decoder" { n.checked_sub(1)? } else { n };
    Some(format!("vae.{half}.layers.{n}.{inner}"))
}

/// The same back: `decoder.layers.0.weight` to `taesd_decoder.1.weight`.
pub(super) fn back(rest: &str) -> Option<String> {
    let (half, rest) = rest.split_once(".layers.")?;
    let (n, inner) = number(rest)?;
    Some(format!("taesd_{half}.{}.{inner}", if half == "decoder" { n + 1 } else { n }))
}
