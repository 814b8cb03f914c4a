//! A picture's sha256 goes in, its file comes out: results and uploads, and nothing else. No name is ever a path.

use crate::error::{Error, Result};
use crate::files::{self, IfTaken, Temporary, cannot_write};
use crate::image::mask::Mask;
use crate::image::read::Picture;
use crate::image::resize::{ResizeMode, fit};
use crate::image::{Image, PictureLimits, Texts, png_bytes};
use crate::job::picture::{Files, Found, Shelf};
use crate::server::fault::{Fault, FaultKind};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes of a picture that is read back at most.
const MAX_BYTES: u64 = 512 << 20;
/// The longer side of a thumbnail.
const THUMB: usize = 320;
/// An upload that no job names is forgotten after this time.
const UPLOADS_STAY: Duration = Duration::from_secs(24 * 3600);

/// A picture that was brought.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    /// Of the file as it came.
    pub(crate) sha256: String,
    /// Pixels.
    pub(crate) width: usize,
    /// Pixels.
    pub(crate) height: usize,
    /// Whether it was here before.
    pub(crate) known: bool,
}

/// The pictures of a server: `images/` holds results, `uploads/` what was brought, `thumbs/` small ones.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    images: PathBuf,
    uploads: PathBuf,
    thumbs: PathBuf,
}

/// Whether this is a sha256 as we write it.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The sha256 of some bytes, as 64 hex digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Makes a folder, and takes out what a killed process left half-written in it.
///
/// # Errors
/// It cannot be made, or written to.
pub(crate) fn folder(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).map_err(|e| cannot_write(&path, &e))?;
    Temporary::inside(&path).map(drop).map_err(|e| cannot_write(&path, &e))?;
    Ok(path)
}

impl Pictures {
    /// In a server's folder.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        Ok(Self {
            images: folder(root.join("images"))?,
            uploads: folder(root.join("uploads"))?,
            thumbs: folder(root.join("thumbs"))?,
        })
    }

    /// Keeps a result under its sha256.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep(&self, png: &[u8]) -> Result<String> {
        let sha = sha256(png);
        write(&self.images.join(format!("{sha}.png")), png)?;
        Ok(sha)
    }

    /// Keeps a picture that was brought, after decoding it; a PNG or JPEG.
    ///
    /// # Errors
    /// It is none, damaged, or too large.
    pub(crate) fn bring(&self, bytes: &[u8]) -> Result<Upload, Fault> {
        let picture = Picture::of_bytes(bytes, Path::new("the picture"), PictureLimits::default())?;
        let Picture { image, sha256, .. } = picture;
        let known = self.path(&sha256).is_some();
        if !known {
            write(&self.uploads.join(&sha256), bytes)?;
        } else if let Ok(file) = fs::File::options().append(true).open(self.uploads.join(&sha256)) {
            // Its day begins anew.
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Upload { sha256, width: image.width, height: image.height, known })
    }

    /// Where a picture is, if it is here.
    pub(crate) fn path(&self, sha: &str) -> Option<PathBuf> {
        if !is_sha256(sha) {
            return None;
        }
        [self.images.join(format!("{sha}.png")), self.uploads.join(sha)].into_iter().find(|path| path.is_file())
    }

    /// Whether a result is here.
    pub(crate) fn has_result(&self, sha: &str) -> bool {
        is_sha256(sha) && self.images.join(format!("{sha}.png")).is_file()
    }

    /// A picture's file as a PNG, byte for byte where it is one.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(crate) fn png(&self, sha: &str) -> Result<Vec<u8>, Fault> {
        let path = self.path(sha).ok_or_else(|| Fault::new(FaultKind::NotFound, "there is no such picture"))?;
        let bytes = files::read(&path, MAX_BYTES)?;
        if bytes.starts_with(b"\x89PNG") {
            return Ok(bytes);
        }
        let picture = Picture::of_bytes(&bytes, Path::new("the picture"), PictureLimits::default())?;
        Ok(png_bytes(&picture.image, None)?)
    }

    /// A picture, no side longer than 320.
    ///
    /// # Errors
    /// As [`Pictures::png`].
    pub(crate) fn thumb(&self, sha: &str) -> Result<Vec<u8>, Fault> {
        let small = self.thumbs.join(format!("{sha}.png"));
        if is_sha256(sha)
            && let Ok(bytes) = files::read(&small, 1 << 20)
        {
            return Ok(bytes);
        }
        let png = self.png(sha)?;
        let Image { width, height, .. } =
            Picture::of_bytes(&png, Path::new("the picture"), PictureLimits::default())?.image;
        if width.max(height) <= THUMB {
            return Ok(png);
        }
        let image = Picture::of_bytes(&png, Path::new("the picture"), PictureLimits::default())?.image;
        let bytes = png_bytes(&smaller(&image, THUMB), None)?;
        write(&small, &bytes)?;
        Ok(bytes)
    }

    /// Forgets a result and its thumbnail.
    pub(crate) fn forget(&self, sha: &str) {
        if is_sha256(sha) {
            for folder in [&self.images, &self.thumbs] {
                // What is not there need not be removed.
                let _ = fs::remove_file(folder.join(format!("{sha}.png")));
            }
        }
    }

    /// Forgets uploads that no job names and whose day is over.
    pub(crate) fn sweep(&self, named: impl Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.uploads).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let age = entry.metadata().ok().and_then(|m| m.modified().ok()).and_then(|t| t.elapsed().ok());
            if is_sha256(&name) && !named(&name) && age.is_some_and(|age| age > UPLOADS_STAY) {
                let _ = fs::remove_file(entry.path());
                let _ = fs::remove_file(self.thumbs.join(format!("{name}.png")));
            }
        }
    }

    fn named(&self, name: &Path) -> Result<PathBuf> {
        let sha = name.to_string_lossy();
        self.path(&sha)
            .ok_or_else(|| Error::usage(format!("there is no picture '{}' here", crate::error::escape(&sha))))
    }
}

impl Shelf for Pictures {
    fn picture(&self, name: &Path) -> Result<Found<Image>> {
        Files.picture(&self.named(name)?).map_err(|e| renamed(e, name))
    }

    fn mask(&self, name: &Path) -> Result<Found<Mask>> {
        Files.mask(&self.named(name)?).map_err(|e| renamed(e, name))
    }

    fn texts(&self, name: &Path) -> Result<Texts> {
        Files.texts(&self.named(name)?).map_err(|e| renamed(e, name))
    }

    fn hash(&self, name: &Path) -> Result<String> {
        // Its name is its hash.
        self.named(name).map(|_| name.to_string_lossy().chars().take(10).collect())
    }
}

/// The error without a path of this machine in it.
fn renamed(e: Error, name: &Path) -> Error {
    let sha: String = name.to_string_lossy().chars().take(10).collect();
    Error::new(e.kind().clone(), e.message()).at(sha)
}

/// A picture with its longer side of at most so many pixels.
pub(crate) fn smaller(image: &Image, side: usize) -> Image {
    let longer = image.width.max(image.height);
    if longer <= side {
        return image.clone();
    }
    let scaled = |n: usize| (n * side / longer).max(1);
    fit(image, (scaled(image.width), scaled(image.height)), ResizeMode::Just)
}

/// Writes a file that is named by its content: one that is there is the same.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    match files::write(path, bytes, IfTaken::Fail) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(cannot_write(path, &e)),
        _ => Ok(()),
    }
}
