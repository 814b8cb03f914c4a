//! The integration tests: one binary, one module per area.

mod common; // a tiny model, temporary folders, the binary
mod graph; // rewrites keep the meaning, plans never let live values share memory
mod kernels; // every op, variant and instruction set against its f64 reference
mod structure; // which folder may know which
