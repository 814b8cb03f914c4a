//! Bytes and a final name go in; a whole file under that name comes out, or none.
//! Nothing else in the crate writes files.
//! And back: a small file or a pipe to its bytes.
//!
//! A file is written beside its final name as `.lienzo-*.tmp`, flushed to the disk and then renamed, so that neither a
//! full disk nor a second process nor a kill leaves half a file under a real name. While it is written its temporary
//! name is locked. The system drops the lock of a process that died, so whoever writes to the folder next can tell what
//! a dead process left behind, and removes it.

use crate::error::{Error, Kind, Result, escape};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What becomes of a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfTaken {
    /// It stays, and writing is an error of the kind `AlreadyExists`.
    Fail,
    /// The new file takes its place.
    Replace,
}

/// How long a pipe may bring nothing before somebody has opened its other end, and after.
const UNTIL_OPENED: Duration = Duration::from_millis(500);
const UNTIL_MORE: Duration = Duration::from_secs(60);

/// Whether the process is to end: nothing waits for a pipe any more.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every wait for a pipe, from now on: for the handler of a signal.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// A whole file of at most `most` bytes, or what a pipe brings until its other end is closed. Nothing waits for ever: a
/// pipe without a writer is refused.
///
/// # Errors
/// Bad file: it is a folder or a device, too large, or cannot be read.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let bad = |message: String| Error::bad_file(path, message);
    let opened = |e: io::Error| bad(format!("cannot be opened: {e}")).caused_by(e);
    // Asked before opening, which alone is felt by some devices.
    let kind = fs::metadata(path).map_err(opened)?;
    if kind.is_dir() {
        return Err(bad("is a folder, not a file".into()));
    }
    if is_device(&kind) {
        return Err(bad("is a device; give a file or a pipe".into()));
    }
    if kind.len() > most {
        return Err(too_large(path, most));
    }
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let mut file = options.open(path).map_err(opened)?;
    let (mut out, mut block) = (Vec::new(), vec![0; 1 << 16]);
    let mut since = Instant::now();
    loop {
        let (waits, patience) = match file.read(&mut block) {
            Ok(0) if kind.is_file() || !out.is_empty() => return Ok(out),
            Ok(0) => ("is a pipe that nobody writes to", UNTIL_OPENED),
            Ok(n) => {
                if out.len() as u64 + n as u64 > most {
                    return Err(too_large(path, most));
                }
                let failed =
                    |_| Error::new(Kind::OutOfMemory, "no memory for its bytes").at(escape(&path.to_string_lossy()));
                out.try_reserve(n).map_err(failed)?;
                out.extend_from_slice(&block[..n]);
                since = Instant::now();
                continue;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == ErrorKind::WouldBlock => ("is a pipe that brings nothing more", UNTIL_MORE),
            Err(e) => return Err(bad(format!("cannot be read: {e}")).caused_by(e)),
        };
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(Error::cancelled().at(escape(&path.to_string_lossy())));
        }
        if since.elapsed() > patience {
            return Err(bad(waits.into()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn too_large(path: &Path, most: u64) -> Error {
    Error::bad_file(path, format!("is larger than {} MiB, which is the most that is read", most >> 20))
}

#[cfg(unix)]
fn is_device(kind: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = kind.file_type();
    kind.is_char_device() || kind.is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: &fs::Metadata) -> bool {
    false
}

/// Writes a whole file, or nothing.
///
/// # Errors
/// `AlreadyExists` under [`IfTaken::Fail`]; otherwise what the system says. Nothing is left behind.
pub fn write(path: &Path, bytes: &[u8], if_taken: IfTaken) -> io::Result<()> {
    let mut temporary = Temporary::beside(path)?;
    temporary.write_all(bytes)?;
    temporary.publish(path, if_taken)
}

/// Writes a small file of a cache, and its folder, so that only this user can read them. One that is there is replaced.
///
/// # Errors
/// What the system says; nothing is left behind.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let mut make = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
    make.recursive(true).create(folder)?;
    let mut temporary = Temporary::open(folder, true)?;
    temporary.write_all(bytes)?;
    temporary.publish(path, IfTaken::Replace)
}

/// A file that could not be written, with the reason and, where there is one, the way out.
pub fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let name = escape(&path.to_string_lossy());
    let why = match error.kind() {
        ErrorKind::StorageFull => "the disk is full: free some space or choose another place".to_string(),
        ErrorKind::QuotaExceeded => "the disk quota is used up: free some space or choose another place".to_string(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: choose another place".to_string(),
        ErrorKind::PermissionDenied => "no permission to write there: choose another place".to_string(),
        ErrorKind::NotFound => "the folder does not exist (any more)".to_string(),
        ErrorKind::InvalidFilename => "the name is too long or not allowed: choose another".to_string(),
        ErrorKind::AlreadyExists => "it exists already: remove it or choose another name".to_string(),
        _ => error.to_string(),
    };
    Error::other(format!("'{name}' cannot be written: {why}"))
}

/// A file under a temporary name, removed when dropped unless it was published.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    file: File,
    /// Whether all that was written is on the disk.
    synced: bool,
}

impl Temporary {
    /// A new file in the folder of `path`, for [`publish`](Self::publish) under that name or another of the folder.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub fn beside(path: &Path) -> io::Result<Self> {
        Self::open(folder_of(path), false)
    }

    /// A new file in `folder`.
    ///
    /// # Errors
    /// As [`Temporary::beside`].
    pub fn inside(folder: &Path) -> io::Result<Self> {
        Self::open(folder, false)
    }

    fn open(folder: &Path, private: bool) -> io::Result<Self> {
        remove_stale_once(folder);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        // Elsewhere the user's own folder is private already.
        let _ = private;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".lienzo-{}-{number}.tmp", std::process::id()));
            match options.open(&path) {
                // What a killed process of the same number left behind and somebody else holds, or another container's.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
                // Between the two calls another process may have taken the file for a dead one's and removed it.
                Ok(file) if lock(&file) && fs::exists(&path).unwrap_or(true) => {
                    return Ok(Self { path, file, synced: false });
                }
                Ok(_) => continue,
            }
        }
    }

    /// Gives the file its final name, once all of it is on the disk. After an error it still has its temporary one, and
    /// another name can be tried.
    ///
    /// # Errors
    /// `AlreadyExists` under [`IfTaken::Fail`]; otherwise what the system says.
    pub fn publish(&mut self, path: &Path, if_taken: IfTaken) -> io::Result<()> {
        if !self.synced {
            self.file.sync_all()?;
            self.synced = true;
        }
        match if_taken {
            IfTaken::Replace => fs::rename(&self.path, path),
            IfTaken::Fail => self.publish_new(path),
        }
    }

    fn publish_new(&self, path: &Path) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
                // File systems and kernels without it: the next best.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {}
                result => return Ok(result?),
            }
        }
        match fs::hard_link(&self.path, path) {
            // The drop removes the temporary name.
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(e),
            Err(_) => self.take_name(path),
        }
    }

    /// For file systems without links (FAT): the name is taken by an empty file, which works for one process only, and
    /// that empty file is replaced.
    fn take_name(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).open(path)?;
        fs::rename(&self.path, path).inspect_err(|_| {
            // Only while it is still the empty one.
            if fs::metadata(path).is_ok_and(|m| m.len() == 0) {
                let _ = fs::remove_file(path);
            }
        })
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.synced = false;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove, and that is no error.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether this process now holds the file alone. File systems without locks give everybody what they ask for here, and
/// nobody removes anything there: [`remove_stale`] asks more strictly.
fn lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// [`remove_stale`] at this process's first file in `folder`: once is enough, and a
/// folder may hold thousands of pictures.
fn remove_stale_once(folder: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let new = SWEPT.lock().is_ok_and(|mut swept| swept.insert(folder.to_path_buf()));
    if new {
        remove_stale(folder);
    }
}

