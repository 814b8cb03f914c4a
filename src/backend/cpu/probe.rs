//! The start-up probe: a processor goes in; the fastest of the sizes that change no result comes out, measured once and
//! remembered in the user's cache folder.
//!
//! The cache is one small text file that only its owner can read. A missing, damaged or unwritable one is left out,
//! never an error.

use crate::dtype::Storage;
use crate::error::{Error, Result};
use crate::files::write_private;
use crate::graph::choose::choose;
use crate::graph::target::Caps;
use crate::kernels::conv2d::Conv2d;
use crate::kernels::cpu::panels::{Packed, StoredTensor, pack_here};
use crate::kernels::cpu::{self, In, Io, Out};
use crate::kernels::matmul::Matmul;
use crate::kernels::{Dims, Op, Packing};
use crate::simd::Isa;
use crate::system::{cache_dir, processor_name};
use crate::tensor::Shape;
use crate::workers::Workers;
use crate::workers::tuning::{CHUNK_BYTES, ROWS, TILES, Tuning};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A plan with less work than this is run with the default sizes: measuring would cost more than it gives.
pub const WORTH: u64 = 50_000_000_000;
/// Measurements of each choice; the fastest counts.
const REPEATS: usize = 4;
/// Another size than the default must be this much faster: less is noise.
const GAIN: f64 = 0.97;
/// A larger file is not one that we wrote.
const MAX_BYTES: usize = 1 << 16;

/// What was chosen, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// The sizes.
    pub tuning: Tuning,
    /// Where they come from.
    pub reason: Reason,
}

/// Where sizes come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Measured just now: what was measured, as text, and whether the cache holds it now.
    Measured {
        /// One line for each kind of work.
        lines: Vec<String>,
        /// How long the probe took.
        took: Duration,
        /// The file that remembers it.
        kept: Option<PathBuf>,
    },
    /// Measured by an earlier process.
    Cached(PathBuf),
}

/// The sizes for this processor: from the cache, else measured.
///
/// # Errors
/// A kernel that has no variant for the shapes of the probe: a mistake in the program.
pub fn choice(isa: Isa, workers: &Workers) -> Result<Probed> {
    let file = cache_dir().map(|dir| dir.join("tuning.txt"));
    let key = key(isa, workers.threads());
    let text = file.as_ref().map(|f| read(f)).unwrap_or_default();
    if let Some(tuning) = lookup(&text, &key) {
        return Ok(Probed { tuning, reason: Reason::Cached(file.unwrap_or_default()) });
    }
    let start = Instant::now();
    let (tuning, lines) = measure(isa, workers)?;
    let took = start.elapsed();
    let kept = file.filter(|f| write_private(f, with(&text, &key, tuning).as_bytes()).is_ok());
    Ok(Probed { tuning, reason: Reason::Measured { lines, took, kept } })
}

fn key(isa: Isa, threads: usize) -> String {
    let processor = processor_name().unwrap_or_else(|| std::env::consts::ARCH.into()).replace(['\t', '\n'], " ");
    format!("{}\t{processor}\t{isa}\t{threads}", env!("CARGO_PKG_VERSION"))
}

fn read(file: &std::path::Path) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let opened = std::fs::metadata(file).ok().filter(|m| m.is_file()).and_then(|_| std::fs::File::open(file).ok());
    let read = opened.and_then(|f| f.take(MAX_BYTES as u64).read_to_string(&mut text).ok());
    if read.is_some() { text } else { String::new() }
}

/// The line `KEY<tab>ROWS CHUNK_BYTES TILES`, if it names choices that exist.
fn lookup(text: &str, key: &str) -> Option<Tuning> {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('\t'))?;
    let numbers: Vec<usize> = line.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let &[rows, chunk_bytes, tiles] = numbers.as_slice() else { return None };
    Some(Tuning { rows, chunk_bytes, tiles }).filter(Tuning::is_known)
}

/// The file's text with this entry in front of those of other processors.
fn with(text: &str, key: &str, t: Tuning) -> String {
    let line = format!("{key}\t{} {} {}", t.rows, t.chunk_bytes, t.tiles);
    let others = text.lines().filter(|l| l.split('\t').count() == 5 && !l.starts_with(key)).take(50);
    std::iter::once(line.as_str()).chain(others).flat_map(|l| [l, "\n"]).collect()
}

/// Measures the choices of each kind of work.
fn measure(isa: Isa, workers: &Workers) -> Result<(Tuning, Vec<String>)> {
    let mut best = Tuning::default();
    let mut lines = Vec::new();
    let mut try_all = |what: &str, work: &mut Work, choices: Vec<Tuning>| {
        let times = work.times(&choices, isa, workers)?;
        let fastest =
            (1..choices.len()).filter(|i| times[*i] < GAIN * times[0]).min_by(|a, b| times[*a].total_cmp(&times[*b]));
        let chosen = fastest.unwrap_or(0);
        let milliseconds: Vec<String> = times.iter().map(|t| format!("{:.2}", t * 1e3)).collect();
        lines.push(format!("{what}: {} ms", milliseconds.join(", ")));
        Ok::<_, Error>(choices[chosen])
    };
    let mut product = Work::new(Matmul::default().into(), Shape::new(1, 32, 32, 1280), Dims::matrix(1280, 1280))?;
    let rows = ROWS.map(|rows| Tuning { rows, ..best }).to_vec();
    best = try_all(&format!("products, {ROWS:?} rows a task"), &mut product, rows)?;
    let mut conv = Work::new(Conv2d::default().into(), Shape::new(1, 64, 64, 320), Dims::filter3(320, 320))?;
    let chunks = CHUNK_BYTES.map(|chunk_bytes| Tuning { chunk_bytes, ..best }).to_vec();
    let sizes = CHUNK_BYTES.map(|b| b >> 20);
    best = try_all(&format!("fast convolutions, {sizes:?} MiB of factors"), &mut conv, chunks)?;
    let tiles = TILES.map(|tiles| Tuning { tiles, ..best }).to_vec();
    best = try_all(&format!("fast convolutions, {TILES:?} tiles a task"), &mut conv, tiles)?;
    Ok((best, lines))
}

