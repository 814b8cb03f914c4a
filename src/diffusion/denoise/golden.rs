//! The committed reference tensors, for tests: a name in, values out, and the comparison that `verify` makes.

use safetensors::SafeTensors;

/// `tests/golden/reference.safetensors`.
pub(crate) struct Golden(Vec<u8>);

impl Golden {
    pub(crate) fn open() -> Self {
        Self(std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/reference.safetensors")).unwrap())
    }

    /// The values of an f32 tensor, in torch's order.
    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec();
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// Panics unless max|y - ref| / rms(ref) is at most `limit`.
    pub(crate) fn check(&self, name: &str, y: &[f32], limit: f64) {
        let error = relative_error(y, &self.f32(name));
        assert!(error <= limit, "{name}: error {error:.3e} is over {limit:.0e}");
    }
}

/// max|y - ref| / rms(ref).
pub(crate) fn relative_error(y: &[f32], reference: &[f32]) -> f64 {
    assert_eq!(y.len(), reference.len());
    let worst = y.iter().zip(reference).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    let square: f64 = reference.iter().map(|&r| f64::from(r).powi(2)).sum();
    worst / (square / reference.len() as f64).sqrt()
}

/// Panics unless every value is within `limit` of its reference.
pub(crate) fn assert_near(y: &[f32], reference: &[f32], limit: f32) {
    assert_eq!(y.len(), reference.len());
    for (i, (a, b)) in y.iter().zip(reference).enumerate() {
        assert!((a - b).abs() <= limit, "value {i} is {a}, not {b}");
    }
}

/// `tests/golden/samplers.json`.
pub(crate) fn samplers() -> serde_json::Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/samplers.json")).unwrap();
    // Python writes an infinity that JSON does not know.
    serde_json::from_str(&text.replace("-Infinity", "null")).unwrap()
}
