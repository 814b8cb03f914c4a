//! What `-o` says and finished files go in; whole files under their final names come out, or none.

use lienzo::error::{Error, Remedy, Result, escape};
use lienzo::files::{self, IfTaken, Temporary, cannot_write};
use lienzo::job::unfinished;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The name without `-o`.
const DEFAULT_NAME: &str = "output.png";
/// Extensions of pictures that are not PNG: asked for by mistake, not part of a name.
const OTHER_FORMATS: [&str; 10] = ["jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "jxl", "ppm"];

/// Where the pictures of one run go.
#[derive(Clone, Debug)]
pub struct OutputPlan {
    folder: PathBuf,
    naming: Naming,
    overwrite: bool,
}

#[derive(Clone, Debug)]
enum Naming {
    /// `%d`, `{index}` or `{seed}` in the name.
    Pattern(String),
    /// The one file, or `stem_1.png`, `stem_2.png`, ... for several.
    Plain { stem: String, ending: String, several: bool },
    /// One picture, to stdout.
    Stdout,
    /// A free name per picture, found when the plan was made (and again when another process was faster).
    Free(Vec<String>),
}

impl OutputPlan {
    /// Reads `-o` for `count` pictures and checks what can be checked before a model is read: the folder exists and can
    /// be written to, the names differ, and none of them is taken (unless `overwrite`).
    ///
    /// `spec` is a file name, one with `%d`, `%03d`, `{index}` (1, 2, ...) or `{seed}`, or a folder (one that exists,
    /// or with a slash at its end). Without `spec`, and in a folder, `output.png` takes the next free number.
    pub fn new(spec: Option<&str>, count: usize, overwrite: bool) -> Result<Self> {
        if spec == Some(STDOUT) {
            return match count {
                1 => Ok(Self { folder: PathBuf::from("."), naming: Naming::Stdout, overwrite: true }),
                _ => Err(Error::usage(format!("-o -: only one picture goes to stdout, not {count}"))),
            };
        }
        let named = spec.map_or(Ok(None), split_name)?;
        let folder = match &named {
            Some((folder, _)) => folder.clone(),
            None => PathBuf::from(spec.unwrap_or(".")),
        };
        check_folder(&folder)?;
        let naming = match named {
            Some((_, name)) if is_pattern(&name) => Naming::Pattern(name),
            Some((_, name)) => plain(&name, count),
            None if overwrite => plain(DEFAULT_NAME, count),
            None => Naming::Free(free_names(&folder, count)),
        };
        let plan = Self { folder, naming, overwrite };
        // Seeds are not known yet; two of them stand for all.
        if count > 1 && plan.path(0, 0) == plan.path(1, 1) {
            return Err(Error::of_option(
                "output",
                format!(
                    "{}: all {count} pictures would have one name: use {{index}}, {{seed}} or %03d",
                    escape(spec.unwrap_or(DEFAULT_NAME))
                ),
            ));
        }
        if !matches!(&plan.naming, Naming::Pattern(name) if name.contains("{seed}")) {
            plan.check_free((0..count).map(|i| (i, 0)))?;
        }
        Ok(plan)
    }

    /// Refuses names that are taken, of `count` pictures whose first has the seed `seed`: for patterns with `{seed}`,
    /// once the seed is known. Other names were checked by [`OutputPlan::new`].
    pub fn check_seeds(&self, seed: u64, count: usize) -> Result<()> {
        self.check_free((0..count).map(|i| (i, seed.wrapping_add(i as u64))))
    }

    /// Whether the picture goes to stdout, where no name is to be printed then.
    pub fn is_stdout(&self) -> bool {
        matches!(self.naming, Naming::Stdout)
    }

    /// From now on files that are there are replaced, or not.
    pub fn set_overwrite(&mut self, overwrite: bool) {
        self.overwrite = overwrite;
    }

    /// The path of picture `index` (from 0) with the seed `seed`. In the current folder it has no `./` in front.
    pub fn path(&self, index: usize, seed: u64) -> PathBuf {
        let name = match &self.naming {
            Naming::Pattern(pattern) => expand(pattern, index as u64 + 1, seed),
            Naming::Plain { stem, ending, several: true } => format!("{stem}_{}{ending}", index + 1),
            Naming::Plain { stem, ending, .. } => format!("{stem}{ending}"),
            Naming::Stdout => STDOUT.to_owned(),
            Naming::Free(names) => names.get(index).cloned().unwrap_or_else(|| numbered(index as u64 + 1)),
        };
        in_folder(&self.folder, &name)
    }

    /// Writes picture `index`; gives the path that it has now.
    pub fn write(&self, index: usize, seed: u64, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(index, seed);
        if matches!(self.naming, Naming::Stdout) {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(bytes).and_then(|()| out.flush());
            return written.map(|()| path).map_err(|e| cannot_write(Path::new("stdout"), &e));
        }
        if !matches!(self.naming, Naming::Free(_)) {
            return write_png(&path, bytes, self.overwrite);
        }
        let mut temporary = Temporary::beside(&path).map_err(|e| cannot_write(&path, &e))?;
        temporary.write_all(bytes).map_err(|e| cannot_write(&path, &e))?;
        let mut number = 0;
        let mut free = path;
        loop {
            match temporary.publish(&free, IfTaken::Fail) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    number += 1;
                    free = in_folder(&self.folder, &numbered(number));
                }
                result => return result.map(|()| free.clone()).map_err(|e| cannot_write(&free, &e)),
            }
        }
    }

    /// Refuses names that the file system cannot take, and those of files that are there, unless they may go.
    fn check_free(&self, pictures: impl Iterator<Item = (usize, u64)>) -> Result<()> {
        if matches!(self.naming, Naming::Free(_) | Naming::Stdout) {
            return Ok(());
        }
        for (index, seed) in pictures {
            let path = self.path(index, seed);
            match path.symlink_metadata() {
                Ok(_) if !self.overwrite => return Err(taken(&path)),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(Error::usage(cannot_write(&path, &e).to_string())),
            }
        }
        Ok(())
    }

    /// Refuses names of previews that the file system cannot take, of pictures by number and seed.
    ///
    /// # Errors
    /// Usage: the name is too long.
    pub fn check_previews(&self, pictures: impl Iterator<Item = (usize, u64)>) -> Result<()> {
        for (index, seed) in pictures {
            let path = preview_path(&self.path(index, seed));
            if let Err(e) = path.symlink_metadata().map(drop).or_else(|e| match e.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(e),
            }) {
                return Err(Error::usage(cannot_write(&path, &e).to_string()));
            }
        }
        Ok(())
    }

    /// Files, made or begun, that may be picture `index` of some seed: those whose names fit, where the seed is a part
    /// of
    /// the name.
    pub fn candidates(&self, index: usize) -> Vec<PathBuf> {
        let pattern = match &self.naming {
            Naming::Pattern(pattern) if pattern.contains(SEED) => pattern,
            _ => return vec![self.path(index, 0)],
        };
        // What stands before the first seed and behind the last one is known.
        let name = |text: &str| expand(text, index as u64 + 1, 0);
        let (before, rest) = pattern.split_once(SEED).unwrap_or((pattern, ""));
        let after = rest.rsplit_once(SEED).map_or(rest, |(_, after)| after);
        let (before, after) = (name(before), name(after));
        let fits = |file: &Path| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.len() > before.len() + after.len() && name.starts_with(&before) && name.ends_with(&after)
        };
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            // One that is not finished has a file beside it.
            in_folder(&self.folder, name.strip_suffix(unfinished::ENDING).unwrap_or(&name))
        });
        let mut found: Vec<PathBuf> = names.filter(|path| fits(path)).collect();
        found.sort();
        found.dedup();
        found
    }
}

