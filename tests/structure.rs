//! The house: which room may know which, what may be said where, and how wide a comment is.
//!
//! Each list of exceptions says what is not so yet. An exception that is no longer needed fails too, so that a list can
//! only shrink.

mod source;

use source::{Source, code, sources};
use std::collections::{BTreeMap, BTreeSet};

/// What everybody may know: numbers, bytes, pictures, errors.
const GROUND: [&str; 10] = ["error", "dtype", "files", "workers", "tensor", "system", "rng", "simd", "image", "Result"];

/// A room, and the rooms that it may know beside the ground. Who is not here may know everything but a caller:
/// `verify`, `bench`, and the callers themselves (`cli`, `server`).
const KNOWS: [(&str, &[&str]); 11] = [
    ("kernels", &[]),
    // A graph names its weights as expressions over tensors.
    ("graph", &["kernels", "weights"]),
    ("layers", &["kernels", "graph"]),
    ("models", &["kernels", "graph", "layers"]),
    ("weights", &[]),
    ("checkpoint", &["kernels", "graph", "layers", "models", "weights"]),
    ("backend", &["kernels", "graph", "weights", "checkpoint", "models"]),
    ("check", &["kernels", "graph", "backend"]),
    ("engine", &["kernels", "graph", "layers", "models", "weights", "checkpoint", "backend"]),
    ("diffusion", &["graph", "layers", "models", "weights", "checkpoint", "engine"]),
    ("job", &["graph", "layers", "models", "weights", "checkpoint", "engine", "diffusion"]),
];

/// Inside the ground: what knows less than the rest of it.
const LOWEST: [(&str, &[&str]); 7] = [
    ("error", &[]),
    ("dtype", &["error"]),
    ("files", &["error", "system"]),
    ("workers", &["error", "system"]),
    ("tensor", &["error", "dtype"]),
    ("rng", &["error"]),
    ("simd", &["error", "dtype"]),
];

/// Arrows that point the wrong way today, and why.
const ARROWS: [(&str, &str); 4] = [
    // The self-test is a check that a device runs on itself.
    ("src/backend/cpu/selftest.rs", "check"),
    ("src/backend/gpu/selftest.rs", "check"),
    ("src/backend/gpu/tensor_cores.rs", "check"),
    // A session is what diffusion asks for its networks: it implements diffusion's trait.
    ("src/engine/session.rs", "diffusion"),
];

/// Files outside of `cli` whose messages name flags, and how often at most.
const FLAGS: &[(&str, usize)] = &[
    // Cargo's own: how one case is run again.
    ("src/check.rs", 1),
];

fn may_know(room: &str) -> Option<BTreeSet<&'static str>> {
    let lowest = LOWEST.iter().find(|(name, _)| *name == room);
    if let Some((_, known)) = lowest {
        return Some(known.iter().copied().collect());
    }
    let known = KNOWS.iter().find(|(name, _)| *name == room).map(|(_, known)| *known);
    let ground = GROUND.contains(&room).then_some(&[][..]);
    Some(known.or(ground)?.iter().chain(&GROUND).copied().collect())
}

#[test]
fn every_arrow_points_one_way() {
    let mut wrong = BTreeSet::new();
    for source in code() {
        let room = source.room().to_owned();
        let known = may_know(&room);
        for name in source.names() {
            // The facade's own words for what lies in the ground.
            let facade = ["Error", "Kind", "Result"].contains(&name.as_str());
            let caller = ["cli", "server"].contains(&name.as_str()) && !["cli", "server"].contains(&room.as_str());
            let allowed = known.as_ref().is_none_or(|k| k.contains(name.as_str())) && !caller;
            if !allowed && !facade && !["lib", "main"].contains(&room.as_str()) {
                wrong.insert((source.path.clone(), name));
            }
        }
    }
    let meant: BTreeSet<_> = ARROWS.iter().map(|(path, name)| (path.to_string(), name.to_string())).collect();
    let new: Vec<_> = wrong.difference(&meant).collect();
    assert!(new.is_empty(), "these files name a room that theirs may not know: {new:#?}");
    let mended: Vec<_> = meant.difference(&wrong).collect();
    assert!(mended.is_empty(), "take these out of ARROWS, they are mended: {mended:#?}");
}

fn never_names(rooms: &[&str], forbidden: &[&str]) {
    for source in code().iter().filter(|s| rooms.contains(&s.room())) {
        for line in source.code_lines() {
            for word in forbidden {
                assert!(!line.contains(word), "{} names {word}: {}", source.path, line.trim());
            }
        }
    }
}

