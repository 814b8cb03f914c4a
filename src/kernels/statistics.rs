//! Statistics beside an output: what a producer leaves for the GroupNorm of its output, so that no pass over memory is
//! needed for them.
//!
//! For each tile of the pixels of a sample and each channel there is the mean, and M2: the sum of the squared distances
//! from that mean. Tiles depend on a sample's shape alone.

use crate::tensor::Shape;

/// Rows of the picture in a tile of [`Tiles::Rows`].
pub const ROWS: usize = 4;
/// Pixels of a tile of [`Tiles::Pixels`].
pub const PIXELS: usize = 64;

/// How a sample's pixels are cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tiles {
    /// [`ROWS`] rows of the picture (the last tile may have fewer): what the CPU's fast convolutions compute together.
    Rows,
    /// [`PIXELS`] pixels in order (the last tile may have fewer): what a workgroup of a GPU computes together.
    Pixels,
}

impl Tiles {
    /// Pixels of a full tile.
    pub const fn pixels(self, x: Shape) -> usize {
        match self {
            Self::Rows => ROWS * x.w,
            Self::Pixels => PIXELS,
        }
    }

    /// Tiles of a sample.
    pub const fn count(self, x: Shape) -> usize {
        x.pixels().div_ceil(self.pixels(x))
    }

    /// Pixels of one tile.
    pub const fn pixels_of(self, x: Shape, tile: usize) -> usize {
        let (full, left) = (self.pixels(x), x.pixels() - tile * self.pixels(x));
        if left < full { left } else { full }
    }

    /// The shape of the statistics of a tensor: `[b, tiles, 2, c]`, of each tile the means, then M2.
    pub const fn shape(self, x: Shape) -> Shape {
        Shape::new(x.b, self.count(x), 2, x.c)
    }
}
