//! A picture's answers go in one by one, and into a file beside it; after an interruption the file gives them back.
//!
//! The file is a head (what the picture would say of itself, and what computes it) and records, each with a digest, so
//! that whatever a crash or a power cut leaves of the last one is told from a whole one. It is as long as the latents
//! times the evaluations (1.3 MB for 20 steps at 512x512), and goes when the picture is there.

use crate::diffusion::answers::Answer;
use crate::error::{Error, Result, escape};
use crate::files::cannot_write;
use crate::system;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MAGIC: &[u8; 16] = b"LIENZO ANSWERS 1";
/// A longer file is not read, and not written: what stands in it up to there is still of use.
const MAX_BYTES: u64 = 256 << 20;
/// Bytes of the head at most: prompts are in it.
const MAX_HEAD: usize = 4 << 20;
const DIGEST: usize = 8;
/// How long a power cut may at most take back.
const SYNC: Duration = Duration::from_secs(2);

/// Where the answers of a picture are kept until it is there.
pub fn path_of(picture: &Path) -> PathBuf {
    let mut name = picture.as_os_str().to_owned();
    name.push(ENDING);
    name.into()
}

/// What [`path_of`] adds.
pub const ENDING: &str = ".unfinished";

/// Which picture a file is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// The picture's `parameters`.
    parameters: String,
    /// The instruction set, which decides last bits.
    isa: String,
}

/// What an interrupted run has left of a picture.
#[derive(Debug)]
pub struct Left {
    path: PathBuf,
    head: Head,
    /// The answers that are whole.
    pub answers: Vec<Answer>,
    /// Where the next one begins.
    end: u64,
}

impl Left {
    /// What is left of a picture with so many latents; none where there is no such file.
    ///
    /// # Errors
    /// Bad file: it is not one of ours, too long, or its head is damaged. It cannot be read.
    pub fn read(picture: &Path, latents: usize) -> Result<Option<Self>> {
        let path = path_of(picture);
        if fs::symlink_metadata(&path).is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            return Ok(None);
        }
        let bytes = crate::files::read(&path, MAX_BYTES)?;
        let head = head(&bytes).ok_or_else(|| Error::bad_file(&path, "is not what an interrupted run leaves"))?;
        let (head, mut at) = head;
        let mut answers = Vec::new();
        while let Some((answer, end)) = record(&bytes, at, answers.len(), latents) {
            answers.push(answer);
            at = end;
        }
        Ok(Some(Self { path, head, answers, end: at as u64 }))
    }

    /// The `parameters` that the picture would have.
    pub fn parameters(&self) -> &str {
        &self.head.parameters
    }

    /// Whether the same instruction set would go on.
    pub fn same_machine(&self) -> bool {
        self.head.isa == system::instruction_set()
    }

    /// The `parameters` in the file of this picture, whatever is behind them.
    pub(super) fn parameters_of(picture: &Path) -> Option<String> {
        let bytes = crate::files::read(&path_of(picture), MAX_BYTES).ok()?;
        head(&bytes).map(|(head, _)| head.parameters)
    }
}

/// The head of a file, and where the first record begins.
fn head(bytes: &[u8]) -> Option<(Head, usize)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let len = u32::from_le_bytes(*rest.first_chunk()?) as usize;
    let text = rest.get(4..)?.get(..len).filter(|_| len <= MAX_HEAD)?;
    let end = MAGIC.len() + 4 + len;
    let told = bytes.get(end..end + DIGEST)?;
    (told == digest(u64::MAX, text)).then(|| serde_json::from_slice(text).ok().map(|h| (h, end + DIGEST)))?
}

/// Record `n`, which begins at `at`, and where it ends.
fn record(bytes: &[u8], at: usize, n: usize, latents: usize) -> Option<(Answer, usize)> {
    let rest = bytes.get(at..)?;
    let count = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?) as usize;
    if latents == 0 || (count != latents && count != latents.checked_mul(2)?) {
        return None;
    }
    let len = 8 + 4 * count;
    let (body, told) = (rest.get(..len)?, rest.get(len..len + DIGEST)?);
    if told != digest(n as u64, body) {
        return None;
    }
    let mut numbers = body.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    let t = f32::from_le_bytes(numbers.next()?);
    Some((Answer { t, values: numbers.skip(1).map(f32::from_le_bytes).collect() }, at + len + DIGEST))
}

