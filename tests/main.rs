//! The integration tests: one binary, one module per area.

mod cli; // the command, as a user types it: exit codes, messages, files
mod common; // a tiny model, temporary folders, the binary
mod convert; // any checkpoint to one clean file
mod determinism; // the same bytes whatever the threads, the batch and the time
mod engine; // one engine and many callers
mod fallback; // a device that fails in the middle, and what is done instead
#[cfg(feature = "gpu")]
mod gpu; // the same ops on a GPU, in every variant that its adapter can run
#[cfg(feature = "gpu")]
mod gpu_models; // whole models on a GPU: step by step beside the CPU, and pictures by the command
mod gpu_plan; // plans for GPUs, made without one
mod graph; // rewrites keep the meaning, plans never let live values share memory
mod img2img; // a picture made from a picture
mod inpaint; // a part painted anew, and beyond the edges
#[cfg(unix)]
mod interrupt; // signals at any moment, and --resume
mod kernels; // every op, variant and instruction set against its f64 reference
mod memory; // streamed weights, released stages: the same bits in less memory
mod prompts; // styles, embeddings and grids, through the command
mod readme; // commands, flags and pictures of the READMEs
mod recipe; // what pictures say, repeated
#[cfg(feature = "serve")]
mod server; // lienzo serve: its API, its rules, its end, and many clients
mod shaders; // every WGSL text validates, fits its launch and lowers to SPIR-V, MSL and HLSL
mod structure; // which folder may know which
mod upscale; // upscalers against PyTorch, pictures through lienzo upscale
mod verify; // the tiny model against diffusers, as a folder and as one file; the embedded model against diffusers' values for it
