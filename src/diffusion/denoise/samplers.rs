//! A sampler's name in, what there is to know about it out: the one list that a new sampler is added to.

use super::plan::{Method, Settings, Tables};
use super::schedule::Schedule;
use super::sigmas::{self, ScheduleKind, normalised};
use super::timesteps::{self, Timesteps};
use super::{
    cfg_pp, ddim, dpm_solver, dpm2, dpmpp, dpmpp_sde, er_sde, euler, heun, lcm, lms, multistep, res, restart, tcd,
    unipc,
};
use crate::error::{Error, Result, escape};
use crate::models::training::Spacing;

/// What a sampler walks along, and in which of the two spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// k-diffusion's: noise levels of a sigma schedule.
    Sigma,
    /// Timesteps (DDIM, PLMS, UniPC, TCD).
    Timesteps,
}

/// How often a sampler calls the guided model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Once a step.
    One,
    /// Once a step and once more in the first.
    OneMore,
    /// Twice a step, once in the last.
    Two,
    /// As often as the step size needs.
    Varies,
}

/// Where a sampler's noise comes from after the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draws {
    /// It takes none.
    None,
    /// The image's generator, where eta is above 0.
    Generator,
    /// A Brownian path of the image's seed; the generator is not touched.
    Brownian,
}

/// One sampler: its names, its defaults and its code.
pub struct SamplerInfo {
    /// The webui's name: shown, and written in metadata.
    pub name: &'static str,
    /// The names of the webui's API, stable-diffusion.cpp, ComfyUI, diffusers and AI Horde, as far as they differ by
    /// more than case, spaces, dashes, underscores, `++` for `pp`, a leading `k_` or a trailing `Scheduler`.
    pub aliases: &'static [&'static str],
    /// The sigma schedule that `automatic` means.
    pub schedule: ScheduleKind,
    /// Calls of the guided model.
    pub calls: Calls,
    /// Whether the schedule is made one step longer and loses its last but one level.
    pub discard_penultimate: bool,
    /// Which tables it walks along.
    pub family: Family,
    /// Noise after the start.
    pub draws: Draws,
    /// The share of fresh noise where the user says nothing; none where there is no share to choose.
    pub eta: Option<f32>,
    /// Whether it is made for consistency models and their few timesteps.
    pub distilled: bool,
    /// Whether it wants the estimate without the prompt too, so that both halves are computed at guidance 1 as well.
    pub both_halves: bool,
    /// Whether the steps that are asked for are evaluations, which the method groups as it needs.
    pub grouped: bool,
    /// What it walks along, for a schedule and the user's settings.
    pub(super) tables: fn(&Schedule, &Settings) -> Tables,
    pub(super) run: Method,
}

impl SamplerInfo {
    /// Whether the sampler chooses its steps itself; it then takes a batch's images one at a time.
    pub fn adaptive(&self) -> bool {
        self.calls == Calls::Varies
    }

    /// Whether `--eta` changes anything.
    pub fn takes_eta(&self) -> bool {
        self.eta.is_some()
    }
}

