//! A seed and two noise levels in, the increment of one fixed Brownian path between them out (the SDE samplers' noise).
//!
//! The path does not depend on which levels are asked, so a picture keeps its character when the step count changes.
//! Facts: k-diffusion's `BrownianTreeNoiseSampler` over torchsde's `BrownianTree` (tolerance 1e-6, pool 24).

use super::RngKind;

const POOL: usize = 24;

/// numpy's `SeedSequence(entropy, spawn_key=spawn, pool_size=pool).generate_state(N)`.
///
/// The mixing functions are O'Neill's, as in numpy's `bit_generator.pyx`.
fn seed_sequence<const N: usize>(entropy: u64, spawn: &[u32], pool_size: usize) -> [u32; N] {
    let mut words = vec![entropy as u32];
    if entropy >> 32 != 0 {
        words.push((entropy >> 32) as u32);
    }
    if !spawn.is_empty() {
        words.resize(words.len().max(pool_size), 0);
        words.extend_from_slice(spawn);
    }
    let mut constant = 0x43b0_d7e5_u32;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(constant);
        value ^ (value >> 16)
    };
    let mix = |x: u32, y: u32| {
        let value = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
        value ^ (value >> 16)
    };
    let mut pool: Vec<u32> = (0..pool_size).map(|i| hash(words.get(i).copied().unwrap_or(0))).collect();
    for from in 0..pool_size {
        for to in 0..pool_size {
            if from != to {
                pool[to] = mix(pool[to], hash(pool[from]));
            }
        }
    }
    for &word in words.iter().skip(pool_size) {
        for slot in &mut pool {
            *slot = mix(*slot, hash(word));
        }
    }
    let mut constant = 0x8b51_f9dd_u32;
    std::array::from_fn(|i| {
        let value = pool[i % pool_size] ^ constant;
        constant = constant.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(constant);
        value ^ (value >> 16)
    })
}

/// Rounds to six decimals as Python's `round(x, 6)` does: through the exact decimal expansion, half to even.
fn round6(x: f64) -> f64 {
    format!("{x:.6}").parse().unwrap_or(x)
}

/// One interval of the dyadic tree and its place in it.
#[derive(Clone, Copy)]
struct Node {
    start: f64,
    end: f64,
    key: u32,
    depth: u32,
}

/// One image's Brownian path on `[t0, t1]`.
pub struct BrownianTree {
    kind: RngKind,
    seed: u64,
    root: Node,
    /// The whole path's increment.
    total: Vec<f32>,
}

impl BrownianTree {
    /// A path of `len` values between the smallest positive and the largest sigma of a schedule.
    ///
    /// Every random vector comes from a fresh generator of `kind`, seeded from `seed` and the node's place.
    pub fn new(kind: RngKind, seed: u64, sigma_min: f32, sigma_max: f32, len: usize) -> Self {
        let (t0, t1) = (f64::from(sigma_min.min(sigma_max)), f64::from(sigma_max.max(sigma_min)));
        let root = Node { start: round6(t0), end: round6(t1), key: 0, depth: 0 };
        let [first, ..] = seed_sequence::<3>(seed, &[], POOL);
        let mut total = vec![0.0; len];
        kind.generator(u64::from(first)).randn(&mut total);
        let width = (t1 - t0).sqrt() as f32;
        total.iter_mut().for_each(|w| *w *= width);
        Self { kind, seed, root, total }
    }

    /// Unit noise for the step from `sigma` to `sigma_next`: the path's increment over the square root of its length.
    ///
    /// Levels outside of the path's range are clipped to it, as torchsde does; equal levels give zeros.
    pub fn noise(&self, sigma: f32, sigma_next: f32, out: &mut [f32]) {
        out.fill(0.0);
        if sigma == sigma_next {
            return;
        }
        let clip = |t: f32| round6(f64::from(t).clamp(self.root.start, self.root.end));
        let (from, to) = (clip(sigma.min(sigma_next)), clip(sigma.max(sigma_next)));
        if from < to {
            self.add(self.root, &self.total, (from, to), out);
        }
        let scale = (sigma_next - sigma).abs().sqrt();
        let scale = if sigma > sigma_next { -scale } else { scale };
        out.iter_mut().for_each(|w| *w /= scale);
    }

