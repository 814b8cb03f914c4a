//! Attention on tensor cores: f16 operands and weights, f32 sums, two sweeps over the keys.

use super::{binds, dispatches};
use crate::kernels::Dims;
use crate::kernels::attention::Attention;
use crate::kernels::gpu::{Coop, Launch, LaunchIo, Limits, Shader, Storage};
use crate::tensor::Shape;

/// Lanes of the subgroups that the shader is written for.
const LANES: u32 = 32;
/// Widest head: a subgroup's sums for 16 queries are then 64 registers of a lane, or 128 with matrices of 8x8.
const WIDEST: usize = 256;

/// How `attention_coop` is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    subgroups: u32,
    keys: u32,
    ch: u32,
    chunks: u32,
}

impl Tile {
    /// For heads of d channels: most queries, then most keys, then fewest parts that workgroup memory holds.
    fn new(d: usize, limits: &Limits, coop: Coop) -> Option<Self> {
        let d = d.next_multiple_of(16) as u32;
        let parts = || (1..=d / 16).filter(|n| (d / 16).is_multiple_of(*n));
        // Emulated, the smallest: software adapters compile the unrolled fragments for minutes.
        let skip = usize::from(coop.emulated);
        let all = [4, 2].into_iter().skip(skip).flat_map(|s| [64, 32].into_iter().skip(skip).map(move |k| (s, k)));
        let mut tiles = all
            .flat_map(|(subgroups, keys)| parts().map(move |chunks| Self { subgroups, keys, ch: d / chunks, chunks }));
        tiles.find(|t| t.bytes(coop) <= limits.workgroup_bytes && LANES * t.subgroups <= limits.invocations)
    }

    /// Workgroup memory.
    fn bytes(self, coop: Coop) -> u32 {
        let (half, queries, side) = (if coop.emulated { 4 } else { 2 }, 16 * self.subgroups, self.ch.max(self.keys));
        let tiles = half * ((self.chunks + 1) * queries + side) * (side + 8);
        tiles + 4 * self.subgroups * coop.size * coop.size + 16 * LANES * self.subgroups + 4 * queries
    }
}

/// Devices with matrices of 8x8 or 16x16 f16 into f32, and subgroups of 32. Each lane has other keys than the mask's
/// quads: where there is one, `flash` runs.
pub(super) fn supports(op: &Attention, x: &[Shape], _: &[Dims], limits: &Limits) -> bool {
    let (Some(coop), Some(d)) = (limits.coop, x.first().map(|q| q.c / op.heads)) else { return false };
    let real = limits.storage == Storage::F16 && limits.subgroup == Some(LANES);
    let width = d.is_multiple_of(4) && d <= WIDEST;
    !op.mask && (real || coop.emulated) && width && binds(x, limits) && Tile::new(d, limits, coop).is_some()
}

/// See the module's description.
pub(super) fn launch(op: &Attention, io: &LaunchIo<'_>) -> Launch {
    let (Some(coop), Some(d)) = (io.limits.coop, io.x.first().map(|q| q.shape.c / op.heads)) else {
        return Launch::default();
    };
    let Some(tile) = Tile::new(d, io.limits, coop) else { return Launch::default() };
    let shader = Shader::new("attention_coop", io.limits)
        .on_tensor_cores(coop)
        .with("CAUSAL", op.causal)
        .with("HEAD", (d / 4) as u32)
        .with("SUBGROUPS", tile.subgroups)
        .with("KEYS", tile.keys)
        .with("CH", tile.ch)
        .with("CHUNKS", tile.chunks);
    dispatches(op, io, &shader, 16 * tile.subgroups as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_the_heads_of_sd() {
        let limits = Limits { workgroup_bytes: 48 << 10, ..Limits::webgpu(Storage::F16) };
        let coop = Coop { size: 16, emulated: false };
        let tile = |d| Tile::new(d, &limits, coop).map(|t| (t.subgroups, t.keys, t.ch, t.chunks));
        assert_eq!(tile(40), Some((4, 64, 48, 1)));
        assert_eq!(tile(80), Some((4, 64, 80, 1)));
        assert_eq!(tile(160).map(|t| (t.0, t.2 * t.3)), Some((4, 160)));
    }
}
