//! Products on tensor cores: f16 operands, f32 sums.

use super::choice::{self, Rate};
use super::{Gemm, Product, Tile, fits};
use crate::kernels::Dims;
use crate::kernels::gpu::{Coop, Launch, LaunchIo, Limits, Storage};
use crate::tensor::Shape;

/// Lanes of the subgroups that the shader is written for.
const LANES: u32 = 32;

/// How a workgroup is cut into subgroups.
#[derive(Clone, Copy)]
struct Shape2 {
    tile: Tile,
    /// Subgroups above each other and side by side.
    subgroups: [u32; 2],
}

/// Devices with matrices of 8x8 or 16x16 f16 into f32, and subgroups of 32.
pub(in crate::kernels::gpu) fn coop_supports<K: Product>(op: &K, x: &[Shape], w: &[Dims], limits: &Limits) -> bool {
    let (Some(coop), Ok(y)) = (limits.coop, op.output(x, w)) else { return false };
    let f16 = (limits.storage, limits.weights) == (Storage::F16, Storage::F16);
    let real = f16 && limits.subgroup == Some(LANES);
    let gemm = op.gemm();
    let Some(shape) = shape(&gemm, y[0].pixels(), w, limits, coop) else { return false };
    let splits = gemm.splits(y[0].pixels(), w, shape.tile, Rate::Matrix);
    (real || coop.emulated) && gemm.whole_quads(x) && fits(op, x, w, limits, splits)
}

/// See [`coop_supports`]. Few rows and a long sum are split as without tensor cores.
pub(in crate::kernels::gpu) fn coop<K: Product>(op: &K, io: &LaunchIo<'_>) -> Launch {
    let (gemm, pixels) = (op.gemm(), io.y.shape.pixels());
    let Some(coop) = io.limits.coop else { return Launch::default() };
    let Some(shape) = shape(&gemm, pixels, io.w, io.limits, coop) else { return Launch::default() };
    let [above, beside] = shape.subgroups;
    let shader = gemm
        .shader("matmul_coop", io)
        .on_tensor_cores(coop)
        .with("WG", LANES * above * beside)
        .with("BM", shape.tile.m as u32)
        .with("BN", shape.tile.n as u32)
        .with("BK", shape.tile.k as u32)
        .with("SUBGROUPS_M", above)
        .with("SUBGROUPS_N", beside);
    gemm.tiles(io, shape.tile, gemm.splits(pixels, io.w, shape.tile, Rate::Matrix), &shader)
}

/// The best shape that the device's workgroup memory holds.
fn shape(gemm: &Gemm, pixels: usize, w: &[Dims], limits: &Limits, coop: Coop) -> Option<Shape2> {
    let tile = |side, k| Tile { m: side, n: side, k };
    let large = [32, 16].map(|k| Shape2 { tile: tile(128, k), subgroups: [4, 2] });
    let small = [32, 16].map(|k| Shape2 { tile: tile(64, k), subgroups: [2, 2] });
    let wanted = |s: &Shape2| s.tile.m == 64 || choice::fills(s.tile, pixels, gemm.columns(w));
    large.into_iter().chain(small).find(|s| wanted(s) && bytes(s, coop) <= limits.workgroup_bytes as usize)
}

/// Workgroup memory of `matmul_coop.wgsl`: two tiles with rows padded by 8, and a patch for each subgroup.
fn bytes(shape: &Shape2, coop: Coop) -> usize {
    let Tile { m, n, k } = shape.tile;
    let half = if coop.emulated { 4 } else { 2 };
    let patches = shape.subgroups.iter().product::<u32>() * 16 * coop.size * 4;
    half * (m * (k + 8) + k * (n + 8)) + patches as usize
}
