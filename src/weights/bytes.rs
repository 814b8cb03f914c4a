//! A file, or bytes in memory, as something that can be read at any position by several threads.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Where a checkpoint's bytes are. No file is mapped: a file that somebody else shortens
/// must give an error, not a signal.
pub enum Bytes {
    /// An open file with its length at the time of opening.
    File {
        /// The handle, only used for positioned reads.
        file: File,
        /// What errors call it.
        path: PathBuf,
        /// Its length when it was opened.
        len: u64,
    },
    /// Bytes in memory: the model in the binary, or a test's.
    Memory {
        /// What errors call it.
        name: String,
        /// The whole content.
        data: Cow<'static, [u8]>,
    },
}

impl Bytes {
    /// Opens a regular file. A folder, a pipe or a device is refused, because their length says nothing.
    pub fn open(path: &Path) -> Result<Self> {
        let told = |e: io::Error| Error::bad_file(path, format!("cannot be opened: {e}"));
        // Asked before opening: opening a pipe blocks until somebody writes to it.
        if !std::fs::metadata(path).map_err(told)?.is_file() {
            return Err(Error::bad_file(path, "is not a regular file; give a checkpoint file or a diffusers folder"));
        }
        let file = File::open(path).map_err(told)?;
        let len = file.metadata().map_err(told)?.len();
        Ok(Self::File { file, path: path.to_path_buf(), len })
    }

    /// Bytes in memory under a name for errors.
    pub fn memory(name: impl Into<String>, data: impl Into<Cow<'static, [u8]>>) -> Self {
        Self::Memory { name: name.into(), data: data.into() }
    }

    /// Total length.
    pub fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory { data, .. } => data.len() as u64,
        }
    }

    /// An error about this file.
    pub fn bad(&self, message: impl std::fmt::Display) -> Error {
        match self {
            Self::File { path, .. } => Error::bad_file(path, message),
            Self::Memory { name, .. } => Error::bad_file(name, message),
        }
    }

    /// Fills `out` with the bytes at `offset`; fewer bytes than that is an error.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.len());
        if end.is_none() {
            return Err(self.bad(format!("{} bytes at {offset} lie beyond its end; the file is damaged", out.len())));
        }
        match self {
            Self::File { file, .. } => read_exact_at(file, out, offset).map_err(|e| {
                let why = if e.kind() == io::ErrorKind::UnexpectedEof {
                    "it became shorter while it was read; leave it alone and try again".into()
                } else {
                    format!("cannot be read at byte {offset}: {e}")
                };
                self.bad(why)
            }),
            Self::Memory { data, .. } => {
                let start = offset as usize;
                out.copy_from_slice(&data[start..start + out.len()]);
                Ok(())
            }
        }
    }

    /// `len` bytes at `offset` in a fresh vector; the range is checked before anything is allocated.
    pub fn vec_at(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.read_into(offset, len, &mut out)?;
        Ok(out)
    }

    /// Replaces `out` by `len` bytes at `offset`; the range is checked before anything is allocated.
    pub fn read_into(&self, offset: u64, len: u64, out: &mut Vec<u8>) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(self.bad(format!("{len} bytes at {offset} lie beyond its end; the file is damaged")));
        }
        let len = usize::try_from(len).map_err(|_| self.bad("is larger than this system can address"))?;
        out.clear();
        out.try_reserve_exact(len).map_err(|_| {
            Error::new(crate::error::Kind::OutOfMemory, format!("no memory for {len} bytes of a checkpoint"))
        })?;
        out.resize(len, 0);
        self.read_at(offset, out)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