/// A product with values that do not matter, ready to run.
struct Work {
    op: Op,
    variant: usize,
    x: Vec<f32>,
    shape: Shape,
    w: Packed,
    y: Vec<f32>,
    y_shape: Shape,
    scratch: Vec<f32>,
    per_worker: usize,
}

impl Work {
    fn new(op: Op, shape: Shape, dims: Dims) -> Result<Self> {
        let (y_shape, shapes, weights) = (op.output(&[shape], &[dims])?[0], [shape], [dims]);
        // The variant of a real run; sizes apply to all instruction sets alike.
        let (variant, _) = choose(&op, &shapes, &weights, &Caps::cpu(Isa::Scalar))?;
        let scratch = cpu::variants(&op, &shapes, &weights)[variant].scratch;
        let ramp = |n: usize| (0..n).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect::<Vec<f32>>();
        let w = pack_here(dims, Packing::PANELS, StoredTensor::f32(&ramp(dims.len())), Storage::F16)?;
        let (x, y) = (ramp(shape.len()), vec![0.0; y_shape.len()]);
        Ok(Self {
            op,
            variant,
            x,
            shape,
            w,
            y,
            y_shape,
            scratch: vec![0.0; scratch.shared],
            per_worker: scratch.per_worker,
        })
    }

    /// Seconds with each choice, in turns: what disturbs one disturbs all.
    fn times(&mut self, choices: &[Tuning], isa: Isa, workers: &Workers) -> Result<Vec<f64>> {
        workers.reserve(self.per_worker);
        let mut times = vec![f64::INFINITY; choices.len()];
        for repeat in 0..=REPEATS {
            for (time, tuning) in times.iter_mut().zip(choices) {
                workers.tune(*tuning);
                let start = Instant::now();
                self.run(isa, workers)?;
                // The first round warms up.
                if repeat > 0 {
                    *time = time.min(start.elapsed().as_secs_f64());
                }
            }
        }
        Ok(times)
    }

    fn run(&mut self, isa: Isa, workers: &Workers) -> Result<()> {
        let x = [In { data: &self.x, shape: self.shape, pitch: self.shape.c }];
        let y = Out { data: &mut self.y, shape: self.y_shape, pitch: self.y_shape.c };
        let mut io = Io { x: &x, w: &[&self.w], y, statistics: None, in_place: None, scratch: &mut self.scratch };
        cpu::run(&self.op, self.variant, isa, &mut io, workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_and_a_damaged_one_is_not() {
        let t = Tuning { rows: 128, chunk_bytes: 2 << 20, tiles: 64 };
        let (a, b) = (key(Isa::Scalar, 1), key(Isa::Avx2, 2));
        let text = with(&with("rubbish\n", &a, t), &b, Tuning::default());
        assert_eq!((lookup(&text, &a), lookup(&text, &b)), (Some(t), Some(Tuning::default())));
        assert!(!text.contains("rubbish") && text.lines().count() == 2);
        assert_eq!(with(&text, &a, t).lines().count(), 2);
        assert_eq!(lookup(&text.replace("128 ", "129 "), &a), None);
        for damaged in ["", &a, &format!("{a}\t"), &format!("{a}\t128"), &format!("{a}\t-1 2 3")] {
            assert_eq!(lookup(damaged, &a), None, "{damaged}");
        }
    }

    #[test]
    fn sizes_change_no_bit() {
        for (op, shape, dims) in [
            (Op::from(Matmul::default()), Shape::new(1, 30, 30, 70), Dims::matrix(330, 70)),
            (Conv2d::default().into(), Shape::new(2, 45, 50, 70), Dims::filter3(70, 70)),
            (
                Conv2d { upsample: Some((90, 100)), ..Conv2d::default() }.into(),
                Shape::new(1, 45, 50, 40),
                Dims::filter3(40, 40),
            ),
        ] {
            let mut work = Work::new(op, shape, dims).unwrap();
            let workers = Workers::new(2).unwrap();
            workers.reserve(work.per_worker);
            let mut bits = |tuning| {
                workers.tune(tuning);
                work.y.fill(f32::NAN);
                work.run(Isa::best(), &workers).unwrap();
                work.y.iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
            };
            let want = bits(Tuning::default());
            for rows in ROWS {
                for chunk_bytes in CHUNK_BYTES {
                    for tiles in TILES {
                        assert!(
                            bits(Tuning { rows, chunk_bytes, tiles }) == want,
                            "{op:?} {rows} {chunk_bytes} {tiles}"
                        );
                    }
                }
            }
        }
    }
}
