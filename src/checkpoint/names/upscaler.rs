//! The names of upscalers, in every layout, to canonical ones: those of the networks' own code as it is now.

use super::number;

/// How RealSR and BSRGAN call what is not in a block.
const RENAMED: [(&str, &str); 5] = [
    ("trunk_conv", "conv_body"),
    ("upconv1", "conv_up1"),
    ("upconv2", "conv_up2"),
    ("upconv3", "conv_up3"),
    ("HRconv", "conv_hr"),
];

/// Names that show an upscaler which is known and not read here.
const OTHERS: [(&str, &str); 14] = [
    ("attn.attn_mask_", "DAT"),
    ("layers.0.residual_group", "SwinIR, HAT or another transformer"),
    ("residual_layer.", "OmniSR"),
    ("block_1.c1_r.", "SPAN"),
    ("feats.0.weight", "PLKSR"),
    ("dccm", "RealPLKSR"),
    ("unet1.conv1", "RealCUGAN"),
    ("upconv7", "waifu2x"),
    ("relative_position_index", "a transformer"),
    ("body.0.body.0.weight", "EDSR or RCAN"),
    ("conv1x1.weight", "ESRGAN+"),
    ("model.diffusion_model.", "a Stable Diffusion checkpoint"),
    ("lora_", "a LoRA"),
    ("control_model.", "a ControlNet"),
];

/// The canonical names of a file's tensors, below `upscaler.`; none for what is not needed.
///
/// # Errors
/// A sentence that names the kind of file where it is none that is read.
pub fn upscaler(names: &[&str]) -> Result<Vec<Option<String>>, String> {
    let bare: Vec<&str> = names.iter().map(|n| n.strip_prefix("module.").unwrap_or(n)).collect();
    let has = |name: &str| bare.contains(&name);
    if let Some((_, what)) = OTHERS.iter().find(|(mark, _)| bare.iter().any(|n| n.contains(mark))) {
        return Err(format!("is {what}, which is not read: only Compact (SRVGGNet) and RRDB (ESRGAN) upscalers are"));
    }
    let name: &dyn Fn(&str) -> Option<String> = if has("body.0.weight") && has("body.1.weight") {
        &|name| name.starts_with("body.").then(|| name.to_owned())
    } else if has("conv_first.weight") {
        &|name| Some(renamed(name))
    } else if has("model.0.weight") && bare.iter().any(|n| n.starts_with("model.1.sub.")) {
        let old = Old::of(&bare);
        return Ok(bare.iter().map(|name| below(old.name(name))).collect());
    } else if has("body.0.weight") {
        return Err("is a Compact network without PReLU, which is not read".into());
    } else {
        let first = names.first().map_or_else(|| "nothing".into(), |n| crate::error::escape(n));
        return Err(format!(
            "is no upscaler that is read, Compact (SRVGGNet) or RRDB (ESRGAN): its first tensor is {first}"
        ));
    };
    Ok(bare.iter().map(|n| below(name(n))).collect())
}

fn below(name: Option<String>) -> Option<String> {
    name.map(|name| format!("upscaler.{name}"))
}

/// `RRDB_trunk.3.RDB1.conv2.weight` and what is around it.
fn renamed(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("RRDB_trunk.") {
        return format!("body.{}", rest.replace("RDB", "rdb"));
    }
    let (head, tail) = name.split_once('.').unwrap_or((name, ""));
    let head = RENAMED.iter().find(|(from, _)| *from == head).map_or(head, |(_, to)| to);
    format!("{head}.{tail}")
}

/// The layout of 2018: numbers in one sequence, of which upsamplings and activations take some.
struct Old {
    /// Number of the convolution behind the last block.
    blocks: usize,
    /// Numbers of the convolutions behind the sum: those after an upsampling, the one at full size, the last.
    after: Vec<usize>,
}

impl Old {
    fn of(names: &[&str]) -> Self {
        let top = |n: &&str| number(n.strip_prefix("model.")?).filter(|(n, _)| *n > 1).map(|(n, _)| n);
        let mut after: Vec<usize> = names.iter().filter_map(top).collect();
        after.sort_unstable();
        after.dedup();
        let block = |n: &&str| number(n.strip_prefix("model.1.sub.")?).map(|(n, _)| n);
        Self { blocks: names.iter().filter_map(block).max().unwrap_or(0), after }
    }

    fn name(&self, name: &str) -> Option<String> {
        if let Some(rest) = name.strip_prefix("model.0.") {
            return Some(format!("conv_first.{rest}"));
        }
        if let Some(rest) = name.strip_prefix("model.1.sub.") {
            let (n, rest) = number(rest)?;
            return Some(match n == self.blocks {
                true => format!("conv_body.{rest}"),
                // A convolution stands in a list with its activation: conv1.0.weight.
                false => format!("body.{n}.{}", rest.replace("RDB", "rdb").replace(".0.", ".")),
            });
        }
        let (n, rest) = number(name.strip_prefix("model.")?)?;
        let place = self.after.iter().position(|m| *m == n)?;
        let doublings = self.after.len().checked_sub(2)?;
        Some(match place {
            _ if place < doublings => format!("conv_up{}.{rest}", place + 1),
            _ if place == doublings => format!("conv_hr.{rest}"),
            _ => format!("conv_last.{rest}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_of_an_rrdb_has_the_same_canonical_names() {
        let old = [
            ("model.0.weight", "upscaler.conv_first.weight"),
            ("model.1.sub.0.RDB1.conv1.0.weight", "upscaler.body.0.rdb1.conv1.weight"),
            ("model.1.sub.1.bias", "upscaler.conv_body.bias"),
            ("model.3.weight", "upscaler.conv_up1.weight"),
            ("model.6.weight", "upscaler.conv_up2.weight"),
            ("model.8.bias", "upscaler.conv_hr.bias"),
            ("model.10.bias", "upscaler.conv_last.bias"),
        ];
        let bsrgan = [
            ("conv_first.weight", "upscaler.conv_first.weight"),
            ("module.RRDB_trunk.0.RDB3.conv5.bias", "upscaler.body.0.rdb3.conv5.bias"),
            ("trunk_conv.weight", "upscaler.conv_body.weight"),
            ("upconv2.weight", "upscaler.conv_up2.weight"),
            ("HRconv.bias", "upscaler.conv_hr.bias"),
            ("conv_last.bias", "upscaler.conv_last.bias"),
        ];
        for layout in [&old[..], &bsrgan] {
            let names: Vec<&str> = layout.iter().map(|(name, _)| *name).collect();
            let got = upscaler(&names).unwrap();
            for ((_, want), got) in layout.iter().zip(got) {
                assert_eq!(got.as_deref(), Some(*want));
            }
        }
    }

    #[test]
    fn other_kinds_are_named() {
        for (name, what) in [
            ("layers.0.blocks.2.attn.attn_mask_0", "DAT"),
            ("model.diffusion_model.out.0.bias", "Stable Diffusion"),
            ("something.else", "first tensor is something.else"),
        ] {
            let why = upscaler(&[name]).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }
}
