//! Pixels to latents and back.

pub mod kl;
pub mod tiny;