/// The name of stdout.
const STDOUT: &str = "-";
/// The seed's place in a pattern.
const SEED: &str = "{seed}";

/// Where a picture is shown while it is made.
pub fn preview_path(picture: &Path) -> PathBuf {
    picture.with_extension("preview.png")
}

/// Writes a whole file under `path`, or nothing; a file that is there stays, unless `overwrite`.
pub fn write_png(path: &Path, bytes: &[u8], overwrite: bool) -> Result<PathBuf> {
    match files::write(path, bytes, if overwrite { IfTaken::Replace } else { IfTaken::Fail }) {
        Ok(()) => Ok(path.to_path_buf()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(taken(path)),
        Err(e) => Err(cannot_write(path, &e)),
    }
}

/// `-o` as folder and file name with `.png`; none if all of it is a folder.
fn split_name(spec: &str) -> Result<Option<(PathBuf, String)>> {
    let path = Path::new(spec);
    if spec.is_empty() {
        return Err(Error::of_option("output", "is empty: give a file name such as picture.png"));
    }
    if spec.ends_with(std::path::is_separator) || path.is_dir() {
        return Ok(None);
    }
    let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return Ok(None) };
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    if OTHER_FORMATS.contains(&extension.as_str()) {
        return Err(Error::of_option("output", format!("{}: only PNG is written: end the name in .png", escape(spec))));
    }
    let name = if extension == "png" { name.to_string() } else { format!("{name}.png") };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(Some((folder.to_path_buf(), name)))
}

