//! A picture with a part missing goes in; the part filled from what is around it comes
//! out: its colours and its texture.

use super::Image;
use super::mask::Mask;
use crate::rng::RngKind;
use std::f64::consts::PI;

/// Radius of a blur and how often its result is laid down, from the widest to the sharpest (the webui's `fill`).
const LAYERS: [(usize, usize); 6] = [(256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)];

/// Fills what the mask tells from the colours around it: blurs of the rest, laid over each other.
pub fn fill(image: &Image, mask: &Mask) -> Image {
    let (w, h) = (image.width, image.height);
    // Premultiplied colours and alpha, in four planes.
    let alpha: Vec<f32> = mask.values.iter().map(|v| 1.0 - f32::from(*v) / 255.0).collect();
    let plane = |c: usize| {
        image.rgb.iter().skip(c).step_by(3).zip(&alpha).map(|(v, a)| f32::from(*v) * a).collect::<Vec<f32>>()
    };
    let sharp = [plane(0), plane(1), plane(2), alpha.clone()];
    let mut out = [const { Vec::new() }; 4].map(|_: Vec<f32>| vec![0.0; w * h]);
    for (radius, times) in LAYERS {
        let layer = sharp.clone().map(|p| blurred(p, (w, h), radius));
        for _ in 0..times {
            for i in 0..w * h {
                let under = 1.0 - layer[3][i];
                for (o, l) in out.iter_mut().zip(&layer) {
                    o[i] = l[i] + o[i] * under;
                }
            }
        }
    }
    let value = |i: usize, c: usize| if out[3][i] > 1e-6 { out[c][i] / out[3][i] } else { 127.5 };
    let rgb = (0..w * h).flat_map(|i| [0, 1, 2].map(|c| (value(i, c) + 0.5).clamp(0.0, 255.0) as u8)).collect();
    Image { width: w, height: h, rgb }
}

/// Three running means along each axis, which come near a Gaussian of deviation
/// `radius`; beyond the edge it is repeated.
fn blurred(mut plane: Vec<f32>, (w, h): (usize, usize), radius: usize) -> Vec<f32> {
    if radius == 0 {
        return plane;
    }
    // The width of one of three boxes whose variances add up to radius^2.
    let reach = ((((4 * radius * radius + 1) as f64).sqrt() - 1.0) / 2.0).round() as usize;
    let mut line = Vec::new();
    for _ in 0..3 {
        (0..h).for_each(|y| mean_line(&mut plane, (y * w, 1, w), reach, &mut line));
        (0..w).for_each(|x| mean_line(&mut plane, (x, w, h), reach, &mut line));
    }
    plane
}

/// The running mean over `2 reach + 1` values of one line (its start, stride and length).
fn mean_line(plane: &mut [f32], (start, stride, n): (usize, usize, usize), reach: usize, line: &mut Vec<f32>) {
    line.clear();
    line.extend((0..n).map(|i| plane[start + i * stride]));
    let at = |i: isize| f64::from(line[i.clamp(0, n as isize - 1) as usize]);
    let mut sum: f64 = (-(reach as isize)..=reach as isize).map(at).sum();
    for i in 0..n as isize {
        plane[start + i as usize * stride] = (sum / (2 * reach + 1) as f64) as f32;
        sum += at(i + reach as isize + 1) - at(i - reach as isize);
    }
}

/// How far from the masked part its texture is looked for: an eighth of the shorter side.
const NEAR: usize = 8;

