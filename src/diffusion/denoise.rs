//! Noise to latents: schedules, samplers and the loop that calls the U-Net.
//!
//! [`samplers::find`] gives a sampler, [`plan::Timetable::new`] its tables for a model's [`schedule::Schedule`], and
//! [`run::sample`] the final latents, drawing from a [`noise::Noise`] and asking a [`run::Denoiser`], which is mostly a
//! [`guided::Guided`] around the U-Net. A new sampler is one function in one file and one entry of
//! [`samplers::SAMPLERS`]; one that walks along tables of its own has a second function for them beside the first.
//!
//! All vectors are `[n][c][h][w]` flat, which is torch's order and so the order of the noise; the samplers work value
//! by value and never look at the shape. The engine's own NHWC begins behind [`guided::Unet`].
//!
//! There are two spaces. k-samplers live where `x = clean + sigma noise`, DDIM, PLMS, UniPC and TCD where
//! `x = sqrt(abar) clean + sqrt(1 - abar) noise`; the final latents are the same kind of thing in both.

mod cfg_pp;
mod ddim;
mod dpm2;
mod dpm_solver;
mod dpmpp;
mod dpmpp_sde;
mod er_sde;
mod euler;
#[cfg(test)]
pub(crate) mod golden;
pub mod guided;
mod heun;
pub(crate) mod lcm;
mod lms;
mod multistep;
pub mod noise;
pub mod plan;
mod res;
mod restart;
pub mod run;
pub mod samplers;
pub mod schedule;
pub mod sigmas;
mod tcd;
pub mod timesteps;
pub(crate) mod unipc;
pub mod watch;

#[cfg(test)]
mod references;
#[cfg(test)]
mod tests;

pub use plan::{Settings, Timetable};
pub use run::{At, Denoiser, Progress, run, sample};
pub use samplers::{SAMPLERS, SamplerInfo, find};
pub use schedule::Schedule;
pub use sigmas::ScheduleKind;
pub use timesteps::Timesteps;
