//! How fast this machine is and how close the kernels come: cases and stages go in; checked, timed rows come out.
//!
//! Nothing unverified is timed: a kernel is first compared with its f64 reference ([`crate::check`]), and the error
//! stands beside the time. What a number means is told in `benches/README.md`.

pub mod arch;
pub mod ceiling;
pub mod explain;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod kernels;
pub mod own;
pub mod profile;
pub mod report;
pub mod stage;
pub mod stats;
pub mod wanted;