fn digest(n: u64, bytes: &[u8]) -> [u8; DIGEST] {
    let all = Sha256::new().chain_update(n.to_le_bytes()).chain_update(bytes).finalize();
    all.first_chunk().copied().unwrap_or_default()
}

fn encoded(n: usize, answer: &Answer) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + 4 * answer.values.len() + DIGEST);
    out.extend(answer.t.to_le_bytes());
    out.extend((answer.values.len() as u32).to_le_bytes());
    answer.values.iter().for_each(|v| out.extend(v.to_le_bytes()));
    let digest = digest(n as u64, &out);
    out.extend(digest);
    out
}

/// Keeps the answers of one picture.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    /// The picture's `parameters`, once the file is there.
    parameters: String,
    begun: Instant,
    /// Those that are in no file yet.
    waiting: Vec<Answer>,
    /// The timesteps of those in the file.
    kept: Vec<u32>,
    /// How many were heard, those that are known from the file among them.
    heard: usize,
    file: Option<File>,
    bytes: u64,
    synced: Instant,
    done: bool,
}

impl Keeper {
    /// For a picture that is begun.
    pub fn new(picture: &Path) -> Self {
        Self {
            path: path_of(picture),
            parameters: String::new(),
            begun: Instant::now(),
            waiting: Vec::new(),
            kept: Vec::new(),
            heard: 0,
            file: None,
            bytes: 0,
            synced: Instant::now(),
            done: false,
        }
    }

