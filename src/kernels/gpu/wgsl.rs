//! The shader loader: a [`Shader`] becomes WGSL text. No device is needed.
//!
//! Shaders are valid WGSL after their imports. The loader knows three things and nothing else: `#import name` includes
//! `common/name.wgsl` (once), where `name` may be a slot that the Rust side binds to a file; the right-hand side of a
//! named top-level `const` is replaced; and `// #unroll` above a `for` with a constant trip count repeats the loop's
//! body as `{ const i: u32 = 3u; ... }`, because WGSL compilers keep loops as they are.

use super::{Const, Shader};
use crate::error::{Error, Result};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Every file under `shaders/`, by its path without `.wgsl`.
        pub const FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")))),*];
    };
}

files! {
    "activate",
    "add",
    "attention_coop",
    "attention_flash",
    "attention_naive",
    "common/activation",
    "common/channels",
    "common/fragment_coop",
    "common/fragment_emulated",
    "common/gemm_params",
    "common/line_moments",
    "common/mask_given",
    "common/mask_none",
    "common/matrices_16",
    "common/matrices_8",
    "common/moments",
    "common/reduce",
    "common/reduce_rows",
    "common/rows_conv3x3",
    "common/rows_linear",
    "common/shift",
    "common/split_mean",
    "common/statistics_none",
    "common/statistics_output",
    "common/storage_f16",
    "common/storage_f16x2",
    "common/storage_f32",
    "common/store_output",
    "common/store_partial",
    "common/tiles_given",
    "common/tiles_own",
    "common/weights_f16",
    "common/weights_f16x2",
    "common/weights_f32",
    "concat",
    "geglu",
    "group_norm_apply",
    "group_norm_join",
    "group_norm_naive",
    "group_norm_stats",
    "layer_norm_naive",
    "layer_norm_rows",
    "matmul_coop",
    "matmul_naive",
    "matmul_reduce",
    "matmul_tiled",
    "pixel_shuffle",
    "prelu",
    "roofline_copy",
    "roofline_fma",
    "timestep_embedding",
    "upsample",
}

/// Unrolled repetitions of one loop: more is a mistake, and slow to compile.
const MOST_REPEATS: u32 = 64;

/// The text of a shader, ready to be compiled.
///
/// # Errors
/// An unknown file, slot or constant, or a loop that cannot be unrolled: mistakes in this crate, found by its tests.
pub fn text(shader: &Shader) -> Result<String> {
    let mut imported = Vec::new();
    let mut out = include(shader, shader.file, &mut imported)?;
    for (name, value) in &shader.consts {
        out = replace_const(&out, name, *value).map_err(|e| e.at(shader.file))?;
    }
    unroll(&out).map_err(|e| e.at(shader.file))
}

fn file(name: &str) -> Result<&'static str> {
    let found = FILES.iter().find(|(n, _)| *n == name);
    found.map(|(_, text)| *text).ok_or_else(|| Error::other(format!("there is no shader file {name}.wgsl")))
}

fn include(shader: &Shader, name: &str, imported: &mut Vec<String>) -> Result<String> {
    let mut out = String::new();
    for line in file(name)?.lines() {
        let Some(import) = line.strip_prefix("#import ") else {
            out.push_str(line);
            out.push('\n');
            continue;
        };
        let slot = shader.slots.iter().find(|(slot, _)| *slot == import.trim());
        let target = format!("common/{}", slot.map_or(import.trim(), |(_, file)| *file));
        if !imported.contains(&target) {
            imported.push(target.clone());
            out += &include(shader, &target, imported)?;
        }
    }
    Ok(out)
}

/// Replaces what stands between `=` and `;` of `const NAME: TYPE = ...;` at the beginning of a line.
fn replace_const(text: &str, name: &str, value: Const) -> Result<String> {
    let (ty, value) = match value {
        Const::U32(v) => ("u32", format!("{v}u")),
        Const::Bool(v) => ("bool", format!("{v}")),
    };
    let head = format!("const {name}: {ty} = ");
    let starts = || text.match_indices(&head).map(|(i, _)| i).filter(|i| *i == 0 || text.as_bytes()[i - 1] == b'\n');
    let at = starts().next().ok_or_else(|| Error::other(format!("no constant `{head}...;` to replace")))?;
    let from = at + head.len();
    let length = text[from..].find(';').ok_or_else(|| Error::other(format!("constant {name} has no end")))?;
    Ok(format!("{}{value}{}", &text[..from], &text[from + length..]))
}

