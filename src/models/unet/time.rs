//! Timesteps, and what is embedded beside them, to the rows that the ResNets add: the *time* plan and its inputs.

use super::UnetConfig;
use crate::error::Result;
use crate::graph::{Builder, Graph};
use crate::layers::timestep::{Beside, time_embedding, time_rows};
use crate::models::part;
use crate::tensor::Shape;

/// `timesteps [1, 1, T, 1]` to `rows [1, 1, T, time_width]`. Where the model takes them, there are an added vector and
/// a guidance embedding for each row.
pub fn time(cfg: &UnetConfig, timesteps: usize) -> Result<Graph> {
    let mut b = Builder::new("time", "unet").keeping_f32();
    let t = b.input(part::time::TIMESTEPS, Shape::tokens(1, timesteps, 1));
    let added = cfg.added.map(|a| b.input(part::time::ADDED, Shape::tokens(1, timesteps, a.width())));
    let guidance = cfg.guidance.map(|width| b.input(part::time::GUIDANCE, Shape::tokens(1, timesteps, width)));
    let embedding = time_embedding(&mut b, t, cfg.first_channels(), Beside { added, guidance })?;
    let rows = time_rows(&mut b, embedding, &cfg.resnets())?;
    b.output(part::time::ROWS, rows);
    Ok(b.finish())
}

/// The sinusoids of a number, cosines first: what an added vector holds of each of its numbers. The angles are rounded
/// to f32 as they were when the models were trained: with numbers of a thousand that shows.
pub fn size_embedding(x: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let exponent = |i: usize| -(10_000_f64.ln() as f32) * i as f32 / half as f32;
    let angles: Vec<f64> = (0..half).map(|i| f64::from(x * f64::from(exponent(i)).exp() as f32)).collect();
    angles.iter().map(|a| a.cos() as f32).chain(angles.iter().map(|a| a.sin() as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_cosines_then_sines() {
        let size = size_embedding(2.0, 4);
        let want = [2.0_f32.cos(), 0.02_f32.cos(), 2.0_f32.sin(), 0.02_f32.sin()];
        assert!(size.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{size:?}");
    }
}
