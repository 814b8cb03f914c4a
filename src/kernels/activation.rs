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
    /// `max(x, 0)`.
    Relu,
    /// `3 tanh(x / 3)`: a soft clamp to -3 ..= 3.
    Tanh3,
    /// `(x + 1) / 2`: from -1 ..= 1 to 0 ..= 1.
    ToUnit,
    /// `2 x - 1`: from 0 ..= 1 to -1 ..= 1.
    FromUnit,
    /// `x`, below 0 `0.2 x`.
    LeakyRelu,
    /// `0.2 x`: how much of a residual dense block is added.
    Fifth,
}

impl Activation {
    /// All that compute something.
    pub const ALL: [Self; 9] = [
        Self::Silu,
        Self::Gelu,
        Self::QuickGelu,
        Self::Relu,
        Self::Tanh3,
        Self::ToUnit,
        Self::FromUnit,
        Self::LeakyRelu,
        Self::Fifth,
    ];

    /// The f64 definition.
    pub fn reference(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Gelu => 0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Self::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
            // `f64::max` would turn a NaN into 0.
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Tanh3 => 3.0 * (x / 3.0).tanh(),
            Self::ToUnit => 0.5 * x + 0.5,
            Self::FromUnit => 2.0 * x - 1.0,
            // The slope as the kernels have it.
            Self::LeakyRelu => {
                if x < 0.0 {
                    f64::from(0.2_f32) * x
                } else {
                    x
                }
            }
            Self::Fifth => f64::from(0.2_f32) * x,
        }
    }
}
