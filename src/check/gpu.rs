//! A case on a GPU: the same values, reference and bounds as on the CPU, and guards on the device.

use super::buffers::{Buffer, wrong_statistics};
use super::{Layout, Outcome, Prepared};
use crate::backend::gpu::check::{Bench, CaseWeight, Ready, guard};
use crate::error::Result;
use crate::kernels::Packing;
use crate::kernels::gpu::{LaunchIo, Limits, Storage, View, launch, variants};

impl Prepared {
    /// Puts the case on a device for one variant; `limits` are the device's or narrower ones.
    pub fn on_gpu<'b>(&self, bench: &'b Bench, limits: &Limits, variant: usize, layout: Layout) -> Result<OnGpu<'b>> {
        let storage = limits.storage;
        let x: Vec<Buffer> =
            self.case.x.iter().zip(&self.x).map(|(s, v)| Buffer::operand(*s, v, layout, guard(storage))).collect();
        let views: Vec<View> = x.iter().map(Buffer::view).collect();
        let y = Buffer::padded_output(self.shapes[0], guard(storage));
        let io = LaunchIo { x: &views, w: &self.case.w, y: View::whole(self.shapes[0]), limits };
        let launch = launch(&self.case.op, variant, &io)?;
        let packings = self.case.op.packings();
        let weight = |((dims, values), packing): ((_, _), Packing)| CaseWeight { dims, packing, values };
        let w: Vec<CaseWeight<'_>> =
            self.case.w.iter().copied().zip(self.w.iter().map(Vec::as_slice)).zip(packings).map(weight).collect();
        let own = |i| if self.case.op.takes_statistics(i) { Storage::F32 } else { storage };
        let rows: Vec<(Vec<f32>, Storage)> = x.iter().enumerate().map(|(i, b)| (b.rows(), own(i))).collect();
        let statistics = self.shapes.get(1).map(|s| Buffer::padded_output(*s, guard(Storage::F32)));
        let flops = self.case.op.cost(&self.case.x, &self.case.w).flops;
        let ready =
            bench.ready((&launch, limits), flops, &rows, &w, (y.all(), statistics.as_ref().map(Buffer::all)))?;
        Ok(OnGpu { ready, y, statistics, dispatches: launch.dispatches.len() })
    }

    /// Runs one variant on a device and compares. Bounds are those of f32, wider where the device stores f16.
    pub fn check_gpu(&self, bench: &Bench, limits: &Limits, variant: usize, layout: Layout) -> Result<Outcome> {
        let mut on_gpu = self.on_gpu(bench, limits, variant, layout)?;
        on_gpu.ready.run()?;
        on_gpu.download()?;
        let y = &on_gpu.y;
        let left = on_gpu.statistics.as_ref().and_then(|s| {
            let own = s.problem().map(|p| format!("statistics: {p}"));
            own.or_else(|| wrong_statistics(&self.case.op, y, s))
        });
        let name = variants(&self.case.op, &self.case.x, &self.case.w, limits)[variant].name;
        let storage = match limits.storage {
            Storage::F32 => "f32",
            Storage::F16 => "f16",
        };
        let mut outcome = self.compare(y, y.problem().or(left), name, &format!("gpu {storage}"));
        if limits.storage == Storage::F16 {
            outcome.bound += self.output_rounding();
        }
        Ok(outcome)
    }

    /// What storing the output as f16 costs at most, of its rms: half a unit in the 11th bit of the largest value.
    /// Operands have been rounded before the reference was computed; what is between is f32.
    fn output_rounding(&self) -> f64 {
        let rms = (self.want.iter().map(|v| v * v).sum::<f64>() / self.want.len().max(1) as f64).sqrt();
        let most = self.want.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        most / rms.max(super::LEAST_RMS) / 2048.0
    }
}

/// A case on a device, ready to be run any number of times.
pub struct OnGpu<'b> {
    ready: Ready<'b>,
    y: Buffer,
    statistics: Option<Buffer>,
    dispatches: usize,
}

impl OnGpu<'_> {
    /// Runs it once and waits.
    ///
    /// # Errors
    /// As [`Ready::run`].
    pub fn run(&self) -> Result<std::time::Duration> {
        self.ready.run()
    }

    /// Runs it once, by the device's clock where it has one.
    ///
    /// # Errors
    /// As [`Ready::time`].
    pub fn time(&self) -> Result<std::time::Duration> {
        self.ready.time()
    }

    /// Calls of shaders that it takes.
    pub fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// Fetches what is in the outputs and around them.
    fn download(&mut self) -> Result<()> {
        let (y, statistics) = self.ready.output()?;
        self.y.replace(y);
        if let (Some(to), Some(from)) = (&mut self.statistics, statistics) {
            to.replace(from);
        }
        Ok(())
    }
}
