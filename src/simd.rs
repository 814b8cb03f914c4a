//! One way to write SIMD code for several instruction sets: from a kernel generic over
//! [`Simd`] to machine code for each.
//!
//! A kernel is a [`Task`]: `eval` is generic over the instruction set and `#[inline(always)]`. [`dispatch`] calls it
//! from a function that is compiled for the set (`#[target_feature]`), so everything inlined into `eval` is too.
//! Dispatch costs a call and is done once per block of work; [`Simd::call`] starts another
//! function of the same set from within.
#![allow(unsafe_code, reason = "loads and stores go through pointers: kernels check a row once, not every vector")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod math;
mod scalar;

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain lane arrays that LLVM vectorises for whatever the target is.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "LIENZO_ISA";

impl Isa {
    /// Every set, slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// Whether this processor (and its operating system) has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The sets that this processor has, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The fastest set, or the one that `LIENZO_ISA` names if this processor has it.
    pub fn best() -> Self {
        Self::from_env().unwrap_or_else(|_| Self::fastest())
    }

    /// Like [`Isa::best`], but a name in `LIENZO_ISA` that is unknown or not available
    /// here is an error (of kind `Usage`).
    pub fn from_env() -> Result<Self> {
        match std::env::var_os(ISA_VARIABLE) {
            None => Ok(Self::fastest()),
            Some(name) => Self::by_name(&name.to_string_lossy()).map_err(|e| e.at(ISA_VARIABLE)),
        }
    }

    fn fastest() -> Self {
        Self::ALL.into_iter().rfind(|isa| isa.is_available()).unwrap_or(Self::Scalar)
    }

    fn by_name(name: &str) -> Result<Self> {
        let isa: Self = name.parse()?;
        if isa.is_available() {
            Ok(isa)
        } else {
            Err(Error::usage(format!("this processor has no {isa}; it has {}", names(&Self::available()))))
        }
    }
}

fn names(list: &[Isa]) -> String {
    list.iter().map(Isa::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|isa| isa.to_string() == name).ok_or_else(|| {
            let name = crate::error::escape(name);
            Error::usage(format!("unknown instruction set '{name}'; there are {}", names(&Self::ALL)))
        })
    }
}

/// A block of work that can be compiled for any instruction set.
pub trait Task {
    /// What it gives back.
    type Out;

    /// Does it. Implementations are `#[inline(always)]`, and so is everything generic over `S` that they call: code
    /// that is not inlined would be compiled without the instruction set.
    fn eval<S: Simd>(self, s: S) -> Self::Out;
}

/// Runs a task with an instruction set; with the next slower one that exists if the processor lacks it.
pub fn dispatch<T: Task>(isa: Isa, task: T) -> T::Out {
    #[cfg(target_arch = "x86_64")]
    {
        if isa == Isa::Avx512
            && let Some(s) = avx512::Avx512::detect()
        {
            return s.call(task);
        }
        if isa != Isa::Scalar
            && let Some(s) = avx2::Avx2::detect()
        {
            return s.call(task);
        }
    }
    let _ = isa;
    task.eval(scalar::Scalar)
}

/// As [`dispatch`], with `vdpbf16ps` where the processor has it ([`has_bf16`]).
pub fn dispatch_bf16<T: Task>(isa: Isa, task: T) -> T::Out {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512
        && let Some(s) = avx512::Avx512Bf16::detect()
    {
        return s.call(task);
    }
    dispatch(isa, task)
}

/// Whether products of bf16 are faster than those of f32 with this set on this processor: AVX512-BF16.
pub fn has_bf16(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = avx512::Avx512Bf16::detect().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    isa == Isa::Avx512 && has
}

/// An f32 rounded to bf16, halves to even, in the upper half; a NaN stays one.
#[inline(always)]
fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 0x0040_0000 } else { rounded }) & 0xffff_0000
}

/// Two bf16 values as one lane of [`Simd::pairs`].
#[inline(always)]
pub fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(bf16_bits(high) | bf16_bits(low) >> 16)
}

/// An instruction set. A value of an implementing type proves that the processor has it.
///
/// All methods are `#[inline(always)]`. Lane i of a result depends on lane i of the operands only.
pub trait Simd: Copy {
    /// `LANES` f32 values.
    type V: Copy;

    /// Values in a vector: 8 or 16.
    const LANES: usize;

    /// Rows of a register tile that is two vectors wide: what the registers hold beside two columns and a broadcast.
    const TILE_ROWS: usize;

    /// Calls a task as a function of its own, compiled for this set and never inlined into the caller.
    fn call<T: Task>(self, task: T) -> T::Out;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;

    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;

    /// `a * b + c`, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// Two bf16 values a lane, `high << 16 | low`, as bits of an f32 that is not computed with: both rounded to
    /// nearest, halves to even.
    fn pairs(self, low: Self::V, high: Self::V) -> Self::V;

    /// `acc + a.high * b.high`, rounded, then `+ a.low * b.low`, rounded: products of bf16 are exact in f32. What
    /// `vdpbf16ps` computes, which takes subnormal numbers for zeros.
    fn dot_pairs(self, a: Self::V, b: Self::V, acc: Self::V) -> Self::V;

    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;

    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;

    /// `|a|`.
    fn abs(self, a: Self::V) -> Self::V;

    /// The lowest nine bits of each value moved up to where an f32 has its sign and exponent, with zeros below.
    fn low_bits_as_exponent(self, a: Self::V) -> Self::V;

    /// `a` where `x < 0`, else `b`.
    fn if_negative(self, x: Self::V, a: Self::V, b: Self::V) -> Self::V;

