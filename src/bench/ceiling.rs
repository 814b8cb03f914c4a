//! What the machine can do at best: threads and an instruction set go in; FMA peak and memory bandwidth come out.

use crate::backend::cpu::peak::best_rate;
pub use crate::backend::cpu::peak::{FmaPace, fma_peak};
use crate::simd::Isa;
use crate::workers::Workers;
use std::hint::black_box;
use std::sync::Mutex;

/// The ceilings that times are compared with, measured with all threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// f32 multiply-adds from registers, in FLOP/s (a multiply-add is two).
    pub fma_peak: f64,
    /// Bytes a second read from a buffer that no cache holds.
    pub read: f64,
    /// Bytes a second copied between such buffers, read and written ones both counted.
    pub copy: f64,
}

impl Ceilings {
    /// Measures all three: about a second and 256 MB.
    pub fn measure(isa: Isa, workers: &Workers) -> Self {
        let fma_peak = fma_peak(isa, workers);
        let mut buffer = vec![1u64; BANDWIDTH_BYTES / 8];
        Self { fma_peak, read: read_bandwidth(&buffer, workers), copy: copy_bandwidth(&mut buffer, workers) }
    }

    /// The share of the ceiling that `flops` and `bytes` in `seconds` reach: of the roofline, whose roof is the FMA
    /// peak or, for work that computes little on much, the larger bandwidth. Above 1 when the data stay in a cache.
    pub fn share(&self, flops: u64, bytes: u64, seconds: f64) -> f64 {
        let best = (flops as f64 / self.fma_peak).max(bytes as f64 / self.read.max(self.copy));
        best / seconds
    }
}

/// Far more than the caches of today's processors hold.
const BANDWIDTH_BYTES: usize = 256 << 20;
/// Elements of u64 in a task: 1 MiB.
const BLOCK: usize = 1 << 17;
fn read_bandwidth(buffer: &[u64], workers: &Workers) -> f64 {
    let blocks: Vec<&[u64]> = buffer.chunks(BLOCK).collect();
    best_rate(8 * buffer.len(), || {
        workers.for_each(blocks.len(), |i, _| {
            black_box(black_box(blocks[i]).iter().fold(0, |all, v| all ^ v));
        });
    })
}

fn copy_bandwidth(buffer: &mut [u64], workers: &Workers) -> f64 {
    let (from, to) = buffer.split_at_mut(buffer.len() / 2);
    let from: Vec<&[u64]> = from.chunks(BLOCK).collect();
    // A block is one task's; the lock only says so to the compiler.
    let to: Vec<Mutex<&mut [u64]>> = to.chunks_mut(BLOCK).map(Mutex::new).collect();
    best_rate(2 * 8 * BLOCK * from.len(), || {
        workers.for_each(from.len(), |i, _| {
            to[i].lock().unwrap_or_else(|e| e.into_inner()).copy_from_slice(black_box(from[i]));
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_roof_counts() {
        let c = Ceilings { fma_peak: 100.0, read: 10.0, copy: 5.0 };
        assert_eq!(c.share(200, 1, 4.0), 0.5);
        assert_eq!(c.share(1, 20, 4.0), 0.5);
    }
}
