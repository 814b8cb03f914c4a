//! A full-size model made of seeded random weights, in no file: what `bench --arch sd15` times, without a download.
//!
//! Matrices are uniform with variance 1/inputs, so that activations stay of order 1; scales are near 1, shifts near 0.

use super::{Model, arch};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::models::Networks;
use crate::models::autoencoder::kl::KlConfig;
use crate::models::text::TextConfig;
use crate::models::unet::UnetConfig;
use crate::weights::{SourceId, TensorInfo, WeightSource};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tensors whose elements are computed when they are read: the same for the same name, always.
struct Random {
    id: SourceId,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Random {
    fn info_or_error(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| Error::other(format!("the random model has no tensor {name}")))
    }
}

impl WeightSource for Random {
    fn id(&self, _: &str) -> SourceId {
        self.id
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        let rows = self.info_or_error(name)?.shape.first().copied().unwrap_or(0);
        self.read_rows(name, 0, rows, out)
    }

    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()> {
        let info = self.info_or_error(name)?;
        let per_row: usize = info.shape[1..].iter().product();
        let (center, spread) = if info.shape.len() == 1 {
            if name.ends_with("weight") { (1.0, 0.1) } else { (0.0, 0.1) }
        } else {
            (0.0, (3.0 / per_row as f32).sqrt())
        };
        let seed =
            name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        out.clear();
        out.reserve(2 * count * per_row);
        let mut values = [0.0f32; 1024];
        let mut halves = [f16::ZERO; 1024];
        let (mut at, end) = (first * per_row, (first + count) * per_row);
        while at < end {
            let n = (end - at).min(values.len());
            for (i, v) in values[..n].iter_mut().enumerate() {
                *v = center + spread * uniform(seed, (at + i) as u64);
            }
            halves[..n].convert_from_f32_slice(&values[..n]);
            out.extend_from_slice(bytemuck::cast_slice(&halves[..n]));
            at += n;
        }
        Ok(())
    }
}

/// Element `i` of stream `seed`, uniform in [-1, 1): a counter through splitmix64's finaliser (Steele et al. 2014).
fn uniform(seed: u64, i: u64) -> f32 {
    let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // The upper 24 bits as a signed fraction.
    ((z >> 40) as i32 - (1 << 23)) as f32 / (1 << 23) as f32
}

impl Model {
    /// A model of any architecture with random f16 weights, about as much memory as a few strings.
    pub fn random(name: &str, networks: Networks) -> Self {
        let info = |(name, shape)| (name, TensorInfo { dtype: Dtype::F16, shape });
        let tensors = arch::required(&networks).unwrap_or_default().into_iter().map(info).collect();
        Self::new(name, Arc::new(Random { id: SourceId::new(), tensors }), networks)
    }

    /// Stable Diffusion 1.5's architecture (860 M parameters in the U-Net) with random weights.
    pub fn random_sd15() -> Self {
        Self::random("random-sd15", Networks::new(TextConfig::default(), UnetConfig::sd15(), KlConfig::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_rows_of_the_whole() {
        let model = Model::random_sd15();
        let (mut whole, mut rows) = (Vec::new(), Vec::new());
        model.source.read("unet.time_embedding.linear_1.weight", &mut whole).unwrap();
        model.source.read_rows("unet.time_embedding.linear_1.weight", 3, 2, &mut rows).unwrap();
        assert_eq!(whole.len(), 1280 * 320 * 2);
        assert_eq!(rows, whole[3 * 640..5 * 640]);
        let values: Vec<f32> = whole.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((variance * 320.0 - 1.0).abs() < 0.02, "variance {variance}");
    }
}
