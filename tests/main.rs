//! The integration tests: one binary.

/// Every kernel against its f64 reference, on every instruction set that this processor has.
mod kernels;
