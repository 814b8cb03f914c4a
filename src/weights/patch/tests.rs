use super::delta::{DeltaForm, DeltaTarget, Factor, LowRank, Side};
use super::*;
use crate::weights::TensorInfo;
use crate::weights::bytes::Bytes;
use crate::weights::table::{Located, Table};

fn located(shape: &[usize], values: &[f32]) -> Located {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let info = TensorInfo { dtype: Dtype::F32, shape: shape.to_vec() };
    Located::contiguous(Arc::new(Bytes::memory("test", bytes)), 0, info)
}

fn factor(shape: &[usize], values: &[f32]) -> Factor {
    Factor { name: "factor".into(), tensor: located(shape, values) }
}

fn low_rank(left: Factor, right: Factor) -> DeltaForm {
    DeltaForm::Product(Box::new(LowRank { left, turned: false, core: None, right }))
}

fn base(shape: &[usize], values: &[f32]) -> Arc<dyn WeightSource> {
    let tensors = [("w", shape, values), ("other", &[2][..], &[5.0, 6.0])];
    let tensors = tensors.map(|(name, shape, values)| (name.to_owned(), located(shape, values)));
    Arc::new(Table::new(tensors.into_iter().collect(), "test"))
}

fn patch(form: DeltaForm, scale: f64, magnitude: Option<Factor>, target: DeltaTarget, strength: f32) -> Patch {
    let delta = Arc::new(Delta::new(form, scale, magnitude, target).unwrap());
    Patch { delta, strength, id: PatchId { source: SourceId::new(), strength: strength.to_bits() } }
}

fn read(source: &dyn WeightSource, name: &str) -> Vec<f32> {
    let (mut raw, mut values) = (Vec::new(), Vec::new());
    source.read(name, &mut raw).unwrap();
    decode_f32(source.info(name).unwrap().dtype, &raw, &mut values);
    values
}

#[test]
fn deltas_are_added_to_pristine_rows_and_nothing_else_changes() {
    let source = base(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let target = DeltaTarget::new(&[2, 2], false);
    let form = || low_rank(factor(&[2, 1], &[1.0, 10.0]), factor(&[1, 2], &[1.0, 2.0]));
    let one = patch(form(), 0.5, None, target, 2.0);
    let two = patch(DeltaForm::Full(factor(&[2, 2], &[100.0, 0.0, 0.0, 100.0])), 1.0, None, target, 0.5);
    let patched = Patched::new(source.clone(), [("w".into(), vec![one, two])].into(), 2);
    assert_eq!(read(&patched, "w"), [52.0, 4.0, 13.0, 74.0]);
    assert_eq!(read(&patched, "other"), [5.0, 6.0]);
    assert_eq!((patched.id("w"), patched.patches("w").len()), (source.id("w"), 2));
    assert!(patched.patches("other").is_empty() && patched.info("other") == source.info("other"));
    // Some rows are rows of the whole.
    let mut raw = Vec::new();
    patched.read_rows("w", 1, 1, &mut raw).unwrap();
    assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&raw), [13.0, 74.0]);
    assert!(patched.read_rows("w", 1, 2, &mut raw).is_err());
}

#[test]
fn what_depends_on_the_weight_takes_it_as_those_before_left_it() {
    let target = DeltaTarget::new(&[1, 2], false);
    let added = || patch(DeltaForm::Full(factor(&[1, 2], &[1.0, 2.0])), 1.0, None, target, 1.0);
    let scaled = || {
        let form = DeltaForm::Scaled { by: factor(&[2], &[1.0, 2.0]), inputs: true };
        patch(form, 1.0, None, target, 1.0)
    };
    let value = |patches| read(&Patched::new(base(&[1, 2], &[3.0, 4.0]), [("w".into(), patches)].into(), 1), "w");
    assert_eq!(value(vec![added(), scaled()]), [8.0, 18.0]);
    assert_eq!(value(vec![scaled(), added()]), [7.0, 14.0]);
}

#[test]
fn magnitudes_of_columns_look_at_every_row() {
    // 300 rows: norms are summed over more than one block.
    let w: Vec<f32> = (0..600).map(|i| (i % 7) as f32 - 2.5).collect();
    let target = DeltaTarget::new(&[300, 2], false);
    let zero = low_rank(factor(&[300, 1], &[0.0; 300]), factor(&[1, 2], &[1.0, 1.0]));
    let one = patch(zero, 1.0, Some(factor(&[1, 2], &[3.0, 5.0])), target, 1.0);
    let patched = Patched::new(base(&[300, 2], &w), [("w".into(), vec![one])].into(), 1);
    let all = read(&patched, "w");
    for (column, want) in [(0, 3.0), (1, 5.0)] {
        let norm = all.iter().skip(column).step_by(2).map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert!((norm - want).abs() < 1e-5, "{norm} {want}");
    }
    let mut raw = Vec::new();
    patched.read_rows("w", 280, 3, &mut raw).unwrap();
    assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&raw), all[560..566]);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_read() {
    let target = DeltaTarget::new(&[8, 4], false);
    let ones = |shape: &[usize]| factor(shape, &vec![1.0; shape.iter().product()]);
    let kron = |a: &[usize], b: &[usize]| {
        let sides = [Side::Whole(ones(a)), Side::Whole(ones(b))];
        DeltaForm::Kronecker(Box::new(sides))
    };
    for (form, why) in [
        (low_rank(ones(&[7, 1]), ones(&[1, 4])), "7 rows where the weight has 8"),
        (low_rank(ones(&[8, 1]), ones(&[1, 3])), "3 wide where the weight is 4"),
        (low_rank(ones(&[8, 2]), ones(&[1, 4])), "factors of rank 2 and 1"),
        (kron(&[2, 2], &[4, 3]), "6 wide"),
        (kron(&[3, 2], &[4, 2]), "12 rows"),
        (DeltaForm::Scaled { by: ones(&[5]), inputs: false }, "5 numbers"),
        (DeltaForm::Full(ones(&[8, 5])), "5 wide"),
    ] {
        let error = Delta::new(form, 1.0, None, target).map(drop).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let form = || low_rank(ones(&[8, 1]), ones(&[1, 4]));
    assert!(Delta::new(form(), f64::NAN, None, target).is_err());
    let error = Delta::new(form(), 1.0, Some(ones(&[1, 5])), target).map(drop).unwrap_err();
    assert!(error.contains("magnitudes of shape"), "{error}");
    // A first convolution of more inputs takes a delta of fewer.
    let nine = DeltaTarget::new(&[8, 9, 3, 3], true);
    assert!(Delta::new(DeltaForm::Full(ones(&[8, 4, 3, 3])), 1.0, None, nine).is_ok());
    let damaged =
        patch(DeltaForm::Full(factor(&[1, 2], &[f32::NAN, 1.0])), 1.0, None, DeltaTarget::new(&[1, 2], false), 1.0);
    let patched = Patched::new(base(&[1, 2], &[1.0, 1.0]), [("w".into(), vec![damaged])].into(), 1);
    let error = patched.read("w", &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("factor holds values that are not finite"), "{error}");
}
