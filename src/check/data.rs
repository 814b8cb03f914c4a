//! Values for cases: from a name to the same numbers on every machine.

use crate::kernels::Data;
use crate::kernels::attention::HIDDEN;

/// A stream of random numbers, seeded from text.
pub struct Random(u64);

impl Random {
    /// FNV-1a of the text as the seed.
    pub fn new(text: &str) -> Self {
        Self(text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }

    /// The next 64 bits (splitmix64).
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0 .. n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// Two standard normal numbers (Box and Muller).
    fn normal_pair(&mut self) -> [f32; 2] {
        let bits = self.bits();
        let unit = |b: u64| ((b & 0xff_ffff) as f32 + 0.5) / 16_777_216.0;
        let (radius, angle) = ((-2.0 * unit(bits).ln()).sqrt(), std::f32::consts::TAU * unit(bits >> 32));
        [radius * angle.cos(), radius * angle.sin()]
    }

    /// `n` normal numbers times `scale`.
    pub fn normal(&mut self, n: usize, scale: f32) -> Vec<f32> {
        let mut out: Vec<f32> = (0..n.div_ceil(2)).flat_map(|_| self.normal_pair()).map(|v| v * scale).collect();
        out.truncate(n);
        out
    }

    /// `n` operand values.
    pub fn operand(&mut self, n: usize, kind: Data) -> Vec<f32> {
        let mut out = match kind {
            Data::Constant => vec![0.75; n],
            // 251 is prime, so neighbours in every dimension differ.
            Data::Ramp => (0..n).map(|i| (i % 251) as f32 / 64.0 - 1.5).collect(),
            Data::Hiding => (0..n).map(|i| if i % 3 == 1 { HIDDEN } else { 0.0 }).collect(),
            _ => self.normal(n, 1.0),
        };
        match kind {
            Data::Outliers => (0..n.div_ceil(50)).for_each(|_| out[self.below(n)] *= 20.0),
            Data::LargeMean => out.iter_mut().for_each(|v| *v += 100.0),
            Data::Positive => out.iter_mut().for_each(|v| *v = v.abs()),
            _ => {}
        }
        out
    }
}
