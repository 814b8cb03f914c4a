//! A large picture to tiles of one size that overlap evenly, as the webui's SD upscale cuts it, and back.

/// Where tiles begin along a side of `n`: as few as overlap by `overlap` at least, spread evenly. A side that is
/// shorter than a tile has one, which begins before it.
pub fn split(n: usize, tile: usize, overlap: usize) -> Vec<isize> {
    let step = tile.saturating_sub(overlap).max(1);
    let count = n.saturating_sub(overlap).div_ceil(step).max(1);
    let last = n as isize - tile as isize;
    let apart = if count > 1 { last as f64 / (count - 1) as f64 } else { 0.0 };
    (0..count)
        .map(|i| {
            let at = (i as f64 * apart) as isize;
            if at + tile as isize >= n as isize { last } else { at }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_spread_evenly_and_reach_the_end() {
        assert_eq!(split(1024, 512, 64), [0, 256, 512]);
        assert_eq!(split(760, 512, 64), [0, 248]);
        assert_eq!(split(190, 192, 8), [-2]);
        assert_eq!(split(512, 512, 64), [0]);
        for n in 64..300 {
            let all = split(n, 64, 16);
            assert!(all.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] <= 48), "{n}: {all:?}");
            assert_eq!(*all.last().unwrap(), n as isize - 64);
        }
    }
}