fn plain(name: &str, count: usize) -> Naming {
    // `.png` in whatever case: it stays as it was typed.
    let (stem, ending) = name.split_at_checked(name.len().saturating_sub(4)).unwrap_or((name, ""));
    Naming::Plain { stem: stem.into(), ending: ending.into(), several: count > 1 }
}

fn check_folder(folder: &Path) -> Result<()> {
    let name = escape(&folder.to_string_lossy());
    match fs::metadata(folder) {
        Ok(m) if m.is_dir() => {}
        Ok(_) => return Err(Error::of_option("output", format!("'{name}' is a file, not a folder"))),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::of_option("output", format!("the folder '{name}' does not exist: create it first")));
        }
        Err(e) => return Err(Error::of_option("output", format!("the folder '{name}' cannot be used: {e}"))),
    }
    // Only trying tells: permission bits know nothing of read-only mounts and access lists.
    Temporary::inside(folder).map(drop).map_err(|e| cannot_write(folder, &e))
}

/// The first names that are free, all behind the last one that is taken, so that files sort by age.
fn free_names(folder: &Path, count: usize) -> Vec<String> {
    let is_free = |name: &str| folder.join(name).symlink_metadata().is_err();
    if count <= 1 && is_free(DEFAULT_NAME) {
        return vec![DEFAULT_NAME.to_string()];
    }
    let mut names = Vec::new();
    for name in (1..).map(numbered) {
        if names.len() >= count.max(1) {
            break;
        }
        if is_free(&name) { names.push(name) } else { names.clear() }
    }
    names
}

fn numbered(number: u64) -> String {
    format!("output_{number}.png")
}

fn in_folder(folder: &Path, name: &str) -> PathBuf {
    if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) }
}

/// A `%d` or `%0Nd` at the front of `text`: its width and what is behind it.
fn counter(text: &str) -> Option<(usize, &str)> {
    let rest = text.strip_prefix('%')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    // A file name has room for no more; two digits also keep a hostile width small.
    let width = if digits == 0 { 0 } else { rest.get(..digits).filter(|_| digits <= 2)?.parse().ok()? };
    Some((width, rest[digits..].strip_prefix('d')?))
}

fn is_pattern(name: &str) -> bool {
    name.contains("{index}")
        || name.contains("{seed}")
        || name.match_indices('%').any(|(i, _)| counter(&name[i..]).is_some())
}

fn expand(pattern: &str, index: u64, seed: u64) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some((width, after)) = counter(rest) {
            out.push_str(&format!("{index:0width$}"));
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{index}") {
            out.push_str(&index.to_string());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{seed}") {
            out.push_str(&seed.to_string());
            rest = after;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn taken(path: &Path) -> Error {
    let name = escape(&path.to_string_lossy());
    Error::usage(format!("'{name}' exists")).try_this(Remedy::OtherName).try_this(Remedy::Overwrite)
}

#[cfg(test)]
mod tests;