    /// Asks for the cache line at `p`, which need not be valid.
    fn prefetch(self, p: *const f32);

    /// The same for a line that is going to be written: other caches give it up.
    fn prefetch_to_write(self, p: *const f32);

    /// The sum of all lanes, in an order that depends on the set only.
    fn sum(self, a: Self::V) -> f32;

    /// `LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` values.
    unsafe fn load(self, p: *const f32) -> Self::V;

    /// The first `n < LANES` values, then zeros.
    ///
    /// # Safety
    /// `p` must be valid for reading `n` values.
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::V;

    /// `LANES` f16 values, widened.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` values.
    unsafe fn load_f16(self, p: *const u16) -> Self::V;

    /// Stores all lanes.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` values.
    unsafe fn store(self, p: *mut f32, v: Self::V);

    /// Stores the first `n < LANES` lanes.
    ///
    /// # Safety
    /// `p` must be valid for writing `n` values.
    unsafe fn store_part(self, p: *mut f32, v: Self::V, n: usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse::<Isa>().unwrap(), isa);
        }
        assert!("sse9".parse::<Isa>().unwrap_err().to_string().contains("avx512"));
        assert_eq!(Isa::available()[0], Isa::Scalar);
    }

    struct Basics;

    impl Task for Basics {
        type Out = Vec<f32>;

        #[inline(always)]
        fn eval<S: Simd>(self, s: S) -> Vec<f32> {
            let src: Vec<f32> = (0..S::LANES).map(|i| i as f32 - 3.25).collect();
            let half: Vec<u16> = src.iter().map(|v| half::f16::from_f32(*v).to_bits()).collect();
            let mut out = vec![0.0; S::LANES];
            // SAFETY: the vectors hold LANES values.
            unsafe {
                let (a, b) = (s.load(src.as_ptr()), s.load_f16(half.as_ptr()));
                // The power of two nearest to b.
                let power = s.low_bits_as_exponent(s.add(b, s.splat(12_582_912.0 + 127.0)));
                let r = s.fma(a, s.splat(2.0), s.if_negative(b, s.abs(a), power));
                let r = s.max(s.min(r, s.splat(20.0)), s.splat(-1.0));
                s.store(out.as_mut_ptr(), r);
                s.store_part(out.as_mut_ptr(), s.load_part(src.as_ptr(), 3), 2);
                out.push(s.sum(a));
                out.truncate(8);
                out.push(s.sum(s.load_part(src.as_ptr(), 5)));
            }
            out
        }
    }

    struct Dots<'a>(&'a [f32], &'a mut Vec<u32>);

    impl Task for Dots<'_> {
        type Out = ();

        #[inline(always)]
        fn eval<S: Simd>(self, s: S) {
            for x in self.0.chunks_exact(4 * 16) {
                for i in (0..16).step_by(S::LANES) {
                    let mut out = [0.0; 16];
                    // SAFETY: four vectors of 16 values each are read from 64.
                    unsafe {
                        let v = [0, 1, 2, 3].map(|j| s.load(x[16 * j + i..].as_ptr()));
                        let (a, b) = (s.pairs(v[0], v[1]), s.pairs(v[2], v[3]));
                        s.store(out.as_mut_ptr(), a);
                        self.1.extend(out[..S::LANES].iter().map(|v| v.to_bits()));
                        s.store(out.as_mut_ptr(), s.dot_pairs(a, b, v[0]));
                        self.1.extend(out[..S::LANES].iter().map(|v| v.to_bits()));
                    }
                }
            }
        }
    }

    #[test]
    fn bf16_is_rounded_and_multiplied_alike_everywhere() {
        let mut random = crate::check::Random::new("bf16");
        let mut x = random.normal(64 * 50, 3.0);
        // Ties to even in both directions, and what must survive.
        let bits = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7f80_0000, 0xff80_0000, 0x8000_0000];
        x.iter_mut().zip(bits).for_each(|(x, bits)| *x = f32::from_bits(bits));
        let half = |x: f32| half::bf16::from_f32(x);
        for isa in Isa::available() {
            let mut got = Vec::new();
            dispatch(isa, Dots(&x, &mut got));
            let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
            for (n, out) in got.chunks_exact(2 * lanes).enumerate() {
                for i in 0..lanes {
                    let at = n * lanes / 16 * 64 + n * lanes % 16 + i;
                    let [low, high, b_low, b_high] = [0, 1, 2, 3].map(|j| half(x[at + 16 * j]));
                    let pair_bits = u32::from(high.to_bits()) << 16 | u32::from(low.to_bits());
                    assert_eq!(out[i], pair_bits, "{isa} {at}");
                    assert_eq!(pair(x[at], x[at + 16]).to_bits(), pair_bits);
                    let odd = f32::mul_add(high.to_f32(), b_high.to_f32(), x[at]);
                    let want = f32::mul_add(low.to_f32(), b_low.to_f32(), odd);
                    let same =
                        f32::from_bits(out[lanes + i]).is_nan() && want.is_nan() || out[lanes + i] == want.to_bits();
                    assert!(same, "{isa} {at}: {} instead of {want}", f32::from_bits(out[lanes + i]));
                }
            }
        }
        assert!(pair(f32::NAN, f32::NAN).is_nan());
    }

    #[test]
    fn all_sets_agree() {
        for isa in Isa::available() {
            let want = [-3.25, -2.25, -1.0, -0.25, 3.5, 7.5, 13.5, 20.0, -6.25];
            assert_eq!(dispatch(isa, Basics), want, "{isa}");
        }
    }
}
