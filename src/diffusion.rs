//! What is computed, in the order of the data: prompt, tokens, embedding, denoising, pixels.

pub mod bpe;
pub mod clip;
pub mod denoise;
pub mod unet;
pub mod vae;
