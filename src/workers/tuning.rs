//! What may be chosen by measurement: sizes of pieces of work that change no bit of a result.
//!
//! What touches rounding (algorithms, where sums are cut) is never here: it is a function of shapes alone.

use std::fmt;

/// Sizes that kernels cut their work into. [`Workers`](super::Workers) carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Most output rows of a task of a product: enough to make the expansion of its weights cheap.
    pub rows: usize,
    /// Bytes of input factors that a fast convolution has at a time: a part of the last-level cache.
    pub chunk_bytes: usize,
    /// Most tiles of a task of a fast convolution, times 36 / its products: their sums stay in the second-level cache.
    pub tiles: usize,
}

/// Choices of [`Tuning::rows`].
pub const ROWS: [usize; 3] = [256, 128, 512];
/// Choices of [`Tuning::chunk_bytes`].
pub const CHUNK_BYTES: [usize; 3] = [6 << 20, 2 << 20, 12 << 20];
/// Choices of [`Tuning::tiles`].
pub const TILES: [usize; 2] = [128, 64];

impl Tuning {
    /// The largest of each: what scratch is declared for.
    pub const LARGEST: Self = Self { rows: 512, chunk_bytes: 12 << 20, tiles: 128 };

    /// Whether each size is one of the choices: the kernels' scratch is made for no others.
    pub fn is_known(&self) -> bool {
        ROWS.contains(&self.rows) && CHUNK_BYTES.contains(&self.chunk_bytes) && TILES.contains(&self.tiles)
    }
}

impl Default for Tuning {
    /// The first of each: the best on the machines that the kernels were written on.
    fn default() -> Self {
        Self { rows: ROWS[0], chunk_bytes: CHUNK_BYTES[0], tiles: TILES[0] }
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, chunk_bytes, tiles } = self;
        write!(
            f,
            "products {rows} rows a task; fast convolutions {} MiB of factors, {tiles} tiles a task",
            chunk_bytes >> 20
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_holds_every_choice() {
        let most = Tuning::LARGEST;
        assert!(most.is_known() && Tuning::default().is_known());
        assert!(ROWS.iter().all(|v| *v <= most.rows) && TILES.iter().all(|v| *v <= most.tiles));
        assert!(CHUNK_BYTES.iter().all(|v| *v <= most.chunk_bytes));
        assert!(!Tuning { rows: 100, ..most }.is_known());
    }
}
