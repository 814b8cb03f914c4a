//! A seed in, the numbers of CUDA's `randn` out (Philox 4x32-10), as the webui's `NV`
//! source computes them on any machine.

use super::NormalSource;

/// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), with CUDA's counter layout.
///
/// Real CUDA differs once a tensor has more elements than the launch has threads; this is the portable variant.
#[derive(Clone)]
pub struct Philox {
    key: [u32; 2],
    /// Counts the calls of `randn`.
    offset: u32,
}

impl Philox {
    /// A generator with this 64-bit seed, at its first draw.
    pub fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], offset: 0 }
    }
}

/// Ten rounds of the bijection on one 128-bit counter.
fn rounds(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
        }
        let a = u64::from(c[0]) * 0xd251_1f53;
        let b = u64::from(c[2]) * 0xcd9e_8d57;
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
    }
    c
}

impl NormalSource for Philox {
    fn randn(&mut self, out: &mut [f32]) {
        // CUDA's f32 constants, in f64 arithmetic as the emulations do it.
        const UNIT: f64 = 1.0 / 4_294_967_296.0;
        const ANGLE: f64 = (2.328_306_4e-10_f32 * std::f32::consts::TAU) as f64;
        for (i, value) in out.iter_mut().enumerate() {
            let g = rounds([self.offset, 0, i as u32, 0], self.key);
            let u = f64::from(g[0]) * UNIT + UNIT / 2.0;
            let v = f64::from(g[1]) * ANGLE + ANGLE / 2.0;
            *value = ((-2.0 * u.ln()).sqrt() * v.sin()) as f32;
        }
        self.offset = self.offset.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::golden::assert_near;

    #[test]
    fn published_values() {
        let mut out = [0.0; 12];
        Philox::new(0).randn(&mut out);
        let zero =
            [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655];
        assert_near(&out, &zero, 6e-5);
        let mut out = [0.0; 8];
        Philox::new(42).randn(&mut out);
        assert_near(&out, &[0.1940, 2.1614, -0.1721, 0.8491, -1.9244, 0.6530, -0.6494, -0.8175], 6e-5);
    }

    #[test]
    fn published_rounds_of_the_paper() {
        // Known-answer test of the Random123 distribution.
        assert_eq!(rounds([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    #[test]
    fn a_second_draw_is_new() {
        let mut rng = Philox::new(1);
        let (mut a, mut b) = ([0.0; 4], [0.0; 4]);
        rng.randn(&mut a);
        rng.randn(&mut b);
        assert_ne!(a, b);
    }
}
