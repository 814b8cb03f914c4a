//! A device's plans beside the CPU's, step by step: an error belongs to the step that makes it.
//!
//! Both run the same steps. After each the device's output is compared with the CPU's, then overwritten by it, so that
//! the next step begins from equal operands. Where the device stores f16 the CPU's values are rounded to f16 first.

use crate::backend::{Backend, Program, Run};
use crate::check::Random;
use crate::checkpoint::Model;
use crate::error::{Error, Kind, Result};
use crate::graph::Input;
use crate::graph::fuse;
use crate::graph::plan::Plan;
use crate::graph::target::Caps;
use crate::kernels::gpu::Storage;
use crate::models::part::{self, Part, StepShape};
use crate::tensor::{Shape, Tensor};
use std::sync::{Arc, mpsc};

/// What a step's error may be with f32 storage: rounding, magnified by the norms and exponentials within one step.
pub const LIMIT_F32: f64 = 1e-4;
/// The same with f16: half a unit in the 11th bit of the largest value, which can be 20 times the rms.
pub const LIMIT_F16: f64 = 2e-2;

/// One step's comparison.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Part and checkpoint path: `step unet.mid_block.resnets.0.conv1`.
    pub name: String,
    /// The op and the device's variant.
    pub kernel: String,
    /// max|device - cpu| / rms(cpu).
    pub error: f64,
    /// What it may be.
    pub limit: f64,
}

impl Compared {
    /// Whether it is within its limit.
    pub fn passed(&self) -> bool {
        self.error <= self.limit
    }
}

/// Every stage of a model on a small picture. `tell` hears each step.
pub fn lockstep(
    device: &dyn Backend,
    cpu: &dyn Backend,
    model: &Arc<Model>,
    tell: &mut dyn FnMut(&Compared),
) -> Result<()> {
    // Odd sizes on purpose: edges of tiles, levels that do not halve evenly.
    let (h, w, tokens) = (12, 20, model.networks.positions());
    let factor = model.networks.factor();
    let stages = [
        Part::Text { encoder: 0, chunks: 1, clip_skip: 1 },
        Part::Context { contexts: 2, tokens },
        Part::Time { timesteps: 2 },
        Part::Step(StepShape { samples: 1, contexts: 2, times: 1, h, w, tokens }),
        Part::Decode { size: (1, h, w) },
        Part::Encode { size: (1, h * factor, w * factor) },
    ];
    stages.iter().try_for_each(|stage| one(device, cpu, model, *stage, tell))
}

/// A plan for a device, loaded; variants that are refused meanwhile are done without.
fn load(backend: &dyn Backend, model: &Arc<Model>, plan: impl Fn(&Caps) -> Result<Plan>) -> Result<Box<dyn Program>> {
    loop {
        let plan = Arc::new(plan(&backend.caps_for(model))?);
        match backend.load(plan, model) {
            Err(e) if *e.kind() == Kind::Refused => {}
            result => return result,
        }
    }
}

fn one(
    device: &dyn Backend,
    cpu: &dyn Backend,
    model: &Arc<Model>,
    stage: Part,
    tell: &mut dyn FnMut(&Compared),
) -> Result<()> {
    let mut ours = load(device, model, |caps| Plan::new(stage.graph(&model.networks)?, caps))?;
    // The graph as it was fused for the device, so the same steps.
    let caps = device.caps_for(model);
    let mut theirs = load(cpu, model, |own| Plan::fused(fuse::fuse(stage.graph(&model.networks)?, &caps), own))?;
    let plan = ours.plan().clone();
    let same = plan.steps.len() == theirs.plan().steps.len()
        && plan.steps.iter().zip(&theirs.plan().steps).all(|(a, b)| a.name == b.name && a.op == b.op);
    if !same {
        return Err(Error::other(format!("plan {}: the devices have different steps", plan.name)));
    }
    for (i, (name, id)) in plan.inputs.iter().enumerate() {
        let value = input(*name, i, plan.values[*id].shape, plan.storage)?.into();
        ours.set(*name, &value)?;
        theirs.set(*name, &value)?;
    }
    let (storage, limit) = match plan.storage {
        Storage::F32 => (Storage::F32, LIMIT_F32),
        Storage::F16 => (Storage::F16, LIMIT_F16),
    };
    std::thread::scope(|scope| {
        let (to, from) = mpsc::sync_channel::<Tensor>(1);
        let cpu_side = move || {
            theirs.run(Run::Stepped(&mut |_, value| {
                round(value, storage);
                // The other side has stopped with an error of its own.
                to.send(value.clone()).map_err(|_| Error::cancelled())
            }))
        };
        let started = std::thread::Builder::new().spawn_scoped(scope, cpu_side);
        let cpu_side = started.map_err(|e| Error::other(format!("could not start a thread ({e})")).caused_by(e))?;
        let device_side = ours.run(Run::Stepped(&mut |i, value| {
            let want = from.recv().map_err(|_| Error::other("the CPU stopped"))?;
            let step = &plan.steps[i];
            tell(&Compared {
                name: format!("{} {}", plan.name, step.name),
                kernel: format!("{}/{}", step.op.name(), step.variant_name),
                error: error(value.data(), want.data()),
                limit,
            });
            *value = want;
            Ok(())
        }));
        drop(from);
        let cpu_side = cpu_side.join().unwrap_or_else(|_| Err(Error::other("the CPU's thread failed")));
        match device_side {
            Ok(()) => cpu_side,
            Err(e) => Err(e),
        }
    })
}

/// Normal values; timesteps within the schedule.
fn input(name: Input, seed: usize, shape: Shape, storage: Storage) -> Result<Tensor> {
    let mut values = Random::new(&format!("{name} {seed}")).normal(shape.len(), 1.0);
    if name == part::time::TIMESTEPS {
        values = (0..shape.len()).map(|i| 981.25 - 400.5 * i as f32).collect();
    }
    let mut t = Tensor::new(shape, values)?;
    round(&mut t, storage);
    Ok(t)
}

fn round(t: &mut Tensor, storage: Storage) {
    if storage == Storage::F16 {
        t.data_mut().iter_mut().for_each(|v| *v = half::f16::from_f32(*v).to_f32());
    }
}

/// max|a - b| / rms(b); a NaN is infinitely wrong.
fn error(a: &[f32], b: &[f32]) -> f64 {
    let rms = (b.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / b.len().max(1) as f64).sqrt();
    let off = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    let most = a.iter().zip(b).map(off).fold(0.0, |m: f64, v| if v.is_nan() { f64::INFINITY } else { m.max(v) });
    most / rms.max(1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::simd::Isa;

    #[test]
    fn errors_are_relative_and_a_nan_is_one() {
        assert_eq!(error(&[1.0, 3.0], &[1.0, 1.0]), 2.0);
        assert_eq!(error(&[f32::NAN], &[1.0]), f64::INFINITY);
    }

    #[test]
    fn a_device_agrees_with_itself() {
        let model = Arc::new(Model::embedded().unwrap());
        let cpu = || Cpu::new(1, Isa::best(), Storage::F16).unwrap();
        let (mut steps, mut worst) = (0, 0.0_f64);
        lockstep(&cpu(), &cpu(), &model, &mut |c| {
            steps += 1;
            worst = worst.max(c.error);
        })
        .unwrap();
        assert!(steps > 100 && worst == 0.0, "{steps} steps, {worst}");
    }
}
