//! A U-Net's configuration goes in, its blocks come out in the order in which they run: the one walk that all else
//! follows.

use super::UnetConfig;

/// ResNets of one resolution, each with the transformer that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnetBlock {
    /// Channels.
    pub channels: usize,
    /// Attention heads.
    pub heads: usize,
    /// Whether the first attention of each transformer block looks at the text too, instead of at the pixels.
    pub cross_only: bool,
    /// For each ResNet, the transformer blocks of the attention behind it; 0 is no attention.
    pub depths: Vec<usize>,
}

/// The transformer behind a ResNet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnetAttention {
    /// `down_blocks.0.attentions.1`.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// Heads.
    pub heads: usize,
    /// As in its block.
    pub cross_only: bool,
    /// Transformer blocks.
    pub depth: usize,
}

impl UnetAttention {
    /// Paths of the attentions that look at the text, in the order in which they run.
    pub fn cross(&self) -> impl Iterator<Item = String> {
        let parts: &[&str] = if self.cross_only { &["attn1", "attn2"] } else { &["attn2"] };
        (0..self.depth)
            .flat_map(move |n| parts.iter().map(move |a| format!("{}.transformer_blocks.{n}.{a}", self.name)))
    }
}

/// What one comes by on the way through a U-Net, between the first convolution and the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnetVisit {
    /// A ResNet and its transformer.
    Resnet {
        /// `down_blocks.0.resnets.1`.
        name: String,
        /// Channels that come out.
        channels: usize,
        /// The transformer.
        attention: Option<UnetAttention>,
        /// Whether what comes out of it waits for the way up.
        leaves: bool,
        /// Whether something that waits is joined to what goes in.
        takes: bool,
    },
    /// Halves the resolution; what comes out waits for the way up.
    Downsample {
        /// `down_blocks.0.downsamplers.0.conv`.
        name: String,
    },
    /// Doubles the resolution, to that of what waits next.
    Upsample {
        /// `up_blocks.0.upsamplers.0.conv`.
        name: String,
    },
}

impl UnetConfig {
    /// Everything between the first convolution and the last, in the order in which it runs.
    pub fn walk(&self) -> Vec<UnetVisit> {
        let mut all = Vec::new();
        for (i, block) in self.down.iter().enumerate() {
            all.extend(visits(block, &format!("down_blocks.{i}"), true, false));
            if i + 1 < self.down.len() {
                all.push(UnetVisit::Downsample { name: format!("down_blocks.{i}.downsamplers.0.conv") });
            }
        }
        if let Some(block) = &self.middle {
            all.extend(visits(block, "mid_block", false, false));
        }
        for (i, block) in self.up.iter().enumerate() {
            all.extend(visits(block, &format!("up_blocks.{i}"), false, true));
            if i + 1 < self.up.len() {
                all.push(UnetVisit::Upsample { name: format!("up_blocks.{i}.upsamplers.0.conv") });
            }
        }
        all
    }

    /// The transformers, in the order in which they run.
    pub fn attentions(&self) -> Vec<UnetAttention> {
        let attention = |visit| match visit {
            UnetVisit::Resnet { attention, .. } => attention,
            _ => None,
        };
        self.walk().into_iter().filter_map(attention).collect()
    }

    /// Paths (without `unet.`) and widths of the attentions that look at the text, in the order of *context*'s outputs.
    pub fn cross_attentions(&self) -> Vec<(String, usize)> {
        let all = self.attentions();
        all.iter().flat_map(|a| a.cross().map(|path| (path, a.channels))).collect()
    }

    /// ResNets (without `unet.`) with their channels, in the order of the columns of *time*.
    pub fn resnets(&self) -> Vec<(String, usize)> {
        let resnet = |visit| match visit {
            UnetVisit::Resnet { name, channels, .. } => Some((name, channels)),
            _ => None,
        };
        self.walk().into_iter().filter_map(resnet).collect()
    }

    /// Width of a row of *time*.
    pub fn time_width(&self) -> usize {
        self.resnets().iter().map(|(_, c)| c).sum()
    }
}

fn visits(block: &UnetBlock, name: &str, leaves: bool, takes: bool) -> impl Iterator<Item = UnetVisit> {
    let &UnetBlock { channels, heads, cross_only, .. } = block;
    block.depths.iter().enumerate().map(move |(r, &depth)| {
        let attention = (depth > 0).then(|| UnetAttention {
            name: format!("{name}.attentions.{r}"),
            channels,
            heads,
            cross_only,
            depth,
        });
        UnetVisit::Resnet { name: format!("{name}.resnets.{r}"), channels, attention, leaves, takes }
    })
}