/// Adds to the masked part noise that looks like the fine structure of the picture near it.
///
/// The spectrum there gets random phases, the same for the three colours, so that its grain, its directions and its
/// colours stay (Galerne, Gousseau and Morel, "Random Phase Textures", 2011). What stands out from its quieter part,
/// the outline of an object say, is cut down to that first: it would come back as blotches everywhere.
pub fn add_texture(image: &mut Image, mask: &Mask, seed: u64) {
    let (w, h) = (image.width, image.height);
    let side = w.max(h).next_power_of_two();
    let near = near(mask, (w.min(h) / NEAR).max(2));
    if near.is_empty() {
        return;
    }
    let mut noise = vec![0.0; side * side];
    RngKind::Nv.generator(seed).randn(&mut noise);
    let mut phases: Vec<Complex> = noise.iter().map(|v| (f64::from(*v), 0.0)).collect();
    transform(&mut phases, side, false);
    let scale = (side as f64 * side as f64 / near.len() as f64).sqrt();
    for c in 0..3 {
        let plane: Vec<f32> = image.rgb.iter().skip(c).step_by(3).map(|v| f32::from(*v)).collect();
        let base = blurred(plane.clone(), (w, h), 2);
        let mut sizes: Vec<f32> = near.iter().map(|i| (plane[*i] - base[*i]).abs()).collect();
        sizes.sort_unstable_by(f32::total_cmp);
        let most = 2.0 * sizes[sizes.len() / 4];
        let mut grain = vec![(0.0, 0.0); side * side];
        for &i in &near {
            grain[i / w * side + i % w].0 = f64::from((plane[i] - base[i]).clamp(-most, most));
        }
        transform(&mut grain, side, false);
        for (g, p) in grain.iter_mut().zip(&phases) {
            let size = p.0.hypot(p.1).max(1e-12);
            *g = times(*g, (p.0 / size, p.1 / size));
        }
        transform(&mut grain, side, true);
        for i in (0..w * h).filter(|i| mask.values[*i] > 0) {
            let value = f64::from(plane[i]) + scale * grain[i / w * side + i % w].0;
            image.rgb[i * 3 + c] = (value + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
}

/// The pixels that are not masked and no further than `reach` from one that is, along rows and columns.
fn near(mask: &Mask, reach: usize) -> Vec<usize> {
    let (w, h) = (mask.width, mask.height);
    let mut wide = vec![false; w * h];
    for i in (0..w * h).filter(|i| mask.values[*i] > 0) {
        let (row, x) = (i / w * w, i % w);
        wide[row + x.saturating_sub(reach)..row + (x + reach + 1).min(w)].fill(true);
    }
    let beside = |i: usize| {
        let (x, y) = (i % w, i / w);
        (y.saturating_sub(reach)..(y + reach + 1).min(h)).any(|y| wide[y * w + x])
    };
    (0..w * h).filter(|i| mask.values[*i] == 0 && beside(*i)).collect()
}

type Complex = (f64, f64);

fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// The discrete Fourier transform of a square whose side is a power of two; the inverse
/// is divided by the number of values.
fn transform(values: &mut [Complex], side: usize, inverse: bool) {
    let sign = if inverse { 1.0 } else { -1.0 };
    let turns: Vec<Complex> = (0..side / 2)
        .map(|i| {
            let angle = sign * 2.0 * PI * i as f64 / side as f64;
            (angle.cos(), angle.sin())
        })
        .collect();
    let mut line = vec![(0.0, 0.0); side];
    for axis in [(side, 1), (1, side)] {
        for k in 0..side {
            (0..side).for_each(|i| line[i] = values[k * axis.0 + i * axis.1]);
            transform_line(&mut line, &turns);
            (0..side).for_each(|i| values[k * axis.0 + i * axis.1] = line[i]);
        }
    }
    if inverse {
        let scale = 1.0 / (side * side) as f64;
        values.iter_mut().for_each(|v| *v = (v.0 * scale, v.1 * scale));
    }
}

/// Cooley and Tukey's, in place: places in bit-reversed order, then butterflies of doubling width.
fn transform_line(line: &mut [Complex], turns: &[Complex]) {
    let n = line.len();
    let bits = n.trailing_zeros();
    for i in 0..n {
        let j = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
        if i < j {
            line.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        for block in line.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (i, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let turned = times(*b, turns[i * (n / (2 * half))]);
                *b = (a.0 - turned.0, a.1 - turned.1);
                *a = (a.0 + turned.0, a.1 + turned.1);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(w: usize, h: usize) -> Mask {
        Mask { width: w, height: h, values: (0..w * h).map(|i| if i % w < w / 2 { 0 } else { 255 }).collect() }
    }

    fn picture(w: usize, h: usize, value: impl Fn(usize, usize) -> u8) -> Image {
        Image { width: w, height: h, rgb: (0..w * h).flat_map(|i| [value(i % w, i / w); 3]).collect() }
    }

    #[test]
    fn the_transform_finds_a_wave_and_comes_back() {
        let wave = |i: usize| (2.0 * PI * (3 * (i % 8) + 2 * (i / 8)) as f64 / 8.0).cos();
        let original: Vec<Complex> = (0..64).map(|i| (wave(i), 0.0)).collect();
        let mut values = original.clone();
        transform(&mut values, 8, false);
        for (i, v) in values.iter().enumerate() {
            let want = if i == 2 * 8 + 3 || i == 6 * 8 + 5 { 32.0 } else { 0.0 };
            assert!((v.0 - want).abs() < 1e-9 && v.1.abs() < 1e-9, "{i}: {v:?}");
        }
        transform(&mut values, 8, true);
        assert!(values.iter().zip(&original).all(|(a, b)| (a.0 - b.0).abs() < 1e-12 && a.1.abs() < 1e-12));
    }

    #[test]
    fn colours_go_on_and_the_rest_stays() {
        let image = picture(32, 16, |x, y| if x < 16 { 40 + 10 * y as u8 } else { 255 });
        let filled = fill(&image, &half(32, 16));
        for y in 0..16 {
            let at = |x: usize| filled.rgb[(y * 32 + x) * 3];
            assert_eq!(at(15), 40 + 10 * y as u8);
            assert!(at(16).abs_diff(at(15)) < 40 && at(31) < 220, "{} {}", at(16), at(31));
        }
        assert!(fill(&image, &Mask::filled(32, 16, 255)).rgb.iter().all(|v| *v == 128));
    }

    #[test]
    fn texture_has_the_strength_of_the_rest() {
        let image = picture(64, 64, |x, y| if x < 32 && (x * 7919 + y * 104_729) % 97 < 48 { 100 } else { 140 });
        let mut textured = fill(&image, &half(64, 64));
        add_texture(&mut textured, &half(64, 64), 1);
        let spread = |x0: usize| {
            let values: Vec<f64> =
                (0..64 * 32).map(|i| f64::from(textured.rgb[(i / 32 * 64 + x0 + i % 32) * 3])).collect();
            let mean = values.iter().sum::<f64>() / 2048.0;
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2048.0).sqrt()
        };
        assert!((0.5..1.6).contains(&(spread(32) / spread(0))), "{} {}", spread(32), spread(0));
        // An outline near the border does not come back in it.
        let image =
            picture(64, 64, |x, y| if (20..28).contains(&x) && y > 30 { 0 } else { 200 + (x * 7 + y * 3) as u8 % 3 });
        let mut textured = fill(&image, &half(64, 64));
        let smooth = textured.clone();
        add_texture(&mut textured, &half(64, 64), 1);
        assert!(textured.rgb.iter().zip(&smooth.rgb).all(|(a, b)| a.abs_diff(*b) < 12));
        let kept = |i: usize| i % 64 < 32;
        assert!((0..64 * 64).filter(|i| kept(*i)).all(|i| textured.rgb[i * 3] == smooth.rgb[i * 3]));
    }
}
