//! Files of tensors as inert data: bytes and formats only.
//!
//! What the tensors are for is decided in [`crate::checkpoint`]; nothing here knows a model.

use crate::dtype::Dtype;
use crate::error::Result;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) mod bytes;
pub(crate) mod ckpt;
mod decode;
pub mod expr;
pub(crate) mod format;
pub(crate) mod patch;
mod quantized;
pub(crate) mod safetensors;
pub(crate) mod table;

pub use decode::{decode_f32, encode};

/// One tensor of a checkpoint, torch-shaped (`[out, in]`, `[out, in, 3, 3]`, `[c]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type in which it is read: f32, f16 or bf16.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements. Readers have checked that this does not overflow.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in that type.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.bytes()
    }
}

/// How a file holds a tensor, which is not always how it reads: 8-bit rows read as f16, f64 as f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredAs {
    /// The type, for people.
    pub name: &'static str,
    /// Bytes in the file, scales included.
    pub bytes: usize,
}

/// Which bytes a tensor is read from. No two sources of one process ever have the same id, so that what was made of one
/// source's tensors is never taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

impl SourceId {
    /// One that nobody has.
    #[allow(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Which change of a tensor, and how much of it: whose change it is tells which, beside the tensor's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatchId {
    /// Of the adapter's file.
    pub source: SourceId,
    /// The bits of how much, an f32.
    pub strength: u32,
}

/// What a tensor's elements are made of: whose bytes they are, and what is changed of them, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Who holds the pristine tensor.
    pub source: SourceId,
    /// Changes; none where no adapter touches it.
    pub patches: Vec<PatchId>,
}

/// Where a model's tensors come from: a file, a folder, an archive entry or bytes in the binary.
///
/// Names are canonical. Reads are positioned (`pread`), so a source can be shared between threads.
pub trait WeightSource: Send + Sync {
    /// Who holds a tensor: a source over another one passes on the other's word for what it does not change.
    fn id(&self, name: &str) -> SourceId;

    /// What is changed of a tensor, in order; nothing, unless the source says otherwise.
    fn patches(&self, name: &str) -> &[PatchId] {
        let _ = name;
        &[]
    }

    /// The canonical names, sorted.
    fn names(&self) -> Vec<&str>;

    /// What is known of a tensor without reading it.
    fn info(&self, name: &str) -> Option<&TensorInfo>;

    /// Replaces `out` by the tensor's elements of [`TensorInfo::dtype`], little-endian, row-major.
    fn read(&self, name: &str, out: &mut Vec<u8>) -> Result<()>;

    /// Replaces `out` by rows `first .. first + count` of dimension 0, in the same form.
    fn read_rows(&self, name: &str, first: usize, count: usize, out: &mut Vec<u8>) -> Result<()>;

    /// How the file holds a tensor; as it reads, unless the source says otherwise.
    fn stored(&self, name: &str) -> Option<StoredAs> {
        self.info(name).map(|info| StoredAs { name: info.dtype.name(), bytes: info.bytes() })
    }

    /// The format, for people.
    fn about(&self) -> String {
        "in memory".into()
    }
}
