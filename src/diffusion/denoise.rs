//! Noise to latents: schedules, samplers and the loop that calls the U-Net.

#[cfg(test)]
pub(crate) mod golden;
pub mod schedule;
