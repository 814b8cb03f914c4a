//! Which tile computes a product, and into how many parts its sum is split: from a model of the time that it takes.
//!
//! WebGPU does not tell how many compute units an adapter has, and a choice that rounds may depend on nothing but one
//! sample's shape. So the model is of two devices, a small and a large one, and the choice is the one whose times on
//! both have the least product: what gains a factor on one of them must not lose as much on the other.
//!
//! In cycles of a unit, for T tiles of S slabs each, in s parts, on U units:
//!
//! ```text
//! max(1, T s / U) (S / s * slab + START)  +  [s > 1] (DISPATCH + T s * part / (BYTES U))
//! ```
//!
//! that is, every unit's share of the workgroups, one after the other; then another dispatch that reads what they
//! wrote. The figures are those of current hardware as its makers publish it, to about a
//! factor of 2: nothing here was tuned.

use super::Tile;

/// Units of a small device and of a large one: a laptop's GPU of 16, a data-centre card of about 128.
const UNITS: [usize; 2] = [16, 128];
/// Cycles until a workgroup's first slab is there, and to store its tile: two trips to memory of a bit below 1000 each.
const START: f64 = 2_000.0;
/// Cycles from the end of one dispatch until the next one that reads its results runs: 5 us at 1.6 GHz.
const DISPATCH: f64 = 8_000.0;
/// Bytes that memory gives each unit in a cycle: 1 TB/s for 80 units at 1.6 GHz.
const BYTES: f64 = 8.0;
/// Parts beyond which nothing was ever gained.
const MOST: usize = 16;

/// Multiply-adds of one unit in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    /// In f32: 128 lanes, as NVIDIA's, AMD's and Intel's units have.
    Fma,
    /// On matrix units, f16 into f32: half of the 2048 that those of an H100 promise.
    Matrix,
}

impl Rate {
    const fn per_cycle(self) -> usize {
        match self {
            Self::Fma => 128,
            Self::Matrix => 1024,
        }
    }
}

/// Tiles that cover one sample's outputs.
pub(super) const fn tiles(tile: Tile, pixels: usize, columns: usize) -> usize {
    pixels.div_ceil(tile.m) * columns.div_ceil(tile.n)
}

/// Whether one sample gives every unit of a large device one of these tiles: a large tile reads half as much for each
/// multiply-add, and only pays where it leaves no unit idle.
pub(super) const fn fills(tile: Tile, pixels: usize, columns: usize) -> bool {
    tiles(tile, pixels, columns) >= UNITS[1]
}

/// Into how many parts a sum of `slabs` slabs is split.
pub(super) fn splits(tile: Tile, tiles: usize, slabs: usize, rate: Rate) -> usize {
    let slab = (tile.m * tile.n * tile.k) as f64 / rate.per_cycle() as f64;
    // Written as f32, then read.
    let part = 2.0 * (4 * tile.m * tile.n) as f64;
    let time = |parts: usize, units: usize| {
        let share = ((tiles * parts) as f64 / units as f64).max(1.0);
        let end = DISPATCH + (tiles * parts) as f64 * part / (BYTES * units as f64);
        share * (slabs.div_ceil(parts) as f64 * slab + START) + if parts > 1 { end } else { 0.0 }
    };
    let both = |parts: usize| UNITS.iter().map(|units| time(parts, *units)).product::<f64>();
    // The fewest among equals.
    let best = (1..=MOST.min(slabs)).min_by(|a, b| both(*a).total_cmp(&both(*b))).unwrap_or(1);
    // As many as have something to do.
    slabs.div_ceil(slabs.div_ceil(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Tile = Tile { m: 64, n: 64, k: 16 };
    const LARGE: Tile = Tile { m: 128, n: 128, k: 16 };
    const COOP: Tile = Tile { m: 64, n: 64, k: 32 };

    fn parts(tile: Tile, rate: Rate, side: usize, (k, n, taps): (usize, usize, usize)) -> usize {
        splits(tile, tiles(tile, side * side, n), taps * k.div_ceil(tile.k), rate)
    }

    /// Convolutions and linear layers of SD 1.5 at 512x512: those that leave a large card idle are split, and the more
    /// the smaller and deeper they are; the others are not.
    #[test]
    fn small_and_deep_sums_are_split() {
        // side, (inputs, outputs, taps), parts by FMA, parts on matrix units.
        let table = [
            (64, (320, 320, 9), 1, 1),
            (64, (960, 320, 9), 1, 1),
            (32, (640, 640, 9), 1, 1),
            (32, (1920, 640, 9), 1, 1),
            (16, (1280, 1280, 9), 2, 1),
            (16, (2560, 1280, 9), 2, 2),
            (8, (1280, 1280, 9), 7, 4),
            (8, (2560, 1280, 9), 7, 6),
            (64, (320, 4, 9), 2, 1),
            (64, (1280, 320, 1), 1, 1),
            (32, (2560, 640, 1), 1, 1),
            (16, (5120, 1280, 1), 2, 1),
            (16, (1280, 1280, 1), 1, 1),
            (8, (1280, 1280, 1), 4, 1),
            (8, (5120, 1280, 1), 7, 1),
            (8, (1280, 10240, 1), 1, 1),
        ];
        for (side, sizes, fma, matrix) in table {
            assert_eq!(parts(SMALL, Rate::Fma, side, sizes), fma, "{side}x{side} {sizes:?} by FMA");
            assert_eq!(parts(COOP, Rate::Matrix, side, sizes), matrix, "{side}x{side} {sizes:?} on matrix units");
        }
    }

    #[test]
    fn large_tiles_need_many_outputs() {
        for (side, n, large) in [
            (64, 320, false),
            (64, 960, true),
            (64, 2560, true),
            (32, 640, false),
            (32, 5120, true),
            (16, 10240, true),
            (8, 10240, false),
            (64, 512, true),
            (512, 128, true),
        ] {
            assert_eq!(fills(LARGE, side * side, n), large, "{side}x{side} to {n}");
        }
    }

    #[test]
    fn no_part_is_empty() {
        for slabs in 1..200 {
            for tiles in [1, 3, 20, 500] {
                let parts = splits(SMALL, tiles, slabs, Rate::Fma);
                assert!(parts >= 1 && (parts - 1) * slabs.div_ceil(parts) < slabs, "{slabs} slabs in {parts} parts");
            }
        }
    }
}
