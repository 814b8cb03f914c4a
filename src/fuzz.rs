//! Some files go in, many broken ones are made of them and given to a parser, which must survive each.
//!
//! The inputs are the same in every run. Coverage is not measured; instead an input that gets an answer nobody got
//! before (another error, say) becomes the start of further ones. `tools/fuzz.sh` runs
//! the targets for as long as wanted.

use crate::check::Random;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many inputs a plain `cargo test` tries.
const INPUTS: usize = 3000;
/// No input grows beyond this.
const MAX_LEN: usize = 1 << 16;
/// Numbers at which sizes overflow, signs change and tables end.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x7f,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
    u64::MAX - 7,
];

/// The files of `tests/corpus/NAME`.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus")).join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

/// What a parser answered, without the numbers: answers that differ only in them are one.
pub fn answer<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(e) => e.to_string().chars().filter(|c| c.is_ascii_alphabetic()).take(80).collect(),
    }
}

/// Gives mutations of `seeds` to `parse`, which says what it answered. `words` are pieces that the format is made of.
pub fn fuzz(name: &str, seeds: Vec<Vec<u8>>, words: &[&[u8]], parse: impl FnMut(&[u8]) -> String) {
    let sound = seeds.len();
    fuzz_by(name, seeds, |pool, random| mutated(pool, sound, words, random), parse);
}

/// [`fuzz`] with inputs of the caller's making. The first of the pool are the seeds, the
/// others got an answer that was new.
pub fn fuzz_by(
    name: &str,
    seeds: Vec<Vec<u8>>,
    mut change: impl FnMut(&[Vec<u8>], &mut Random) -> Vec<u8>,
    mut parse: impl FnMut(&[u8]) -> String,
) {
    let seconds: Option<u64> = std::env::var("LIENZO_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    let mut random = Random::new(name);
    let mut pool = seeds;
    assert!(!pool.is_empty(), "{name}: no corpus");
    let mut seen: HashMap<String, usize> = HashMap::new();
    let begun = Instant::now();
    let (mut slowest, mut tried) = (Duration::ZERO, 0);
    let go_on = |tried: usize| seconds.map_or(tried < INPUTS, |s| begun.elapsed().as_secs() < s && tried < 10_000_000);
    while go_on(tried) {
        let input = if tried < pool.len() { pool[tried].clone() } else { change(&pool, &mut random) };
        tried += 1;
        let before = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| parse(&input))) {
            Ok(answer) => {
                let times = seen.entry(answer).or_default();
                *times += 1;
                if *times == 1 && pool.len() < 2000 {
                    pool.push(input);
                }
            }
            Err(panic) => {
                let path = std::env::temp_dir().join(format!("lienzo-fuzz-{name}-{tried}.bin"));
                let _ = std::fs::write(&path, &input);
                eprintln!("{name}: input {tried} is in {}", path.display());
                resume_unwind(panic);
            }
        }
        slowest = slowest.max(before.elapsed());
    }
    eprintln!("{name}: {tried} inputs, {} answers, slowest {:.1} ms", seen.len(), slowest.as_secs_f64() * 1e3);
    if seconds.is_some() {
        // How deep the inputs get: mostly refused at the door would test nothing.
        let mut often: Vec<(&String, &usize)> = seen.iter().collect();
        often.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        for (answer, times) in often.iter().take(12) {
            eprintln!("{:6.2}%  {answer}", **times as f64 * 100.0 / tried as f64);
        }
    }
}

/// One of the inputs with one to six things changed; the first `sound` of the pool are whole.
pub fn mutated(pool: &[Vec<u8>], sound: usize, words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    // Half of them from the sound files: those that were broken before seldom get far.
    let from = if random.below(2) == 0 { sound } else { pool.len() };
    let mut data = pool[random.below(from)].clone();
    for _ in 0..=random.below(6) {
        change(&mut data, pool, words, random);
    }
    data.truncate(MAX_LEN);
    data
}

fn change(data: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    let at = random.below(data.len() + 1);
    let span = 1 + random.below(64);
    let end = (at + 1 + random.below(span)).min(data.len());
    match random.below(10) {
        0 if at < data.len() => data[at] ^= 1 << random.below(8),
        1 if at < data.len() => data[at] = random.bits() as u8,
        2 => drop(data.drain(at..end.max(at))),
        3 => data.truncate(at),
        4 => {
            let piece = data[at..end.max(at)].to_vec();
            let to = random.below(data.len() + 1);
            let most = 1 + random.below(20);
            data.splice(to..to, piece.repeat(1 + random.below(most)));
        }
        5 | 6 if !words.is_empty() => {
            let word = words[random.below(words.len())];
            let until = if random.below(2) == 0 { at } else { (at + word.len()).min(data.len()) };
            data.splice(at..until, word.iter().copied());
        }
        7 | 8 => {
            let number = NUMBERS[random.below(NUMBERS.len())].wrapping_add(random.below(3) as u64).wrapping_sub(1);
            let n = [1, 2, 4, 8][random.below(4)];
            let bytes = if random.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
            let bytes = if random.below(2) == 0 { &bytes[..n] } else { &bytes[8 - n..] };
            data.splice(at..(at + n).min(data.len()), bytes.iter().copied());
        }
        _ => {
            let other = &pool[random.below(pool.len())];
            let from = random.below(other.len() + 1);
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
    }
}
