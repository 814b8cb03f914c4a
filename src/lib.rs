//! Lienzo: Stable Diffusion with every kernel written by hand.

pub mod diffusion;
pub mod error;
pub mod image;
pub mod output;
pub mod rng;
pub mod system;
pub mod tensor;
pub mod weights;

pub use error::{Error, Kind, Result};