#[test]
fn what_is_computed_names_no_kernel_of_a_device() {
    never_names(&["diffusion", "models", "layers", "job"], &["kernels::cpu", "kernels::gpu", "simd::"]);
}

#[test]
fn only_the_backend_names_the_graphics_crate() {
    let rooms = ["kernels", "graph", "layers", "models", "weights", "checkpoint", "engine", "diffusion", "job"];
    never_names(&rooms, &["wgpu::"]);
    never_names(&["check", "verify", "bench", "cli", "server"], &["wgpu::"]);
}

#[test]
fn no_kernel_names_rayon() {
    never_names(&["kernels", "graph", "layers", "models"], &["rayon"]);
}

#[test]
fn unsafe_code_lives_where_it_is_expected() {
    let places = [
        "src/simd",
        "src/workers.rs",
        "src/workers/pool.rs",
        "src/kernels/cpu/gemm",
        "src/kernels/cpu/tile",
        "src/kernels/cpu/winograd",
        "src/kernels/cpu/attention",
        "src/backend/cpu/memory.rs",
        "src/backend/gpu/device.rs",
        "src/backend/gpu/shader.rs",
        "src/backend/gpu/pipeline.rs",
    ];
    for source in sources("src", &["rs"]) {
        let allowed = places.iter().any(|place| source.path.starts_with(place));
        assert!(allowed || !source.text.contains("allow(unsafe_code"), "{} allows unsafe code", source.path);
        let naive = source.path.ends_with("naive.rs") && source.text.contains("unsafe");
        assert!(!naive, "{}: what documents an algorithm is safe code", source.path);
    }
}

/// How often a file's texts name a flag: two dashes and a letter after a quote, a space, a bracket or a backtick.
fn flags(source: &Source) -> usize {
    let named = |line: &str| {
        line.match_indices("--").any(|(at, _)| {
            let before = line[..at].chars().next_back().is_some_and(|c| " \"`('=".contains(c));
            let after = line[at + 2..].chars().next().is_some_and(|c| c.is_ascii_lowercase());
            before && after
        })
    };
    source.code_lines().into_iter().filter(|line| named(line)).count()
}

#[test]
fn no_text_outside_the_command_line_names_a_flag() {
    let callers = ["cli", "main"];
    let named: BTreeMap<String, usize> = code()
        .iter()
        .filter(|s| !callers.contains(&s.room()))
        .map(|s| (s.path.clone(), flags(s)))
        .filter(|(_, n)| *n > 0)
        .collect();
    let meant: BTreeMap<&str, usize> = FLAGS.iter().copied().collect();
    let over = |(path, n): &(&String, &usize)| **n > meant.get(path.as_str()).copied().unwrap_or(0);
    let new: Vec<_> = named.iter().filter(over).collect();
    assert!(new.is_empty(), "messages name flags, which only the command line has; give the remedy as data: {new:#?}");
    let mended: Vec<_> = meant.keys().filter(|path| !named.contains_key(**path)).collect();
    assert!(mended.is_empty(), "take these out of FLAGS, they are mended: {mended:#?}");
}

#[test]
fn a_public_type_has_a_name_of_its_own() {
    let mut homes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in code() {
        for line in source.code_lines() {
            let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
            let public = line.trim_start().strip_prefix("pub ");
            let Some(rest) = public.and_then(|l| kinds.iter().find_map(|kind| l.strip_prefix(kind))) else { continue };
            let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            homes.entry(name).or_default().insert(source.path.clone());
        }
    }
    homes.retain(|_, files| files.len() > 1);
    assert!(homes.is_empty(), "these names of public types are used twice: {homes:#?}");
}

/// The width that rustfmt keeps for code.
const WIDTH: usize = 120;

#[test]
fn comments_are_no_wider_than_code() {
    let mut wide = Vec::new();
    for folder in ["src", "tests", "benches", "shaders"] {
        for source in sources(folder, &["rs", "wgsl"]) {
            let shader = source.path.ends_with(".wgsl");
            for (i, line) in source.text.lines().enumerate() {
                let comment = shader || line.trim_start().starts_with("//");
                if comment && line.chars().count() > WIDTH {
                    wide.push(format!("{}:{}", source.path, i + 1));
                }
            }
        }
    }
    assert!(wide.is_empty(), "lines wider than {WIDTH} columns: {wide:#?}");
}
