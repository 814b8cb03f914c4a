//! A seed in, the numbers of torch's CPU `randn` out (mt19937 and torch's two ways to make normals of it).

use super::NormalSource;
use std::f64::consts::TAU;

const N: usize = 624;
const M: usize = 397;

/// torch's CPU generator. Facts: `aten/src/ATen/core/MT19937RNGEngine.h`, `DistributionsHelper.h` and
/// `native/cpu/DistributionTemplates.h`.
#[derive(Clone)]
pub struct Mt19937 {
    state: Box<[u32; N]>,
    at: usize,
    /// The second normal of a pair made by the short path; it waits for the next short draw.
    cached: Option<f64>,
}

impl Mt19937 {
    /// A generator seeded as `manual_seed` does: only the low 32 bits count.
    pub fn new(seed: u64) -> Self {
        let mut state = Box::new([0u32; N]);
        state[0] = seed as u32;
        for j in 1..N {
            let before = state[j - 1];
            state[j] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(j as u32);
        }
        Self { state, at: N, cached: None }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.at == N {
            self.twist();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }

    /// Uniform in [0, 1) with 24 bits.
    fn uniform(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1) with 53 bits; the first word is the high one.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.next_u32());
        let bits = (high << 32) | u64::from(self.next_u32());
        (bits & ((1 << 53) - 1)) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// One normal of the short path, in double precision.
    fn normal_f64(&mut self) -> f64 {
        if let Some(value) = self.cached.take() {
            return value;
        }
        let angle = TAU * self.uniform_f64();
        let radius = (-2.0 * (-self.uniform_f64()).ln_1p()).sqrt();
        self.cached = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Box-Muller on 16 uniforms: the first eight give radii, the last eight angles.
fn normal_block(block: &mut [f32]) {
    let (first, last) = block.split_at_mut(8);
    for (a, b) in first.iter_mut().zip(last) {
        let radius = (-2.0 * f64::from(1.0 - *a).ln()).sqrt();
        // torch rounds the angle to f32 before the sine; the rest is a matter of its libm's last bit.
        let angle = f64::from(std::f32::consts::TAU * *b);
        *a = (radius * angle.cos()) as f32;
        *b = (radius * angle.sin()) as f32;
    }
}

impl NormalSource for Mt19937 {
    fn randn(&mut self, out: &mut [f32]) {
        let n = out.len();
        if n < 16 {
            out.fill_with(|| self.normal_f64() as f32);
            return;
        }
        out.fill_with(|| self.uniform());
        out.chunks_exact_mut(16).for_each(normal_block);
        if !n.is_multiple_of(16) {
            // The ragged end is not completed: the last 16 values are drawn again, over what was there.
            let tail = &mut out[n - 16..];
            tail.fill_with(|| self.uniform());
            normal_block(tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::golden::{Golden, assert_near};

    fn draw(seed: u64, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        Mt19937::new(seed).randn(&mut out);
        out
    }

    #[test]
    fn published_values_of_short_block_and_tail_draws() {
        assert_near(&draw(0, 4), &[1.5410, -0.2934, -2.1788, 0.5684], 6e-5);
        let block = [
            -1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920, -0.3160, -2.1152, 0.3223, -1.2633, 0.3500, 0.3081,
            0.1198, 1.2377, 1.1168, -0.2473,
        ];
        assert_near(&draw(0, 16), &block, 6e-5);
        let tail = [
            1.9269, 1.4873, 0.9007, -2.1055, -0.7581, 1.0783, 0.8008, 1.6806, 0.3559, -0.6866, -0.4934, 0.2415,
            -0.2316, 0.0418, -0.2516, 0.8599, -0.3097, -0.3957, 0.8034, -0.6216,
        ];
        assert_near(&draw(42, 20), &tail, 6e-5);
        let long = draw(42, 16384);
        assert_near(&long[..8], &[1.9269, 1.4873, 0.9007, -2.1055, 0.6784, -1.2345, -0.0431, -1.6047], 6e-5);
        assert_near(&long[16380..], &[-0.8111, -0.6358, 0.9728, -0.2934], 6e-5);
    }

    #[test]
    fn three_draws_in_a_row_equal_torch() {
        let golden = Golden::open();
        for seed in [0u64, 42, 4_294_967_301] {
            let mut rng = Mt19937::new(seed);
            for (shape, n) in [("5", 5), ("4x8x8", 256), ("19", 19)] {
                let mut out = vec![0.0; n];
                rng.randn(&mut out);
                golden.check(&format!("randn.{seed}.{shape}"), &out, 2e-6);
            }
        }
    }
}
