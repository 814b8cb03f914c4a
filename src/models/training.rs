//! How a network was trained: its noise schedule, and what it predicts.

/// What the network predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prediction {
    /// The noise (SD 1.x).
    Epsilon,
    /// Velocity, `sqrt(abar) noise - sqrt(1 - abar) clean` (SD 2.x at 768).
    V,
    /// The clean sample (SDXL-Lightning's network for one step).
    Sample,
    /// `noise - clean` on the straight way between them (rectified flow). Named, and refused by the samplers: nothing
    /// here has a schedule for it yet.
    Flow,
}

/// What stands in the last row of a schedule whose last timestep has no signal. Its noise level would be infinite, and
/// programs differ in what they write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZeroSnr {
    /// diffusers: 0 where timesteps are walked along (DDIM), 2^-24 where noise levels are: sigma 4096.
    Diffusers,
    /// The webui's and ComfyUI's 4.8973e-8 for all: sigma 4518.76.
    Webui,
}

impl ZeroSnr {
    /// The smallest cumulative alpha that has a noise level.
    pub fn floor(self) -> f32 {
        match self {
            Self::Diffusers => 1.0 / 16_777_216.0,
            Self::Webui => 4.897_345_3e-8,
        }
    }
}

/// How N timesteps are chosen out of the training ones (diffusers' `timestep_spacing`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spacing {
    /// `i * (1000 / n)` reversed, plus the offset.
    Leading,
    /// `linspace(0, 999, n)` reversed and rounded.
    Linspace,
    /// `1000 - i * 1000 / n`, rounded, minus 1.
    Trailing,
}

/// A model's training schedule, as its `scheduler_config.json` states it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// `true`: linear in the square roots of beta (`scaled_linear`); `false`: linear in beta.
    pub scaled_linear: bool,
    /// Training timesteps (1000).
    pub train_steps: usize,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Added to every timestep of `leading` spacing (1 for SD 1.x).
    pub steps_offset: usize,
    /// The spacing that the model's own scheduler uses.
    pub spacing: Spacing,
    /// Whether the last DDIM step ends at alpha = 1 (`false` for SD: it ends at alpha_0).
    pub set_alpha_to_one: bool,
    /// Whether the schedule is rescaled so that the last timestep has no signal, and by whose convention.
    pub zero_snr: Option<ZeroSnr>,
}

impl Default for ScheduleConfig {
    /// SD 1.x.
    fn default() -> Self {
        Self {
            beta_start: 0.00085,
            beta_end: 0.012,
            scaled_linear: true,
            train_steps: 1000,
            prediction: Prediction::Epsilon,
            steps_offset: 1,
            spacing: Spacing::Leading,
            set_alpha_to_one: false,
            zero_snr: None,
        }
    }
}