/// Removes the temporary files in `folder` that no living process holds.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_temporary(&entry.file_name()) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let held = OpenOptions::new().write(true).open(entry.path());
        if held.is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// `.lienzo-PROCESS-*.tmp`, and nothing that a user would call so.
fn is_temporary(name: &OsStr) -> bool {
    let inner = name.to_str().and_then(|n| n.strip_prefix(".lienzo-")?.strip_suffix(".tmp"));
    let process = inner.and_then(|n| n.split_once('-')).map(|(process, _)| process);
    process.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lienzo-files-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> =
                fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_whole_or_absent_and_nothing_is_left_beside_it() {
        let folder = Folder::new("whole");
        let path = folder.0.join("a");
        write(&path, b"one", IfTaken::Fail).unwrap();
        assert_eq!(write(&path, b"two", IfTaken::Fail).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"two", IfTaken::Replace).unwrap();
        assert_eq!((fs::read(&path).unwrap(), folder.names()), (b"two".to_vec(), vec!["a".to_string()]));
        let mut dropped = Temporary::beside(&path).unwrap();
        dropped.write_all(b"half").unwrap();
        assert_eq!(folder.names().len(), 2);
        drop(dropped);
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn without_links_a_name_that_was_taken_meanwhile_is_not_replaced() {
        let folder = Folder::new("links");
        let path = folder.0.join("a");
        let mut temporary = Temporary::beside(&path).unwrap();
        temporary.write_all(b"new").unwrap();
        fs::write(&path, b"precious").unwrap();
        assert_eq!(temporary.take_name(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        temporary.take_name(&path).unwrap();
        drop(temporary);
        assert_eq!((fs::read(&path).unwrap(), folder.names()), (b"new".to_vec(), vec!["a".to_string()]));
        // A rename that fails leaves no empty file under the name.
        let lost = Temporary::beside(&path).unwrap();
        fs::remove_file(&lost.path).unwrap();
        assert!(lost.take_name(&folder.0.join("b")).is_err());
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn what_dead_processes_left_is_removed_and_what_living_ones_write_is_not() {
        let folder = Folder::new("stale");
        let stale = [".lienzo-1-0.tmp", ".lienzo-4194303-model.safetensors.tmp"];
        let kept = [".lienzo-notes.tmp", ".lienzo-a-b.tmp", ".other-1-0.tmp", "lienzo-1-0.tmp", ".lienzo-2-0.tmp.png"];
        for name in stale.iter().chain(&kept) {
            fs::write(folder.0.join(name), b"x").unwrap();
        }
        let living = Temporary::inside(&folder.0).unwrap();
        remove_stale(&folder.0);
        let mut want: Vec<_> = kept.iter().map(|n| n.to_string()).collect();
        want.push(living.path.file_name().unwrap().to_str().unwrap().to_string());
        want.sort();
        assert_eq!(folder.names(), want);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_to_its_end_and_one_without_a_writer_is_refused() {
        let folder = Folder::new("pipe");
        let path = folder.0.join("p");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let began = Instant::now();
        let error = read(&path, 100).unwrap_err().to_string();
        assert!(error.contains("nobody writes to") && began.elapsed() < Duration::from_secs(2), "{error}");
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut pipe = OpenOptions::new().write(true).open(path).unwrap();
                for part in ["slow ", "and ", "whole"] {
                    pipe.write_all(part.as_bytes()).unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                }
            })
        };
        assert_eq!(read(&path, 100).unwrap(), b"slow and whole");
        writer.join().unwrap();
        for (path, why) in [("/dev/null", "is a device"), ("/", "is a folder"), ("/no/such", "cannot be opened")] {
            assert!(read(Path::new(path), 1).unwrap_err().to_string().contains(why), "{path}");
        }
        fs::write(folder.0.join("a"), b"abc").unwrap();
        assert_eq!(read(&folder.0.join("a"), 3).unwrap(), b"abc");
        assert!(read(&folder.0.join("a"), 2).unwrap_err().to_string().contains("is larger than"));
    }

    #[cfg(unix)]
    #[test]
    fn a_private_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("private");
        let path = folder.0.join("cache/lienzo/a.txt");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
}
