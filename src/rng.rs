//! Seeds in, standard normal numbers out, equal to those of the programs whose pictures people want to repeat.
//!
//! Noise is drawn in torch's element order. For latents that is NCHW: an image's vector is `[c][h][w]` flat,
//! whatever layout the engine's own tensors have.

pub mod brownian;
pub mod mt19937;
pub mod philox;

use crate::error::{Error, Result};

/// A generator of standard normal numbers. Where one call ends matters:
/// `randn(a); randn(b)` need not equal `randn(a + b)`.
pub trait NormalSource {
    /// Fills `out` with one draw, as one `torch.randn` call of that many elements does.
    fn randn(&mut self, out: &mut [f32]);
}

/// Which generator turns a seed into noise (`--rng`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RngKind {
    /// Philox 4x32-10 as CUDA's `randn` uses it: the webui's `NV` and stable-diffusion.cpp's `cuda`.
    #[default]
    Nv,
    /// torch's CPU generator, mt19937: ComfyUI, InvokeAI and the webui's `CPU`.
    Cpu,
}

impl RngKind {
    /// Reads `nv | cuda | gpu | cpu`, whatever the case; `gpu` and `cuda` mean `nv`.
    pub fn parse(name: &str) -> Result<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "nv" | "cuda" | "gpu" => Ok(Self::Nv),
            "cpu" => Ok(Self::Cpu),
            _ => Err(Error::usage(format!(
                "unknown noise source '{}': use nv (also called cuda or gpu) or cpu",
                crate::error::escape(name)
            ))),
        }
    }

    /// The name written in metadata: the webui's `NV` or `CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nv => "NV",
            Self::Cpu => "CPU",
        }
    }

    /// A fresh generator with this seed.
    pub fn generator(self, seed: u64) -> Box<dyn NormalSource + Send> {
        match self {
            Self::Nv => Box::new(philox::Philox::new(seed)),
            Self::Cpu => Box::new(mt19937::Mt19937::new(seed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sources() {
        for (name, kind) in [("nv", RngKind::Nv), ("GPU", RngKind::Nv), ("cuda", RngKind::Nv), ("CPU", RngKind::Cpu)] {
            assert_eq!(RngKind::parse(name).unwrap(), kind);
        }
        assert!(RngKind::parse("tpu\x1b").unwrap_err().to_string().contains("tpu\\u{1b}"));
    }
}