impl std::fmt::Debug for SamplerInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for SamplerInfo {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A deterministic k-sampler with one call a step: what the entries below start from.
const BASE: SamplerInfo = SamplerInfo {
    name: "",
    aliases: &[],
    schedule: ScheduleKind::Uniform,
    calls: Calls::One,
    discard_penultimate: false,
    family: Family::Sigma,
    draws: Draws::None,
    eta: None,
    distilled: false,
    both_halves: false,
    grouped: false,
    tables: sigmas::tables,
    run: euler::euler,
};

const ANCESTRAL: SamplerInfo = SamplerInfo { draws: Draws::Generator, eta: Some(1.0), ..BASE };
const SDE: SamplerInfo =
    SamplerInfo { schedule: ScheduleKind::Exponential, draws: Draws::Brownian, eta: Some(1.0), ..BASE };

/// Every sampler, in the webui's order, then those of other programs. Defaults: `sd_samplers_kdiffusion` of the webui
/// as its metadata shows them.
pub const SAMPLERS: &[SamplerInfo] = &[
    SamplerInfo {
        name: "DPM++ 2M",
        aliases: &["DPMSolverMultistep", "dpmsolver"],
        schedule: ScheduleKind::Karras,
        run: dpmpp::dpmpp_2m,
        ..BASE
    },
    SamplerInfo {
        name: "DPM++ SDE",
        aliases: &["DPMSolverSDE", "dpmpp_sde_gpu"],
        schedule: ScheduleKind::Karras,
        calls: Calls::Two,
        run: dpmpp_sde::dpmpp_sde,
        ..SDE
    },
    SamplerInfo { name: "DPM++ 2M SDE", aliases: &["dpmpp_2m_sde_gpu"], run: dpmpp_sde::dpmpp_2m_sde, ..SDE },
    SamplerInfo {
        name: "DPM++ 2M SDE Heun",
        aliases: &["dpmpp_2m_sde_heun_gpu"],
        run: dpmpp_sde::dpmpp_2m_sde_heun,
        ..SDE
    },
    SamplerInfo {
        name: "DPM++ 2S a",
        aliases: &["dpmpp_2s_ancestral"],
        schedule: ScheduleKind::Karras,
        calls: Calls::Two,
        run: dpmpp::dpmpp_2s_ancestral,
        ..ANCESTRAL
    },
    SamplerInfo {
        name: "DPM++ 3M SDE",
        aliases: &["dpmpp_3m_sde_gpu"],
        discard_penultimate: true,
        run: dpmpp_sde::dpmpp_3m_sde,
        ..SDE
    },
    SamplerInfo {
        name: "Euler a",
        aliases: &["euler_ancestral", "EulerAncestralDiscrete"],
        run: euler::euler_ancestral,
        ..ANCESTRAL
    },
    SamplerInfo { name: "Euler", aliases: &["EulerDiscrete"], run: euler::euler, ..BASE },
    SamplerInfo { name: "LMS", aliases: &["LMSDiscrete"], run: lms::lms, ..BASE },
    SamplerInfo { name: "Heun", aliases: &["HeunDiscrete"], calls: Calls::Two, run: heun::heun, ..BASE },
    SamplerInfo {
        name: "DPM2",
        aliases: &["KDPM2", "KDPM2Discrete"],
        schedule: ScheduleKind::Karras,
        calls: Calls::Two,
        discard_penultimate: true,
        run: dpm2::dpm2,
        ..BASE
    },
    SamplerInfo {
        name: "DPM2 a",
        aliases: &["dpm_2_ancestral", "KDPM2Ancestral", "KDPM2AncestralDiscrete"],
        schedule: ScheduleKind::Karras,
        calls: Calls::Two,
        discard_penultimate: true,
        run: dpm2::dpm2_ancestral,
        ..ANCESTRAL
    },
    SamplerInfo { name: "DPM fast", aliases: &[], grouped: true, run: dpm_solver::dpm_fast, ..ANCESTRAL },
    SamplerInfo {
        name: "DPM adaptive",
        aliases: &["dpm_ad"],
        calls: Calls::Varies,
        grouped: true,
        run: dpm_solver::dpm_adaptive,
        ..ANCESTRAL
    },
    // Its eta is fixed: the jumps belong to the method.
    SamplerInfo {
        name: "Restart",
        aliases: &[],
        schedule: ScheduleKind::Karras,
        calls: Calls::Two,
        draws: Draws::Generator,
        run: restart::restart,
        ..BASE
    },
    SamplerInfo {
        name: "DDIM",
        aliases: &["ddim_trailing", "DDIMParallel"],
        family: Family::Timesteps,
        draws: Draws::Generator,
        eta: Some(0.0),
        tables: timesteps::tables,
        run: ddim::ddim,
        ..BASE
    },
    SamplerInfo {
        name: "PLMS",
        aliases: &["PNDM"],
        family: Family::Timesteps,
        calls: Calls::OneMore,
        tables: ddim::plms_tables,
        run: ddim::plms,
        ..BASE
    },
    SamplerInfo {
        name: "UniPC",
        aliases: &["uni_pc_bh2", "UniPCMultistep"],
        family: Family::Timesteps,
        tables: unipc::tables,
        run: unipc::unipc::<2, false>,
        ..BASE
    },
    // Noise after each step is the method itself, so there is no eta.
    SamplerInfo {
        name: "LCM",
        aliases: &[],
        draws: Draws::Generator,
        distilled: true,
        tables: lcm::tables,
        run: lcm::lcm,
        ..BASE
    },
    SamplerInfo {
        name: "TCD",
        aliases: &[],
        family: Family::Timesteps,
        draws: Draws::Generator,
        eta: Some(0.3),
        distilled: true,
        tables: tcd::tables,
        run: tcd::tcd,
        ..BASE
    },
    SamplerInfo { name: "Euler CFG++", aliases: &[], both_halves: true, run: cfg_pp::euler_cfg_pp, ..BASE },
    SamplerInfo {
        name: "Euler a CFG++",
        aliases: &["euler_ancestral_cfg_pp"],
        both_halves: true,
        run: cfg_pp::euler_cfg_pp,
        ..ANCESTRAL
    },
    SamplerInfo {
        name: "RES multistep",
        aliases: &[],
        draws: Draws::Generator,
        eta: Some(0.0),
        run: res::res_multistep,
        ..BASE
    },
    SamplerInfo {
        name: "RES multistep a",
        aliases: &["res_multistep_ancestral"],
        run: res::res_multistep,
        ..ANCESTRAL
    },
    SamplerInfo { name: "Gradient estimation", aliases: &["euler_ge"], run: multistep::gradient_estimation, ..BASE },
    // Its noise belongs to the method, so there is no eta.
    SamplerInfo { name: "ER SDE", aliases: &[], draws: Draws::Generator, run: er_sde::er_sde, ..BASE },
    SamplerInfo { name: "iPNDM", aliases: &[], run: multistep::ipndm, ..BASE },
];

/// Samplers of other programs, each with the nearest of ours.
const FOREIGN: &[(&str, &str)] = &[
    ("dpmpp_2mv2", "DPM++ 2M"),
    ("dpm++2m_sde_bt", "DPM++ 2M SDE"),
    ("DPMSolverSinglestep", "DPM++ 2M"),
    ("dpmpp_2m_cfg_pp", "Euler CFG++"),
    ("dpmpp_2s_ancestral_cfg_pp", "Euler a CFG++"),
    ("DDIM CFG++", "Euler CFG++"),
    ("heunpp2", "Heun"),
    ("exp_heun_2_x0", "Heun"),
    ("exp_heun_2_x0_sde", "DPM++ 2M SDE Heun"),
    ("ipndm_v", "iPNDM"),
    ("deis", "DPM++ 2M"),
    ("DEISMultistep", "DPM++ 2M"),
    ("ddpm", "Euler a"),
    ("res_2s", "RES multistep"),
    ("res_2m", "RES multistep"),
    ("res_3s", "RES multistep"),
    ("res_3m", "RES multistep"),
    ("res_5s", "RES multistep"),
    ("ralston_2s", "Heun"),
    ("sa_solver", "DPM++ 3M SDE"),
    ("seeds_2", "DPM++ SDE"),
    ("seeds_3", "DPM++ SDE"),
    ("EDMEuler", "Euler"),
    ("EDMDPMSolverMultistep", "DPM++ 2M"),
    ("VQDiffusion", "Euler a"),
    ("res_multistep_cfg_pp", "RES multistep"),
    ("res_multistep_ancestral_cfg_pp", "RES multistep a"),
    ("gradient_estimation_cfg_pp", "Gradient estimation"),
    ("sa_solver_pece", "DPM++ 3M SDE"),
    ("CosineDPMSolverMultistep", "DPM++ 2M SDE"),
    ("DPMSolverMultistepInverse", "DPM++ 2M"),
    ("DDIMInverse", "DDIM"),
    ("DDPMParallel", "Euler a"),
    ("DDPMWuerstchen", "Euler a"),
    ("ConsistencyDecoder", "LCM"),
    ("CMStochasticIterative", "LCM"),
    ("FlowMatchEulerDiscrete", "Euler"),
    ("FlowMatchHeunDiscrete", "Heun"),
    ("FlowMatchLCM", "LCM"),
    ("KarrasVe", "Heun"),
    ("RePaint", "DDIM"),
    ("ScoreSdeVe", "Euler a"),
    ("ScoreSdeVp", "Euler a"),
    ("UnCLIP", "Euler a"),
];

/// A name without what programs vary, `k_` and `Scheduler` among it.
fn key(name: &str) -> String {
    let trimmed = name.trim().to_lowercase();
    let bare = trimmed.strip_prefix("sample_").unwrap_or(&trimmed);
    let bare = bare.strip_prefix("k_").unwrap_or(bare);
    normalised(bare.strip_suffix("scheduler").unwrap_or(bare))
}

fn lookup(name: &str) -> Option<&'static SamplerInfo> {
    let wanted = key(name);
    SAMPLERS.iter().find(|s| key(s.name) == wanted || s.aliases.iter().any(|a| key(a) == wanted))
}

