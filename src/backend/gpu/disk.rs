//! What is remembered of a device between runs: pipelines, verdicts of the self-test. One file each in the system's
//! cache folder, readable by its owner alone; a missing, damaged, foreign or unwritable one
//! counts as empty, never as an error.

use super::adapter::Adapter;
use crate::files::write_private;
use crate::system::cache_dir;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::PathBuf;

/// A larger file is not one that we wrote.
const MAX_BYTES: u64 = 256 << 20;
/// Bytes of the digest of who wrote a file and of what it holds.
const DIGEST: usize = 32;

/// Whose files they are: version, adapter, driver, and whether shaders are checked. A
/// change of any of them begins anew.
#[derive(Clone, Debug)]
pub(super) struct Owner(String);

impl Owner {
    pub(super) fn new(adapter: &Adapter, checked: bool) -> Self {
        let checked = if checked { "checked" } else { "trusted" };
        Self(format!("lienzo {}\n{}\n{checked}\n", env!("CARGO_PKG_VERSION"), adapter.describe()))
    }
}

fn file(owner: &Owner, what: &str) -> Option<PathBuf> {
    let digest = Sha256::digest(owner.0.as_bytes());
    let short: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    Some(cache_dir()?.join(format!("gpu-{short}-{what}")))
}

fn digest(owner: &Owner, data: &[u8]) -> [u8; DIGEST] {
    let mut hash = Sha256::new();
    hash.update(owner.0.as_bytes());
    hash.update(data);
    hash.finalize().into()
}

/// What was saved last, if nothing has changed since.
pub(super) fn load(owner: &Owner, what: &str) -> Option<Vec<u8>> {
    let path = file(owner, what)?;
    let meta = fs::symlink_metadata(&path).ok()?;
    if !meta.is_file() || meta.len() > MAX_BYTES || !private(&meta) {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let (head, data) = bytes.split_at_checked(DIGEST)?;
    (head == digest(owner, data)).then(|| data.to_vec())
}

/// Saves for the next run; a cache that cannot be kept is left out.
pub(super) fn save(owner: &Owner, what: &str, data: &[u8]) {
    let Some(path) = file(owner, what) else { return };
    let _ = write_private(&path, &[&digest(owner, data), data].concat());
}

/// Nobody else may write what the driver will be given.
#[cfg(unix)]
fn private(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    meta.mode() & 0o077 == 0 && meta.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn private(_: &fs::Metadata) -> bool {
    true
}
