//! The vocabulary that the models are written in: functions that add a few nodes to a graph.
//!
//! They say what is computed, plainly; fusing is [`crate::graph::fuse`]'s work. Names are those of the checkpoint.

pub mod conv;
pub mod linear;
pub mod norm;
pub mod resnet;
pub mod timestep;
pub mod transformer;

pub use conv::{concat, conv2d, downsample, upsample};
pub use linear::{Bias, add, linear};
pub use norm::{group_norm, layer_norm, silu};
pub use resnet::{Norm, resnet};
pub use transformer::{attention_block, self_attention, spatial_transformer};
