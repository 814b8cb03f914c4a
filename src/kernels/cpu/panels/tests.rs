use super::*;

fn check(dims: Dims, gated: bool) {
    let workers = Workers::new(2).unwrap();
    let values: Vec<f32> = (0..dims.len()).map(|i| (i % 2048) as f32 - 1000.0).collect();
    let halves: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
    let brain: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
    for elements in [Storage::F16, Storage::F32] {
        for (dtype, bytes) in
            [(Dtype::F32, bytemuck::cast_slice(&values)), (Dtype::F16, &halves[..]), (Dtype::Bf16, &brain[..])]
        {
            let stored = StoredTensor { dtype, bytes };
            let p = pack(dims, Packing::Panels { gated }, stored, elements, &workers).unwrap();
            for (i, v) in values.iter().enumerate() {
                let (n, k, tap) = (i / (dims.k * dims.taps), i / dims.taps % dims.k, i % dims.taps);
                let want = if dtype == Dtype::Bf16 { bf16::from_f32(*v).to_f32() } else { *v };
                assert_eq!(p.at(n, k, tap), want, "{dims:?} {dtype:?} {n} {k} {tap}");
            }
        }
    }
}

#[test]
fn panels_hold_every_weight() {
    check(Dims::matrix(1, 1), false);
    check(Dims::matrix(33, 7), false);
    check(Dims::filter3(31, 5), false);
    check(Dims::filter3(64, 3), false);
    check(Dims::matrix(64, 3), true);
    check(Dims::matrix(34, 5), true);
}

#[test]
fn rows_at_a_time_are_the_same_panels() {
    let workers = Workers::new(2).unwrap();
    // The last one takes several blocks.
    for (dims, gated) in [
        (Dims::matrix(33, 7), false),
        (Dims::filter3(31, 5), false),
        (Dims::matrix(34, 5), true),
        (Dims::matrix(320, 20_000), true),
    ] {
        let values: Vec<f32> = (0..dims.len()).map(|i| (i % 2047) as f32 / 8.0).collect();
        let stored = StoredTensor::f32(&values);
        let row = dims.k * dims.taps * 4;
        for elements in [Storage::F16, Storage::F32] {
            let whole = pack(dims, Packing::Panels { gated }, stored, elements, &workers).unwrap();
            for pool in [None, Some(&workers)] {
                let mut read = |rows: Range<usize>, out: &mut Vec<u8>| {
                    out.extend_from_slice(&stored.bytes[rows.start * row..rows.end * row]);
                    Ok(())
                };
                let form = (Dtype::F32, elements);
                let parts = pack_rows(dims, gated, form, &mut Vec::new(), pool, &mut read).unwrap().unwrap();
                assert_eq!(parts.bytes(), whole.bytes());
                for panel in 0..whole.panel_count() {
                    let same = match (whole.panel(panel, 0, dims.k), parts.panel(panel, 0, dims.k)) {
                        (Panel::F16(a), Panel::F16(b)) => a == b,
                        (Panel::F32(a), Panel::F32(b)) => a == b,
                        _ => false,
                    };
                    assert!(same, "{dims:?} panel {panel}");
                }
            }
        }
    }
}

#[test]
fn what_f16_cannot_hold_is_not_made_infinite() {
    let one = |value: f32, dtype: Dtype, elements: Storage| {
        let mut read = |_: Range<usize>, out: &mut Vec<u8>| {
            match dtype {
                Dtype::Bf16 => out.extend(bf16::from_f32(value).to_le_bytes()),
                _ => out.extend(value.to_le_bytes()),
            }
            Ok(())
        };
        pack_rows(Dims::matrix(1, 1), false, (dtype, elements), &mut Vec::new(), None, &mut read).unwrap()
    };
    assert_eq!(one(-65519.0, Dtype::F32, Storage::F16).unwrap().at(0, 0, 0), -65504.0);
    assert!(one(65520.0, Dtype::F32, Storage::F16).is_none() && one(-1e9, Dtype::Bf16, Storage::F16).is_none());
    assert_eq!(one(65520.0, Dtype::F32, Storage::F32).unwrap().at(0, 0, 0), 65520.0);
    // What was infinite in the file stays so; it is found where pictures are checked.
    assert_eq!(one(f32::INFINITY, Dtype::F32, Storage::F16).unwrap().at(0, 0, 0), f32::INFINITY);
}

#[test]
fn padding_is_zero_and_sizes_are_checked() {
    let workers = Workers::new(1).unwrap();
    let ones = [1.0; 33];
    let p = pack(Dims::matrix(33, 1), Packing::PANELS, StoredTensor::f32(&ones), Storage::F32, &workers).unwrap();
    let Panel::F32(line) = p.panel(1, 0, 1) else { panic!("asked for f32") };
    assert_eq!((line[0], &line[1..]), (1.0, &[0.0; 31][..]));
    assert_eq!(p.bytes(), 2 * 32 * 4);
    let v = pack(Dims::vector(33), Packing::VECTOR, StoredTensor::f32(&ones), Storage::F16, &workers).unwrap();
    assert_eq!(v.vector(), ones);
    assert!(pack(Dims::matrix(5, 5), Packing::PANELS, StoredTensor::f32(&ones), Storage::F32, &workers).is_err());
    assert!(
        pack(Dims::matrix(33, 1), Packing::Panels { gated: true }, StoredTensor::f32(&ones), Storage::F32, &workers)
            .is_err()
    );
}
