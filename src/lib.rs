//! Lienzo: Stable Diffusion with every kernel written by hand.

pub mod backend;
pub mod check;
pub mod diffusion;
pub mod error;
pub mod kernels;
pub mod rng;
pub mod simd;
pub mod tensor;
pub mod weights;

pub use error::{Error, Kind, Result};
