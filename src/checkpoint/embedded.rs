//! The model in the binary: a bundle, read in place.

use super::{Model, open};
use crate::error::Result;
use crate::weights::bytes::Bytes;
use crate::weights::safetensors;
use std::sync::Arc;

static BUNDLE: &[u8] = include_bytes!("../assets/embedded.safetensors");

impl Model {
    /// The model that `generate` uses without `--model`; `tools/embed_model.py` made its file.
    ///
    /// # Errors
    /// Bad file, when the binary was built with a broken bundle.
    pub fn embedded() -> Result<Self> {
        let bytes = Bytes::memory("the embedded model", BUNDLE);
        open::single(safetensors::read(Arc::new(bytes))?, "embedded".into())
    }

    /// The embedded bundle's bytes, for hashing.
    pub(crate) fn embedded_bytes() -> &'static [u8] {
        BUNDLE
    }
}