/// Repeats the bodies of loops that are marked. Marked loops may be nested: an outer one is unrolled first.
fn unroll(text: &str) -> Result<String> {
    const MARK: &str = "// #unroll";
    let Some(at) = text.find(MARK) else { return Ok(text.to_owned()) };
    let line = text[at..].lines().nth(1).unwrap_or("").trim();
    let wrong = || Error::other(format!("cannot unroll `{line}`: write `for (var i = 0u; i < N; i++) {{`"));
    let open = at + text[at..].find('{').ok_or_else(wrong)?;
    let header = line.strip_prefix("for (var ").and_then(|l| l.strip_suffix("++) {")).ok_or_else(wrong)?;
    let mut parts = header.split("; ");
    let (start, end) = (parts.next().ok_or_else(wrong)?, parts.next().ok_or_else(wrong)?);
    let (variable, from) = start.split_once(" = ").ok_or_else(wrong)?;
    let limit = end.strip_prefix(variable).and_then(|e| e.trim().strip_prefix("< ")).ok_or_else(wrong)?;
    let (from, to) = (number(text, from).ok_or_else(wrong)?, number(text, limit).ok_or_else(wrong)?);
    if to.saturating_sub(from) > MOST_REPEATS {
        return Err(Error::other(format!("`{line}` would be repeated {} times", to - from)));
    }
    let close = closing(text, open).ok_or_else(wrong)?;
    let body = &text[open + 1..close];
    let mut out = text[..at].to_owned();
    for i in from..to {
        out += &format!("{{ const {variable}: u32 = {i}u; {}\n}}\n", body.trim());
    }
    out += &text[close + 1..];
    unroll(&out)
}

/// The brace that closes the one at `open`; comments hold no braces.
fn closing(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (i, byte) in text.bytes().enumerate().skip(open) {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

/// `3u`, a top-level u32 constant, or a product, quotient or sum of them, from left to right.
fn number(text: &str, expression: &str) -> Option<u32> {
    let mut words = expression.split_whitespace();
    let mut value = atom(text, words.next()?)?;
    while let Some(operator) = words.next() {
        let right = atom(text, words.next()?)?;
        value = match operator {
            "*" => value.checked_mul(right)?,
            "/" => value.checked_div(right)?,
            "+" => value.checked_add(right)?,
            "-" => value.checked_sub(right)?,
            _ => return None,
        };
    }
    Some(value)
}

fn atom(text: &str, word: &str) -> Option<u32> {
    if let Some(v) = word.strip_suffix('u').and_then(|w| w.parse().ok()) {
        return Some(v);
    }
    let head = format!("\nconst {word}: u32 = ");
    let from = text.find(&head)? + head.len();
    number(text, text[from..].split(';').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_replaced_by_name() {
        let text = "const A: u32 = 1u; // why\nconst B: bool = false;\n";
        let text = replace_const(text, "A", 5.into()).unwrap();
        let text = replace_const(&text, "B", true.into()).unwrap();
        assert_eq!(text, "const A: u32 = 5u; // why\nconst B: bool = true;\n");
        for (name, value) in [("C", Const::U32(1)), ("A", Const::Bool(true))] {
            assert!(replace_const(&text, name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn loops_are_unrolled() {
        let text = "\nconst N: u32 = M / 2u;\nconst M: u32 = 4u;\n// #unroll\nfor (var i = 0u; i < N; i++) {\nif x { a[i] = 1; }\n}\nend";
        let out = unroll(text).unwrap();
        assert!(out.ends_with(
            "{ const i: u32 = 0u; if x { a[i] = 1; }\n}\n{ const i: u32 = 1u; if x { a[i] = 1; }\n}\n\nend"
        ));
        for bad in ["while (true) {\n}", "for (var i = 0u; i < x; i++) {\n}", "for (var i = 0u; i < 999u; i++) {\n}"] {
            assert!(unroll(&format!("// #unroll\n{bad}")).is_err(), "{bad}");
        }
    }
}