/// The sampler of this name, in the spelling of any program that we know.
///
/// An unknown name is a usage error that lists the nearest ones; a known one that we lack says which to take instead.
pub fn find(name: &str) -> Result<&'static SamplerInfo> {
    if let Some(info) = lookup(name) {
        return Ok(info);
    }
    let wanted = key(name);
    if let Some((_, near)) = FOREIGN.iter().find(|(n, _)| key(n) == wanted) {
        return Err(Error::usage(format!("sampler '{}' is not built in; the nearest is {near}", escape(name))));
    }
    // A hostile name may be long, and the distance is quadratic.
    let short: String = wanted.chars().take(64).collect();
    let distance = |s: &SamplerInfo| {
        let names = s.aliases.iter().copied().chain([s.name]);
        names.map(|n| strsim::damerau_levenshtein(&key(n), &short)).min().unwrap_or(usize::MAX)
    };
    let mut near: Vec<(usize, &str)> = SAMPLERS.iter().map(|s| (distance(s), s.name)).collect();
    near.sort_by_key(|(distance, _)| *distance);
    let names: Vec<&str> = near.iter().take(3).map(|(_, name)| *name).collect();
    Err(Error::usage(format!("unknown sampler '{}': did you mean {}?", escape(name), names.join(", "))))
}

