//! Parameters of group_norm's shaders.

use crate::kernels::gpu::params;

params! {
    /// See `shaders/group_norm_naive.wgsl`.
    NaiveParams {
        /// Bundles of a sample.
        bundles: u32,
        /// Groups of a bundle.
        bundle: u32,
        /// Groups.
        groups: u32,
        /// Channels of a group.
        size: u32,
        /// Pixels of a sample.
        pixels: u32,
        /// Channels.
        c: u32,
        /// Channels of the first source.
        c0: u32,
        /// Quads of an output row.
        quads: u32,
        /// Added to the variance.
        eps: f32,
        /// First quad of the first source.
        x0_start: u32,
        /// Quads from one row of it to the next.
        x0_pitch: u32,
        /// Rows after which it repeats.
        x0_rows: u32,
        /// First quad of the second source.
        x1_start: u32,
        /// Quads from one row of it to the next.
        x1_pitch: u32,
        /// Rows after which it repeats.
        x1_rows: u32,
        /// First quad of y.
        y_start: u32,
    }
}

params! {
    /// See `shaders/group_norm_stats.wgsl`.
    StatsParams {
        /// Strips of 16 quads, of both sources.
        strips: u32,
        /// Those of the first source.
        strips0: u32,
        /// Quads of the first source.
        quads0: u32,
        /// Quads of the second source, 0 without one.
        quads1: u32,
        /// Tiles of a sample in this dispatch.
        tiles: u32,
        /// The first of them.
        tile0: u32,
        /// Pixels of a tile.
        tile_rows: u32,
        /// Pixels of a sample in this dispatch.
        pixels: u32,
        /// First quad of the first source.
        x0_start: u32,
        /// Quads from one row of it to the next.
        x0_pitch: u32,
        /// Rows after which it repeats.
        x0_rows: u32,
        /// First quad of the second source.
        x1_start: u32,
        /// Quads from one row of it to the next.
        x1_pitch: u32,
        /// Rows after which it repeats.
        x1_rows: u32,
        /// vec4s from one sample's moments to the next.
        stats_stride: u32,
    }
}

params! {
    /// See `shaders/group_norm_apply.wgsl`.
    ApplyParams {
        /// Strips of 16 quads of a row.
        strips: u32,
        /// Blocks of rows of a sample in this dispatch.
        blocks: u32,
        /// Rows of a block.
        block_rows: u32,
        /// Pixels of a sample in this dispatch.
        pixels: u32,
        /// Tiles of a sample.
        tiles: u32,
        /// Pixels of a tile.
        tile_rows: u32,
        /// Pixels of a sample.
        sample_pixels: u32,
        /// Channels of a group.
        size: u32,
        /// Groups that are joined side by side, a power of two.
        columns: u32,
        /// Channels.
        c: u32,
        /// Channels of the first source.
        c0: u32,
        /// Quads of an output row.
        quads: u32,
        /// Quads of the first source.
        quads0: u32,
        /// Quads of the second source, 0 without one.
        quads1: u32,
        /// Added to the variance.
        eps: f32,
        /// First quad of the first source.
        x0_start: u32,
        /// Quads from one row of it to the next.
        x0_pitch: u32,
        /// Rows after which it repeats.
        x0_rows: u32,
        /// First quad of the second source.
        x1_start: u32,
        /// Quads from one row of it to the next.
        x1_pitch: u32,
        /// Rows after which it repeats.
        x1_rows: u32,
        /// vec4s from one sample's moments to the next.
        stats_stride: u32,
        /// First quad of y.
        y_start: u32,
        /// Given tiles of a sample.
        given_tiles: u32,
        /// First quad of the first source's.
        given0_start: u32,
        /// Quads from one row of them to the next.
        given0_pitch: u32,
        /// Rows after which they repeat.
        given0_rows: u32,
        /// First quad of the second source's.
        given1_start: u32,
        /// Quads from one row of them to the next.
        given1_pitch: u32,
        /// Rows after which they repeat.
        given1_rows: u32,
    }
}

params! {
    /// See `shaders/group_norm_join.wgsl`.
    JoinParams {
        /// Strips of 16 quads, of both sources.
        strips: u32,
        /// Those of the first source.
        strips0: u32,
        /// Quads of the first source.
        quads0: u32,
        /// Quads of the second source, 0 without one.
        quads1: u32,
        /// Tiles of a sample that are made.
        tiles: u32,
        /// Given tiles in each.
        joined: u32,
        /// Given tiles of a sample.
        given_tiles: u32,
        /// Pixels of a given tile.
        given_rows: u32,
        /// Pixels of a sample.
        sample_pixels: u32,
        /// First quad of the first source's tiles.
        given0_start: u32,
        /// Quads from one row of them to the next.
        given0_pitch: u32,
        /// Rows after which they repeat.
        given0_rows: u32,
        /// First quad of the second source's tiles.
        given1_start: u32,
        /// Quads from one row of them to the next.
        given1_pitch: u32,
        /// Rows after which they repeat.
        given1_rows: u32,
        /// vec4s from one sample's moments to the next.
        stats_stride: u32,
    }
}
