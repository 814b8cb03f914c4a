//! What a device can do at best: a copy and a chain of multiply-adds, as launches. `lienzo devices` shows the result,
//! `bench` compares with it, and `--device auto` estimates by it.

use super::{Const, Dispatch, Launch, Limits, Record, Shader, Storage, THREADS, What, params};

params! {
    /// See `shaders/roofline_copy.wgsl` and `shaders/roofline_fma.wgsl`.
    RooflineParams {
        /// Quads of the operand and of the output.
        total: u32,
        /// Factor of the multiply-adds; a number that no compiler knows.
        factor: f32,
    }
}

/// FLOPs of one invocation of [`fma`]: 8 chains of 4 lanes, 256 multiply-adds each.
pub const FMA_FLOPS: u64 = 8 * 4 * 256 * 2;

fn launch(file: &'static str, groups: u32, limits: &Limits) -> Launch {
    let total = groups * THREADS;
    let f32_only = Limits { storage: Storage::F32, ..limits.clone() };
    Dispatch {
        shader: Shader::new(file, &f32_only).with("WG", Const::U32(THREADS)),
        params: Record::new(&RooflineParams { first: 0, total, factor: 0.999 }),
        binds: vec![What::X(0).into(), What::Y.into()],
        grid: [groups, 1, 1],
    }
    .into()
}

/// Copies 16 bytes an invocation, in so many workgroups of 256.
pub fn copy(groups: u32, limits: &Limits) -> Launch {
    launch("roofline_copy", groups, limits)
}

/// [`FMA_FLOPS`] an invocation, in so many workgroups of 256.
pub fn fma(groups: u32, limits: &Limits) -> Launch {
    launch("roofline_fma", groups, limits)
}
