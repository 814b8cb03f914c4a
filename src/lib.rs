//! Lienzo: Stable Diffusion with every kernel written by hand.
//!
//! ```
//! use lienzo::{Engine, Event, Model, Request};
//! use std::{ops::ControlFlow, sync::Arc};
//!
//! let model = Arc::new(Model::embedded()?); // or checkpoint::open(path)
//! let request = Request::new(&model, "a red apple on a blue background")?;
//! let mut pictures = Vec::new();
//! Engine::on_cpu()?.draw(&model, &request, &mut |event| {
//!     if let Event::Picture { image, .. } = event { pictures.push(image) } // image.save("apple.png")
//!     ControlFlow::Continue(())
//! })?;
//! # assert_eq!((pictures.len(), pictures[0].width, pictures[0].is_flat()), (1, 64, false));
//! # Ok::<(), lienzo::Error>(())
//! ```
//!
//! The listener hears what happens, and its answer stops the work:
//!
//! ```
//! use lienzo::{Engine, Event, Kind, Model, Request};
//! use std::{ops::ControlFlow, sync::Arc};
//!
//! let model = Arc::new(Model::embedded()?);
//! let request = Request { count: 4, ..Request::new(&model, "two cats")? };
//! let mut evaluations = 0;
//! let stopped = Engine::on_cpu()?.draw(&model, &request, &mut |event| {
//!     if let Event::Done(n) = event { evaluations = n; println!("{n} evaluations done") }
//!     if evaluations == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
//! });
//! assert_eq!(*stopped.unwrap_err().kind(), Kind::Cancelled);
//! # assert_eq!(evaluations, 3);
//! # Ok::<(), lienzo::Error>(())
//! ```
//!
//! A kernel needs no model: each op has cases, an f64 reference and a bound on its error.
//!
//! ```
//! use lienzo::check::{Layout, Prepared};
//! use lienzo::{dtype::Storage, kernels, simd::Isa, workers::Workers};
//!
//! let case = kernels::cases().into_iter().find(|case| case.op.name() == "layer_norm").expect("an op");
//! let (prepared, workers) = (Prepared::new(&case, Storage::F16)?, Workers::new(2)?);
//! for (n, variant) in kernels::cpu::variants(&case.op, &case.x, &case.w).iter().enumerate() {
//!     let outcome = prepared.check(n, Isa::best(), Layout::Own, &workers)?;
//!     println!("{}: {:.1e} of {:.1e}", variant.name, outcome.error, outcome.bound);
//!     assert!(outcome.passed(), "{outcome}");
//! }
//! # Ok::<(), lienzo::Error>(())
//! ```
//!
//! What people ask for in their own words (sizes, sampler names, a picture and a mask, styles, a PNG to repeat) is a
//! [`job::order::Order`]; [`job`] makes a [`Request`] of it, for the command line and for whoever else takes orders.
//! To measure or to write kernels start at [`check`] and [`kernels`]; to add a model, a file format or a sampler, at
//! [`models`], [`checkpoint`] and [`diffusion::denoise`]: `CONTRIBUTING.md` has a recipe for each.
//!
//! # The tour
//!
//! A prompt becomes a picture in five steps, which [`diffusion::generate`] tells in one short function (figures of SD
//! 1.x at 512x512):
//!
//! | step | from | to | where |
//! |---|---|---|---|
//! | tokens | text | ids, in chunks of 77 | [`models::tokenizer`] |
//! | embedding | ids | `[1, 1, 77, 768]` a chunk | [`models::text`] |
//! | noise | a seed | latents `[4][64][64]` | [`rng`] |
//! | denoising | noise, embedding | latents, by a sampler and a network | [`diffusion::denoise`], [`models::unet`] |
//! | pixels | latents | `[1, 512, 512, 3]` | [`models::autoencoder`], [`mod@image`] |
//!
//! The rooms, from the ground up; each knows only those before it (a test holds every arrow):
//!
//! | room | what goes in and what comes out |
//! |---|---|
//! | [`mod@error`], [`dtype`], [`files`], [`workers`], [`tensor`], [`system`] | the ground |
//! | [`rng`], [`simd`], [`mod@image`] | noise as torch makes it; one kernel body for every instruction set; pictures |
//! | [`kernels`] | **how** an op is computed: contract, f64 reference, cases, CPU and GPU variants under one name |
//! | [`graph`] | **in which order and in which memory**: build, fuse, choose, plan for a target that is plain data |
//! | [`layers`], [`models`] | what the networks are: one file a network, built in the words of the layers |
//! | [`weights`], [`checkpoint`] | bytes and formats; what a file is, under one canonical naming, as inert data |
//! | [`backend`] | runs plans: the CPU over one arena, a GPU (WGSL through wgpu) over whole buffers |
//! | [`engine`] | programs and devices for any number of callers: [`Engine::draw`] |
//! | [`diffusion`] | **what** is computed: request, itinerary, prompts, samplers, inpainting, outpainting |
//! | [`job`] | one job in the user's words: order, memory, metadata, recipes, grids, styles, hints |
//! | `cli` | flags to an order, events to a terminal and files (the binary's own) |
//! | [`check`], [`mod@verify`], [`mod@bench`] | right? as diffusers computes? how fast? |
//!
//! # The seam
//!
//! 1. A model file builds a [`graph::Graph`] in the words of [`layers`]; node names are the checkpoint's.
//! 2. [`graph::fuse`] rewrites it (bias, nonlinearities, residuals, concatenations, upsampling, Q/K/V) and
//!    [`graph::plan::Plan`] chooses a variant for each step and a place in memory for each value. This needs shapes
//!    only: `lienzo generate --plan` prints it before a weight is read.
//! 3. A [`backend::Backend`] packs the weights that the plan names and returns a [`backend::Program`], which runs it.
//!
//! Which graphs a model has is a [`models::part::Part`]: *text* (one an encoder), *context* (keys and values of a
//! prompt, once), *time* (timesteps to rows, once), *step* (the network that predicts), *decode*, *encode*. The
//! samplers stay on the host. What a target can do is plain data to the planner ([`graph::target::Caps`]): a GPU's
//! plan, with its shaders, constants and grids ([`kernels::gpu`]), is made and tested without a GPU.
//!
//! # Conventions
//!
//! Tensors are `[b, h, w, c]`, channels last ([`tensor`]). Activations are f32 on the CPU, f32 or f16 on a GPU; sums
//! are f32. A kernel's work is split by shape alone, so the same seed gives the same bytes with any number of threads
//! and in any batch. [`kernels`] tells how one is written, [`check`] how it is tested, [`mod@verify`] how the whole is
//! compared with diffusers. Errors name the place and the remedy ([`mod@error`]).

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
pub mod rng;
#[cfg(feature = "serve")]
pub mod server;
pub mod simd;
pub mod system;
pub mod tensor;
pub mod verify;
pub mod weights;
pub mod workers;

pub use checkpoint::Model;
pub use diffusion::{Event, Request};
pub use engine::Engine;
pub use error::{Error, Kind, Result};
pub use image::Image;
pub use job::order::Order;
