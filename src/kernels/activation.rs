//! The nonlinearities that ops can end in, with their f64 definitions.

use super::erfc::erfc;

/// The nonlinearities that ops can end in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    #[default]
    None,
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)`, with the exact error function.
    Gelu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
}

impl Activation {
    /// The f64 definition.
    pub fn reference(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Gelu => 0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Self::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        }
    }
}