    /// Goes on behind what is left of it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn again(picture: &Path, left: &Left) -> Result<Self> {
        let file = OpenOptions::new().write(true).open(&left.path).and_then(|mut file| {
            file.set_len(left.end)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        });
        let file = Some(file.map_err(|e| cannot_write(&left.path, &e))?);
        let kept = left.answers.iter().map(|answer| answer.t.to_bits()).collect();
        let parameters = left.head.parameters.clone();
        Ok(Self { parameters, kept, file, bytes: left.end, ..Self::new(picture) })
    }

    /// How long the picture has been worked on.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether it has a file.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// How many answers are in the file.
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// One more answer; `parameters` is what the picture would say of itself now, and begins the file.
    ///
    /// # Errors
    /// The file cannot be written; it is given up then.
    pub fn hear(&mut self, answer: Answer, parameters: Option<String>) -> Result<()> {
        self.heard += 1;
        if self.done {
            return Ok(());
        }
        if let Some(t) = self.kept.get(self.heard - 1) {
            // Another course than the one that was kept: then it is worth nothing.
            if *t != answer.t.to_bits() {
                self.remove();
            }
            return Ok(());
        }
        // Another device has taken over: what it makes has other last bits.
        if self.file.is_some() && parameters.as_ref().is_some_and(|now| *now != self.parameters) {
            self.remove();
            return Ok(());
        }
        self.waiting.push(answer);
        let written = match (&self.file, parameters) {
            (None, None) => Ok(()),
            (None, Some(parameters)) => self.begin(parameters).and_then(|()| self.write()),
            (Some(_), _) => self.write(),
        };
        written.map_err(|e| {
            self.remove();
            cannot_write(&self.path, &e)
        })
    }

    fn begin(&mut self, parameters: String) -> std::io::Result<()> {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| m.is_file())
            && File::open(&self.path).is_ok_and(|file| {
                use std::io::Read as _;
                let mut start = Vec::new();
                file.take(MAGIC.len() as u64).read_to_end(&mut start).is_ok() && start == MAGIC
            });
        if ours {
            fs::remove_file(&self.path)?;
        }
        let head = Head { parameters, isa: system::instruction_set() };
        let text = serde_json::to_vec(&head)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(&text);
        bytes.extend(digest(u64::MAX, &text));
        // A file that somebody else has put there stays.
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.path)?;
        file.write_all(&bytes)?;
        (self.file, self.bytes, self.parameters) = (Some(file), bytes.len() as u64, head.parameters);
        Ok(())
    }

    fn write(&mut self) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for answer in self.waiting.drain(..) {
            let bytes = encoded(self.kept.len(), &answer);
            if self.bytes + bytes.len() as u64 > MAX_BYTES {
                self.done = true;
                return Ok(());
            }
            file.write_all(&bytes)?;
            self.bytes += bytes.len() as u64;
            self.kept.push(answer.t.to_bits());
        }
        if self.synced.elapsed() >= SYNC {
            file.sync_data()?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// The picture is there, or what was kept is of no use: the file goes.
    pub fn remove(&mut self) {
        self.done = true;
        self.waiting.clear();
        if self.file.take().is_some() {
            // One that stays behind is refused or replaced by the next run.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Its file's name, as messages show it.
    pub fn name(&self) -> String {
        escape(&self.path.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(n: usize) -> Vec<Answer> {
        let values = |i: usize| (0..6).map(|v| (i * 7 + v) as f32 / 3.0 - 1.0).collect();
        (0..n).map(|i| Answer { t: 999.0 - i as f32, values: values(i) }).collect()
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lienzo-unfinished-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn kept(picture: &Path, n: usize) {
        let mut keeper = Keeper::new(picture);
        answers(n).into_iter().for_each(|answer| keeper.hear(answer, Some("x".into())).unwrap());
        assert_eq!(keeper.count(), n);
    }

    #[test]
    fn whatever_is_cut_off_or_damaged_the_whole_answers_before_it_stay() {
        let folder = Folder::new("cut");
        let picture = folder.0.join("a.png");
        kept(&picture, 4);
        let whole = fs::read(path_of(&picture)).unwrap();
        let left = Left::read(&picture, 6).unwrap().unwrap();
        assert!(left.answers == answers(4) && left.parameters() == "x" && left.same_machine());
        assert_eq!(left.end, whole.len() as u64);
        let record = 8 + 24 + DIGEST;
        let first = whole.len() - 4 * record;
        for at in 0..whole.len() {
            for damaged in [whole[..at].to_vec(), [&whole[..at], &[whole[at] ^ 1], &whole[at + 1..]].concat()] {
                fs::write(path_of(&picture), damaged).unwrap();
                match Left::read(&picture, 6) {
                    Ok(left) => assert_eq!(left.unwrap().answers, answers((at - first) / record), "byte {at}"),
                    Err(e) => assert!(at < first, "byte {at}: {e}"),
                }
            }
        }
        // Of another size, or of none.
        fs::write(path_of(&picture), &whole).unwrap();
        assert!(Left::read(&picture, 5).unwrap().unwrap().answers.is_empty());
        assert!(Left::read(&folder.0.join("b.png"), 6).unwrap().is_none());
    }

    #[test]
    fn a_run_goes_on_behind_what_is_left_and_at_the_end_nothing_is() {
        let folder = Folder::new("again");
        let picture = folder.0.join("a.png");
        kept(&picture, 3);
        let cut = fs::read(path_of(&picture)).unwrap();
        fs::write(path_of(&picture), &cut[..cut.len() - 1]).unwrap();
        let left = Left::read(&picture, 6).unwrap().unwrap();
        let mut keeper = Keeper::again(&picture, &left).unwrap();
        answers(5).into_iter().for_each(|answer| keeper.hear(answer, Some("x".into())).unwrap());
        assert_eq!(Left::read(&picture, 6).unwrap().unwrap().answers, answers(5));
        // Another device goes on: what it makes does not belong behind the first one's.
        keeper.hear(answers(1).remove(0), Some("y".into())).unwrap();
        assert!(!path_of(&picture).exists());
        kept(&picture, 2);
        let mut keeper = Keeper::again(&picture, &Left::read(&picture, 6).unwrap().unwrap()).unwrap();
        keeper.hear(Answer { t: 5.0, ..answers(1).remove(0) }, None).unwrap();
        assert!(!path_of(&picture).exists());
    }

    #[test]
    fn a_file_of_somebody_else_stays() {
        let folder = Folder::new("else");
        let picture = folder.0.join("a.png");
        fs::write(path_of(&picture), "precious").unwrap();
        let mut keeper = Keeper::new(&picture);
        let error = keeper.hear(answers(1).remove(0), Some("x".into())).unwrap_err().to_string();
        assert!(error.contains("a.png.unfinished"), "{error}");
        keeper.hear(answers(1).remove(0), Some("x".into())).unwrap();
        keeper.remove();
        assert!(Left::read(&picture, 6).is_err());
        assert_eq!(fs::read(path_of(&picture)).unwrap(), b"precious");
    }
}
