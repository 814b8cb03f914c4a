//! Lienzo: Stable Diffusion with every kernel written by hand.
//!
//! A prompt becomes a picture in five steps, which [`diffusion::generate`] tells in one short function:
//!
//! | step | from | to | where |
//! |---|---|---|---|
//! | tokens | text | ids, 77 a chunk | [`models::tokenizer`] |
//! | embedding | ids | `[1, 1, 77, 768]` | [`models::text`] |
//! | noise | a seed | latents `[4][64][64]` | [`rng`] |
//! | denoising | noise, embedding | latents, by a sampler and the U-Net | [`diffusion::denoise`], [`models::unet`] |
//! | pixels | latents | `[1, 512, 512, 3]` | [`models::autoencoder::kl`], [`mod@image`] |
//!
//! # Three stacks
//!
//! [`diffusion`] says **what** is computed and names no device. [`graph`] says **in which order and in which memory**.
//! [`kernels`] says **how** and names no model. Only [`backend`] knows both ends, and [`engine`] holds it all together.
//!
//! 1. A model file builds a [`graph::Graph`] in the words of [`layers`]; node names are the checkpoint's.
//! 2. [`graph::fuse`] rewrites it (bias, nonlinearities, residuals, concatenations, upsampling, Q/K/V) and
//!    [`graph::plan::Plan`] chooses a variant for each step and a place in memory for each value. This needs shapes
//!    only: `lienzo generate --plan` prints it before a weight is read.
//! 3. A [`backend::Backend`] packs the weights that the plan names and returns a [`backend::Program`], which runs it.
//!
//! A backend is the CPU's ([`backend::cpu`]: SIMD, an interpreter over one arena) or a GPU's (`backend::gpu`: WGSL
//! through wgpu, whole buffers by lifetime). Which one is plain data to the planner ([`graph::target::Caps`]): a GPU's
//! plan, with its shaders, constants and grids ([`kernels::gpu`]), is made and tested without a GPU.
//!
//! There are six plans: *text*, *context* (keys and values of a prompt, once), *time* (timesteps to rows, once), *step*
//! (the U-Net), *decode* and *encode*. The samplers stay on the host, in [`diffusion::denoise`].
//!
//! # Conventions
//!
//! Tensors are `[b, h, w, c]`, channels last, f32 ([`tensor`]). Matrices are kept as f16 and expanded block by block;
//! sums are f32. A kernel's work is split by shape alone, so the same seed gives the same bytes with any number of
//! threads and in any batch. [`kernels`] tells how one is written, [`check`] how it is tested, [`mod@verify`] how the
//! whole is compared with diffusers.
//!
//! Checkpoints come in through [`weights`], as inert data under one canonical naming;
//! errors go out through [`mod@error`].

pub mod backend;
pub mod bench;
pub mod check;
pub mod checkpoint;
pub mod diffusion;
pub mod dtype;
pub mod engine;
pub mod error;
pub mod files;
#[cfg(test)]
mod fuzz;
pub mod graph;
pub mod image;
pub mod job;
pub mod kernels;
pub mod layers;
pub mod models;
pub mod output;
pub mod rng;
pub mod simd;
pub mod system;
pub mod tensor;
pub mod verify;
pub mod weights;
pub mod workers;

pub use error::{Error, Kind, Result};
