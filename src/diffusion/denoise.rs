//! Noise to latents: schedules, samplers and the loop that calls the U-Net.

pub mod schedule;