/// A sampler's name with what may come after or in it: a schedule, or a spacing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Named {
    /// The sampler.
    pub sampler: &'static SamplerInfo,
    /// The schedule in `DPM++ 2M Karras` or `euler_a karras`.
    pub schedule: Option<ScheduleKind>,
    /// The spacing in `ddim_trailing`.
    pub timesteps: Option<Timesteps>,
}

/// Like [`find`], but also takes the names in which older programs join sampler and schedule.
pub fn find_named(name: &str) -> Result<Named> {
    if let Some(sampler) = lookup(name) {
        let trailing = (key(name) == key("ddim_trailing")).then_some(Timesteps::Spaced(Spacing::Trailing));
        return Ok(Named { sampler, schedule: None, timesteps: trailing });
    }
    // No joined name is this long; a hostile one would make the search quadratic.
    let separators = if name.len() <= 100 { name } else { "" }.match_indices([' ', '_', '-']);
    for (at, _) in separators {
        let Some(sampler) = lookup(&name[..at]) else { continue };
        let rest = &name[at + 1..];
        if ScheduleKind::lookup(rest).is_some() || ScheduleKind::nearest(rest).is_some() {
            // One that only other programs have is refused with the nearest.
            return Ok(Named { sampler, schedule: Some(ScheduleKind::parse(rest)?), timesteps: None });
        }
    }
    find(name).map(|sampler| Named { sampler, schedule: None, timesteps: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_belongs_to_one_sampler() {
        let mut keys: Vec<String> = Vec::new();
        for s in SAMPLERS {
            keys.extend(s.aliases.iter().chain([&s.name]).map(|n| key(n)));
        }
        keys.extend(FOREIGN.iter().map(|(n, _)| key(n)));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
        assert!(FOREIGN.iter().all(|(_, near)| lookup(near).is_some()));
    }

    #[test]
    fn the_spellings_of_five_programs() {
        let spellings: &[(&str, &[&str])] = &[
            ("DPM++ 2M", &["k_dpmpp_2m", "dpm++2m", "dpmpp_2m", "DPMSolverMultistepScheduler", "dpmsolver"]),
            ("DPM++ SDE", &["k_dpmpp_sde", "dpmpp_sde", "DPMSolverSDEScheduler"]),
            ("DPM++ 2M SDE", &["k_dpmpp_2m_sde", "dpm++2m_sde", "dpmpp_2m_sde"]),
            ("DPM++ 2M SDE Heun", &["k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun"]),
            ("DPM++ 2S a", &["k_dpmpp_2s_a", "dpm++2s_a", "dpmpp_2s_ancestral"]),
            ("DPM++ 3M SDE", &["k_dpmpp_3m_sde", "dpmpp_3m_sde"]),
            ("Euler a", &["k_euler_a", "euler_a", "euler_ancestral", "k_euler_ancestral", "EULER-A"]),
            ("Euler", &["k_euler", "euler", "EulerDiscreteScheduler"]),
            ("LMS", &["k_lms", "lms", "LMSDiscreteScheduler"]),
            ("Heun", &["k_heun", "heun", "HeunDiscreteScheduler"]),
            ("DPM2", &["k_dpm_2", "dpm2", "dpm_2", "KDPM2DiscreteScheduler"]),
            ("DPM2 a", &["k_dpm_2_a", "dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"]),
            ("DPM fast", &["k_dpm_fast", "dpm_fast"]),
            ("DPM adaptive", &["k_dpm_ad", "k_dpm_adaptive", "dpm_adaptive"]),
            ("Restart", &["restart"]),
            ("DDIM", &["ddim", "ddim_trailing", "DDIMScheduler"]),
            ("PLMS", &["plms", "PNDMScheduler"]),
            ("UniPC", &["unipc", "uni_pc", "UniPCMultistepScheduler"]),
            ("LCM", &["k_lcm", "lcm", "LCMScheduler"]),
            ("TCD", &["tcd", "TCDScheduler"]),
            ("Euler CFG++", &["euler_cfg_pp", "euler cfg pp"]),
            ("Euler a CFG++", &["euler_a_cfg_pp", "euler_ancestral_cfg_pp"]),
            ("RES multistep", &["res_multistep", "RES Multistep"]),
            ("RES multistep a", &["res_multistep_ancestral"]),
            ("Gradient estimation", &["gradient_estimation", "euler_ge"]),
            ("ER SDE", &["er_sde"]),
            ("iPNDM", &["ipndm", "IPNDMScheduler"]),
        ];
        assert_eq!(spellings.len(), SAMPLERS.len());
        for (name, others) in spellings {
            for other in others.iter().chain([name]) {
                assert_eq!(find(other).unwrap().name, *name, "{other}");
            }
        }
    }

    #[test]
    fn joined_names() {
        let named = find_named("DPM++ 2M SDE Karras").unwrap();
        assert_eq!((named.sampler.name, named.schedule), ("DPM++ 2M SDE", Some(ScheduleKind::Karras)));
        let named = find_named("euler_a karras").unwrap();
        assert_eq!((named.sampler.name, named.schedule), ("Euler a", Some(ScheduleKind::Karras)));
        let named = find_named("dpmpp_2m_sgm_uniform").unwrap();
        assert_eq!((named.sampler.name, named.schedule), ("DPM++ 2M", Some(ScheduleKind::SgmUniform)));
        assert_eq!(find_named("ddim_trailing").unwrap().timesteps, Some(Timesteps::Spaced(Spacing::Trailing)));
        assert_eq!(find_named("DPM++ 2M SDE Heun").unwrap().schedule, None);
        assert_eq!(find_named("lcm_turbo").unwrap().schedule, Some(ScheduleKind::Turbo));
        // RES4LYF's and stable-diffusion.cpp's schedules, joined as a picture's text has them.
        for (name, near) in
            [("euler_a gits", "Align Your Steps"), ("dpm++2m bong_tangent", "KL Optimal"), ("Euler smoothstep", "Beta")]
        {
            let message = find_named(name).unwrap_err().to_string();
            assert!(message.contains("schedule '") && message.contains(near), "{message}");
        }
    }

    #[test]
    fn unknown_names_get_the_nearest() {
        let message = |name: &str| find(name).unwrap_err().to_string();
        assert!(message("Eular a").contains("did you mean Euler a"));
        assert!(message("dpm++2mv2").contains("the nearest is DPM++ 2M"));
        assert!(message("RES-2S").contains("the nearest is RES multistep"));
        assert!(message(&"x ".repeat(1_000_000)).len() < 1000);
        assert!(find_named(&"x ".repeat(1_000_000)).is_err());
    }
}
