//! The border between safe callers and kernels that read through pointers: what a call gives goes in, an error where
//! anything of it is missing or too short comes out.

use super::{In, InPlace, Io, Out};
use crate::error::{Error, Result};
use crate::kernels::{Dims, Op};
use crate::tensor::Shape;
use crate::workers::Workers;

/// Elements from the first of a tensor to its last; none where that is more than there can be.
fn span(shape: Shape, pitch: usize) -> Option<usize> {
    let rows = shape.b.checked_mul(shape.h)?.checked_mul(shape.w)?;
    if rows == 0 { Some(0) } else { (rows - 1).checked_mul(pitch)?.checked_add(shape.c) }
}

fn fits(what: &str, len: usize, shape: Shape, pitch: usize) -> Result<()> {
    match span(shape, pitch) {
        Some(need) if pitch >= shape.c && need <= len => Ok(()),
        _ => Err(Error::other(format!("{what} {shape}, rows {pitch} apart, does not lie in {len} elements"))),
    }
}

/// Everything that a variant relies on.
pub fn check(op: &Op, variant: usize, io: &Io<'_>, workers: &Workers) -> Result<()> {
    let x: Vec<Shape> = io.x.iter().map(|x| x.shape).collect();
    let w: Vec<Dims> = io.w.iter().map(|w| w.dims()).collect();
    let shapes = op.output(&x, &w)?;
    let Some(info) = super::variant(op, variant, &x, &w, shapes[0]).filter(|v| v.supported) else {
        return Err(Error::other(format!("no variant {variant} runs {x:?}")));
    };
    if io.in_place.is_some() && io.in_place != info.in_place {
        return Err(Error::other(format!("{} takes no operand's place like {:?}", info.name, io.in_place)));
    }
    let packings = io.w.iter().map(|w| w.packing());
    if !packings.eq(op.packings()) {
        return Err(Error::other(format!("weights are laid out otherwise than as {:?}", op.packings())));
    }
    let outputs: Vec<&Out<'_>> = [Some(&io.y), io.statistics.as_ref()].into_iter().flatten().collect();
    if !outputs.iter().map(|y| y.shape).eq(shapes.iter().copied()) {
        let given: Vec<Shape> = outputs.iter().map(|y| y.shape).collect();
        return Err(Error::other(format!("outputs are {shapes:?}, not {given:?}")));
    }
    outputs.iter().try_for_each(|y| fits("the output", y.data.len(), y.shape, y.pitch))?;
    let replaced = io.in_place.map(InPlace::operand);
    for (i, In { data, shape, pitch }) in io.x.iter().enumerate() {
        // What the output replaces lies in its memory.
        let len = if replaced == Some(i) { io.y.data.len() } else { data.len() };
        fits("an operand", len, *shape, *pitch)?;
    }
    let laid_out = match io.in_place {
        Some(InPlace::Element(n)) => io.x[n].pitch == io.y.pitch,
        Some(InPlace::Rows(_)) => io.y.pitch == io.y.shape.c,
        None => true,
    };
    if !laid_out {
        return Err(Error::other("the output is laid out otherwise than the operand whose place it takes"));
    }
    let (shared, own) = (io.scratch.len(), workers.reserved());
    if shared < info.scratch.shared || own < info.scratch.per_worker {
        let need = info.scratch;
        let message =
            format!("scratch of {shared} elements, {own} for each worker, where {} needs {need:?}", info.name);
        return Err(Error::other(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Storage;
    use crate::kernels::add::Add;
    use crate::kernels::attention::Attention;
    use crate::kernels::cpu::panels::{Packed, StoredTensor, pack_here};
    use crate::kernels::cpu::{run, variants};
    use crate::kernels::layer_norm::LayerNorm;
    use crate::kernels::matmul::Matmul;
    use crate::kernels::{Case, Packing, Role, cases};
    use crate::simd::Isa;

    /// Runs a case with buffers that are `less` elements too short, one after the other; gives what was refused.
    fn refused(case: &Case, variant: usize, isa: Isa, workers: &Workers) -> Vec<String> {
        let shapes = case.op.output(&case.x, &case.w).unwrap();
        let info = variants(&case.op, &case.x, &case.w)[variant];
        workers.reserve(info.scratch.per_worker);
        let w: Vec<Packed> = case
            .w
            .iter()
            .zip(case.op.packings())
            .map(|(d, p)| pack_here(*d, p, StoredTensor::f32(&vec![0.5; d.len()]), Storage::F16).unwrap())
            .collect();
        let w: Vec<&Packed> = w.iter().collect();
        let data: Vec<Vec<f32>> = case.x.iter().map(|s| vec![1.0; s.len()]).collect();
        let (mut y, mut statistics) = (vec![0.0; shapes[0].len()], vec![0.0; shapes.get(1).map_or(0, Shape::len)]);
        let mut scratch = vec![0.0; info.scratch.shared];
        let mut found = Vec::new();
        let places = case.x.len() + 3;
        for place in 0..=places {
            let cut = |i: usize, len: usize| if i == place && len > 0 { len - 1 } else { len };
            let x: Vec<In<'_>> = case
                .x
                .iter()
                .zip(&data)
                .enumerate()
                .map(|(i, (s, d))| In { data: &d[..cut(i + 3, s.len())], shape: *s, pitch: s.c })
                .collect();
            let len = [y.len(), statistics.len(), scratch.len()];
            let second = shapes.get(1).map(|s| Out { data: &mut statistics[..cut(1, len[1])], shape: *s, pitch: s.c });
            let mut io = Io {
                x: &x,
                w: &w,
                y: Out { data: &mut y[..cut(0, len[0])], shape: shapes[0], pitch: shapes[0].c },
                statistics: second,
                in_place: None,
                scratch: &mut scratch[..cut(2, len[2])],
            };
            let result = run(&case.op, variant, isa, &mut io, workers);
            let whole = place == places || place == 1 && len[1] == 0 || place == 2 && len[2] == 0;
            assert_eq!(result.is_ok(), whole, "{}/{}: place {place}: {result:?}", case.op.name(), case.name);
            found.extend(result.err().map(|e| e.to_string()));
        }
        found
    }

    #[test]
    fn what_is_too_short_is_refused_by_every_variant() {
        let workers = Workers::new(2).unwrap();
        let mut seen = std::collections::BTreeMap::new();
        for case in cases().iter().filter(|c| c.role == Role::Test) {
            for (i, v) in variants(&case.op, &case.x, &case.w).iter().enumerate().filter(|(_, v)| v.supported) {
                let tried: &mut usize = seen.entry((case.op.name(), v.name)).or_default();
                *tried += 1;
                // The shapes differ, what is looked at does not.
                if *tried > 4 {
                    continue;
                }
                let found = refused(case, i, Isa::best(), &workers);
                assert!(found.len() > case.x.len() && found.iter().all(|e| e.starts_with(case.op.name())), "{found:?}");
            }
        }
        assert!(seen.len() > 20, "{seen:?}");
    }

    #[test]
    fn foreign_shapes_weights_and_variants_are_refused() {
        let workers = Workers::new(1).unwrap();
        let s = Shape::new(1, 2, 2, 4);
        let values = [1.0; 16];
        let x = [In { data: &values, shape: s, pitch: 4 }; 3];
        let vector = pack_here(Dims::vector(4), Packing::VECTOR, StoredTensor::f32(&[1.0; 4]), Storage::F16).unwrap();
        let matrix =
            pack_here(Dims::matrix(4, 1), Packing::PANELS, StoredTensor::f32(&[1.0; 4]), Storage::F16).unwrap();
        let mut y = [0.0; 16];
        let mut one = |op: Op, variant: usize, x: &[In<'_>], w: &[&Packed], shape: Shape, pitch: usize| {
            let y = Out { data: &mut y, shape, pitch };
            let mut io = Io { x, w, y, statistics: None, in_place: None, scratch: &mut [] };
            run(&op, variant, Isa::Scalar, &mut io, &workers).is_ok()
        };
        let norm = LayerNorm { eps: 1e-5 };
        assert!(one(Add.into(), 0, &x[..2], &[], s, 4));
        assert!(!one(Add.into(), 9, &x[..2], &[], s, 4));
        assert!(!one(Add.into(), 0, &x[..1], &[], s, 4));
        assert!(!one(Add.into(), 0, &x[..2], &[], s.with_c(3), 4));
        assert!(!one(Add.into(), 0, &x[..2], &[], s, 3));
        assert!(!one(Add.into(), 0, &x[..2], &[], s, usize::MAX / 2));
        assert!(one(norm.into(), 0, &x[..1], &[&vector, &vector], s, 4));
        assert!(!one(norm.into(), 0, &x[..1], &[&vector, &matrix], s, 4));
        assert!(!one(Matmul::default().into(), 0, &x[..1], &[&vector], s, 4));
        // Nothing was reserved for the scores.
        assert!(!one(Attention { heads: 1, causal: false, mask: false }.into(), 0, &x, &[], s, 4));
    }
}
