//! A program's memory: one arena whose ranges are handed out to a step as disjoint slices, and buffers for the inputs.
#![allow(unsafe_code, reason = "a step reads and writes different ranges of one allocation")]

use crate::error::{Error, Kind, Result};
use crate::graph::plan::{Place, Plan};
use crate::kernels::cpu::InPlace;
use std::ops::Range;

/// Makes large allocations return to the system when they are freed.
///
/// glibc raises the size from which it maps memory separately to that of the largest block freed so far (up to 32 MB),
/// and what lies below that in its heap is not given back. A fixed size stops that for weights and activations.
pub fn return_what_is_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn mallopt(param: i32, value: i32) -> i32;
        }
        const M_MMAP_THRESHOLD: i32 = -3;
        // SAFETY: glibc's own function, with its documented signature; it takes the allocator's lock, and any value is
        // accepted or refused. A refusal costs memory, nothing else.
        let _accepted = unsafe { mallopt(M_MMAP_THRESHOLD, 1 << 20) };
    }
}

/// Zeroed f32 elements that begin at a cache line.
pub struct Buffer {
    lines: Box<[Line]>,
    elems: usize,
}

#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Buffer {
    /// `elems` zeros, or an error that says how much memory was asked for.
    pub fn zeroed(elems: usize) -> Result<Self> {
        // Zeroed by the allocator: large sizes cost no page until they are used.
        let lines = bytemuck::allocation::try_zeroed_slice_box(elems.div_ceil(16)).map_err(|()| {
            let message = format!("no memory for {:.2} GB of activations; try a smaller size", elems as f64 * 4e-9);
            Error::new(Kind::OutOfMemory, message)
        })?;
        Ok(Self { lines, elems })
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.elems]
    }

    /// The elements, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.elems]
    }
}

/// The memory of a plan's values. Its ranges were checked against the plan, so that a step's slices never overlap.
pub struct Arena {
    buffer: Buffer,
    /// Of each step.
    steps: Vec<Ranges>,
}

/// A step's slices of the arena.
pub struct Views<'a> {
    /// For each operand that lives in the arena, the whole stored value; none for one whose place the output takes.
    pub x: Vec<Option<&'a [f32]>>,
    /// The output; before it is written, the operand whose place it takes.
    pub y: &'a mut [f32],
    /// The second output, if there is one.
    pub statistics: Option<&'a mut [f32]>,
    /// Shared scratch, if the step asked for some.
    pub scratch: Option<&'a mut [f32]>,
}

impl Arena {
    /// Memory for `plan`, after checking that no step's output or scratch overlaps another of its ranges, but where the
    /// step declares that its output takes an operand's place.
    pub fn for_plan(plan: &Plan) -> Result<Self> {
        let steps: Vec<Ranges> = (0..plan.steps.len()).map(|i| ranges(plan, i)).collect();
        for (step, ranges) in plan.steps.iter().zip(&steps) {
            // The output's part of the range that it is given.
            let own = slot(plan, step.y).unwrap_or(0..0);
            let misplaced = own.start != ranges.y.start || own.end > ranges.y.end;
            let written = [Some(ranges.y.clone()), ranges.statistics.clone(), ranges.scratch.clone()];
            let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
            let reads_written = written.iter().flatten().any(|w| ranges.x.iter().flatten().any(|r| overlap(w, r)));
            let pairs = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (&written[a], &written[b]));
            let twice = pairs.into_iter().any(|(a, b)| a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| overlap(a, b)));
            let all = || written.iter().flatten().chain(ranges.x.iter().flatten());
            let outside = all().any(|r| r.start > r.end || r.end > plan.arena);
            if reads_written || twice || outside || misplaced {
                let message = format!("plan {}: memory ranges of step {} overlap", plan.name, step.name);
                return Err(Error::other(message));
            }
        }
        Ok(Self { buffer: Buffer::zeroed(plan.arena)?, steps })
    }

    /// The slices of step `i` of the plan that this arena was made for.
    ///
    /// # Panics
    /// It had no such step.
    pub fn step(&mut self, i: usize) -> Views<'_> {
        let ranges = &self.steps[i];
        let elems = self.buffer.as_mut_slice();
        let base = elems.as_mut_ptr();
        let read = |r: &Range<usize>| {
            // SAFETY: the range lies inside the allocation, which is borrowed for as long as the slice lives, and no
            // written range of this step overlaps a read one: `for_plan` saw both, and these are the ranges that it
            // saw.
            unsafe { std::slice::from_raw_parts(base.add(r.start), r.len()) }
        };
        let write = |r: &Range<usize>| {
            // SAFETY: as above; outputs and scratch are the only written ranges, and no two of them overlap.
            unsafe { std::slice::from_raw_parts_mut(base.add(r.start), r.len()) }
        };
        Views {
            x: ranges.x.iter().map(|r| r.as_ref().map(read)).collect(),
            y: write(&ranges.y),
            statistics: ranges.statistics.as_ref().map(write),
            scratch: ranges.scratch.as_ref().map(write),
        }
    }

    /// Everything, between steps.
    pub fn as_slice(&self) -> &[f32] {
        self.buffer.as_slice()
    }

    /// Everything, between steps, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        self.buffer.as_mut_slice()
    }
}

struct Ranges {
    /// None also for an operand whose place the output takes.
    x: Vec<Option<Range<usize>>>,
    y: Range<usize>,
    statistics: Option<Range<usize>>,
    scratch: Option<Range<usize>>,
}

/// Where a value lies, if that is in the arena.
fn slot(plan: &Plan, id: usize) -> Option<Range<usize>> {
    match plan.values[id].place {
        Place::Slot { offset } => Some(offset..offset + plan.values[id].elems()),
        Place::Input(_) | Place::Buffer(_) => None,
    }
}

fn ranges(plan: &Plan, i: usize) -> Ranges {
    let step = &plan.steps[i];
    let of = |id: usize| slot(plan, id);
    let replaced = step.in_place.map(InPlace::operand);
    let shared = step.scratch.shared;
    Ranges {
        x: step.x.iter().enumerate().map(|(n, v)| if replaced == Some(n) { None } else { of(v.id) }).collect(),
        // An output is never an input's buffer: inputs are written by the caller alone.
        y: of(replaced.map_or(step.y, |n| step.x[n].id)).unwrap_or(0..0),
        statistics: step.statistics.and_then(of),
        scratch: (shared > 0).then(|| step.scratch_offset..step.scratch_offset + shared),
    }
}
