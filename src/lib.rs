//! Lienzo: Stable Diffusion with every kernel written by hand.

pub mod backend;
pub mod check;
pub mod diffusion;
pub mod engine;
pub mod error;
pub mod graph;
pub mod image;
pub mod kernels;
pub mod layers;
pub mod output;
pub mod rng;
pub mod simd;
pub mod system;
pub mod tensor;
pub mod verify;
pub mod weights;

pub use error::{Error, Kind, Result};
