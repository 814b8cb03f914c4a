//! A name goes in, a model of that architecture at its full size, with random weights, comes out: what is timed
//! without a download.

use crate::checkpoint::Model;
use crate::error::{Error, Result, escape};
use crate::models::autoencoder::kl::KlConfig;
use crate::models::autoencoder::tiny::TinyConfig;
use crate::models::text::{MlpActivation, Padding, TextConfig};
use crate::models::unet::{AddedEmbedding, UnetBlock, UnetConfig};
use crate::models::{Autoencoder, Networks, Predictor};

/// Every architecture.
pub const ARCHITECTURES: [&str; 8] = ["sd15", "sd21", "sdxl", "ssd-1b", "sdxs", "bk-sdm-tiny", "taesd", "embedded"];

/// The model of a name.
///
/// # Errors
/// Usage: it is not known, with those that are.
pub fn architecture(name: &str) -> Result<Model> {
    let networks = match name {
        "sd15" => return Ok(Model::random_sd15()),
        "embedded" => return Model::embedded(),
        "sd21" => Networks::new(openclip(1024, 24, None, true), sd2(), KlConfig::default()),
        "sdxl" => xl(unet_xl([vec![0, 0], vec![2, 2], vec![10, 10]], [vec![10; 3], vec![2; 3], vec![0; 3]], Some(10))),
        "ssd-1b" => {
            xl(unet_xl([vec![0, 0], vec![2, 2], vec![4, 4]], [vec![4, 4, 10], vec![2, 1, 1], vec![0; 3]], None))
        }
        "sdxs" => pruned(&[(320, 8, false), (640, 8, true), (1280, 8, true)], tiny()),
        "bk-sdm-tiny" => {
            pruned(&[(320, 8, true), (640, 8, true), (1280, 8, true)], Autoencoder::Kl(KlConfig::default()))
        }
        // The autoencoder is what is timed; what stands beside it is SD 1.5's.
        "taesd" => {
            let sd15 = Networks::new(TextConfig::default(), UnetConfig::sd15(), KlConfig::default());
            Networks { autoencoder: Some(tiny()), ..sd15 }
        }
        other => {
            let all = ARCHITECTURES.join(", ");
            return Err(Error::of_option("arch", format!("{} is not known; there are {all}", escape(other))));
        }
    };
    Ok(Model::random(&format!("random-{name}"), networks))
}

fn tiny() -> Autoencoder {
    Autoencoder::Tiny(TinyConfig::default())
}

/// OpenCLIP's text encoder of this width, read one layer before the last.
fn openclip(width: usize, layers: usize, projection: Option<usize>, final_norm: bool) -> TextConfig {
    TextConfig {
        width,
        layers,
        heads: width / 64,
        mlp_width: 4 * width,
        activation: MlpActivation::Gelu,
        padding: Padding::Token(0),
        trained: 2,
        called: 2,
        final_norm,
        projection,
        ..TextConfig::default()
    }
}

fn sd2() -> UnetConfig {
    let levels = [(320, 5, true), (640, 10, true), (1280, 20, true), (1280, 20, false)];
    UnetConfig { linear: true, ..UnetConfig::new(&levels, 2, 1024) }
}

/// SDXL's three levels with these depths, full resolution first on the way down and last on the way up; without a
/// depth the middle is one ResNet.
fn unet_xl(down: [Vec<usize>; 3], up: [Vec<usize>; 3], middle: Option<usize>) -> UnetConfig {
    let channels = [320, 640, 1280];
    let block = |channels: usize, depths| UnetBlock { channels, heads: channels / 64, cross_only: false, depths };
    let middle = middle.map_or_else(|| vec![0], |depth| vec![depth, 0]);
    UnetConfig {
        down: channels.into_iter().zip(down).map(|(channels, depths)| block(channels, depths)).collect(),
        middle: Some(block(1280, middle)),
        up: channels.into_iter().rev().zip(up).map(|(channels, depths)| block(channels, depths)).collect(),
        context_width: 2048,
        linear: true,
        added: Some(AddedEmbedding { pooled: 1280, numbers: 6, each: 256 }),
        ..UnetConfig::sd15()
    }
}

fn xl(unet: UnetConfig) -> Networks {
    let l = TextConfig { trained: 2, called: 2, final_norm: false, ..TextConfig::default() };
    let vae = KlConfig { scaling: unet.latent_scale(), ..KlConfig::default() };
    let text = vec![l, openclip(1280, 32, Some(1280), false)];
    let (predictor, autoencoder) = (Some(Predictor::Unet(unet)), Some(Autoencoder::Kl(vae)));
    Networks { text, predictor, autoencoder, ..Networks::default() }
}

/// One ResNet a level and no middle.
fn pruned(levels: &[(usize, usize, bool)], autoencoder: Autoencoder) -> Networks {
    let unet = UnetConfig { middle: None, ..UnetConfig::new(levels, 1, 768) };
    let text = vec![TextConfig::default()];
    let predictor = Some(Predictor::Unet(unet));
    Networks { text, predictor, autoencoder: Some(autoencoder), ..Networks::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Millions of parameters as their authors counted them: of U-Nets, then of text encoders and autoencoders.
    #[test]
    fn every_architecture_has_as_many_parameters_as_the_published_one() {
        let count = |name: &str, part: &str| {
            let model = architecture(name).unwrap();
            let own = model.source.names().into_iter().filter(|n| n.starts_with(part));
            own.map(|n| model.source.info(n).unwrap().len()).sum::<usize>() as f64 / 1e6
        };
        for (name, part, millions) in [
            ("sd15", "unet.", 859.5),
            ("sd21", "unet.", 865.9),
            ("sdxl", "unet.", 2567.5),
            ("ssd-1b", "unet.", 1331.3),
            ("sdxs", "unet.", 315.7),
            ("bk-sdm-tiny", "unet.", 323.4),
            ("taesd", "vae.", 2.44),
            ("sdxl", "text_encoder_2.", 694.7),
            ("sdxl", "vae.", 83.7),
        ] {
            let own = count(name, part);
            assert!((own - millions).abs() < 0.06, "{name} {part} {own}");
        }
        assert!(architecture("sd3").err().unwrap().to_string().contains("ssd-1b"));
    }
}