    /// Adds the increments of the nodes that cover `[from, to]` below `node`, whose own increment is `w`.
    fn add(&self, node: Node, w: &[f32], (from, to): (f64, f64), out: &mut [f32]) {
        let middle = round6(0.5 * (node.start + node.end));
        // The second half of the condition cannot hold on the 1e-6 grid; it bounds the recursion whatever the input.
        if (from == node.start && to == node.end) || middle <= node.start || middle >= node.end || node.depth > 60 {
            out.iter_mut().zip(w).for_each(|(o, w)| *o += w);
            return;
        }
        let left = self.left_increment(node, middle, w);
        if from < middle {
            let child = Node { start: node.start, end: middle, key: node.key.wrapping_mul(2), depth: node.depth + 1 };
            self.add(child, &left, (from, to.min(middle)), out);
        }
        if to > middle {
            let right: Vec<f32> = w.iter().zip(&left).map(|(w, l)| w - l).collect();
            let key = node.key.wrapping_mul(2).wrapping_add(1);
            let child = Node { start: middle, end: node.end, key, depth: node.depth + 1 };
            self.add(child, &right, (from.max(middle), to), out);
        }
    }

    /// The Brownian bridge: the increment of the left part, given the whole.
    fn left_increment(&self, node: Node, middle: f64, w: &[f32]) -> Vec<f32> {
        let [seed, ..] = seed_sequence::<4>(self.seed, &[node.key, node.depth], POOL);
        let mut left = vec![0.0; w.len()];
        self.kind.generator(u64::from(seed)).randn(&mut left);
        let (l, r, h) = (middle - node.start, node.end - middle, node.end - node.start);
        let (share, deviation) = ((l / h) as f32, (l * r / h).sqrt() as f32);
        left.iter_mut().zip(w).for_each(|(n, w)| *n = share * w + deviation * *n);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::denoise::golden::Golden;

    #[test]
    fn seed_sequence_equals_numpy() {
        // numpy 2.4.6
        assert_eq!(seed_sequence::<4>(12345, &[], 4), [2688385916, 3048105090, 4196366895, 3152189807]);
        assert_eq!(seed_sequence::<3>(42, &[], 24), [387750627, 2536650517, 4078839648]);
        assert_eq!(seed_sequence::<4>(42, &[0, 0], 24), [2102017995, 2891809698, 2144110403, 379559146]);
        assert_eq!(seed_sequence::<4>(42, &[1, 2], 24), [2101547719, 3776121365, 348876581, 899550832]);
    }

    #[test]
    fn rounding_is_pythons() {
        assert_eq!(round6(14.6146469116), 14.614647);
        // Near ties go by the exact value of the binary number; these are Python's answers.
        assert_eq!(round6(0.5 * (0.029168 + 14.614647)), 7.321908);
        assert_eq!([round6(2.0000005), round6(1.0000005), round6(0.0000005)], [2.000001, 1.000001, 0.0]);
    }

    #[test]
    fn paths_equal_torchsde() {
        let golden = Golden::open();
        let sigmas = golden.f32("k.sigmas.karras");
        for seed in [0u64, 42] {
            let tree = BrownianTree::new(RngKind::Cpu, seed, sigmas[5], sigmas[0], 256);
            let mut rows = vec![0.0; 5 * 256];
            for (pair, row) in sigmas.windows(2).zip(rows.chunks_exact_mut(256)) {
                tree.noise(pair[0], pair[1], row);
            }
            golden.check(&format!("brownian.{seed}"), &rows, 1e-5);
        }
    }

    #[test]
    fn parts_add_up_and_levels_outside_are_clipped() {
        let tree = BrownianTree::new(RngKind::Nv, 7, 0.03, 14.6, 8);
        let (mut whole, mut a, mut b) = ([0.0; 8], [0.0; 8], [0.0; 8]);
        tree.noise(20.0, 0.0, &mut whole);
        tree.noise(14.6, 3.0, &mut a);
        tree.noise(3.0, 0.03, &mut b);
        for i in 0..8 {
            let sum = a[i] * 11.6_f32.sqrt() + b[i] * 2.97_f32.sqrt();
            assert!((sum - whole[i] * 20.0_f32.sqrt()).abs() < 1e-5);
        }
        tree.noise(3.0, 3.0, &mut a);
        assert_eq!(a, [0.0; 8]);
    }
}
