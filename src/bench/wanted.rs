//! What the user typed goes in; the cases and variants to measure come out.

use crate::check::full_name;
use crate::error::{Error, Result, escape};
use crate::kernels::{Case, Role, cases, cpu, gpu};

/// Which cases and variants are measured.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    names: Vec<String>,
    own: Vec<Case>,
    variants: Vec<String>,
    quick: bool,
}

impl Wanted {
    /// Cases by their names, in any case of letters: whole, a part, or a pattern with `*` and `?`. Without any, all.
    ///
    /// # Errors
    /// Usage: a name that no case has, with what there is.
    pub fn new(names: &[String]) -> Result<Self> {
        let wanted = Self { names: names.iter().map(|n| n.to_lowercase()).collect(), ..Self::default() };
        let all = benches();
        for name in &wanted.names {
            if !all.iter().any(|case| matches(name, &full_name(case))) {
                let mut ops: Vec<_> = all.iter().map(|c| c.op.name()).collect();
                ops.dedup();
                let (name, ops) = (escape(name), ops.join(", "));
                return Err(Error::usage(format!("no benchmark's name contains '{name}'; names begin with {ops}")));
            }
        }
        Ok(wanted)
    }

    /// These cases and no others.
    #[must_use]
    pub fn own(cases: Vec<Case>) -> Self {
        Self { own: cases, ..Self::default() }
    }

    /// Variants of these names only; none are all of them.
    ///
    /// # Errors
    /// Usage: a name that no variant has, with those that are.
    pub fn variants(self, names: &[String]) -> Result<Self> {
        let mut known: Vec<&str> = cpu::names().into_iter().chain(gpu::names()).map(|(_, variant)| variant).collect();
        known.sort_unstable();
        known.dedup();
        match names.iter().find(|name| !known.contains(&name.to_lowercase().as_str())) {
            Some(name) => {
                Err(Error::usage(format!("no variant is called '{}'; variants: {}", escape(name), known.join(", "))))
            }
            None => Ok(Self { variants: names.iter().map(|n| n.to_lowercase()).collect(), ..self }),
        }
    }

    /// The same without naive variants, where there is another.
    #[must_use]
    pub fn quick(self, quick: bool) -> Self {
        Self { quick, ..self }
    }

    /// Whether no case was named: time is then short.
    pub fn everything(&self) -> bool {
        self.names.is_empty() && self.own.is_empty()
    }

    /// The cases. A name that is a case's whole name means that case alone.
    pub fn cases(&self) -> Vec<Case> {
        if !self.own.is_empty() {
            return self.own.clone();
        }
        let all = benches();
        let whole = |name: &&String| all.iter().any(|case| full_name(case).to_lowercase() == **name);
        let chosen = |case: &Case| {
            let full = full_name(case);
            let one = |name: &String| if whole(&name) { full.to_lowercase() == *name } else { matches(name, &full) };
            self.names.is_empty() || self.names.iter().any(one)
        };
        all.iter().filter(|case| chosen(case)).cloned().collect()
    }

    /// Whether one of several variants that run a case is measured.
    pub fn variant(&self, name: &str, of: usize) -> bool {
        let listed = self.variants.is_empty() || self.variants.iter().any(|v| v == name);
        listed && !(self.quick && name == "naive" && of > 1)
    }
}

fn benches() -> Vec<Case> {
    cases().into_iter().filter(|c| c.role == Role::Bench).collect()
}

/// Whether a name in small letters, or a pattern, is a case's: a part of it, unless it has wildcards.
fn matches(name: &str, full: &str) -> bool {
    let full = full.to_lowercase();
    if name.contains(['*', '?']) { glob(name.as_bytes(), full.as_bytes()) } else { full.contains(name) }
}

/// `*` is any text, `?` any letter. Going back to the last `*` alone keeps the time below the product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        Ok(Wanted::new(&names)?.cases().iter().map(full_name).collect())
    }

    #[test]
    fn a_name_is_whole_a_part_or_a_pattern() {
        let all = wanted(&[]).unwrap();
        let some = wanted(&["conv2d/b2_64x64_320_320"]).unwrap();
        assert!(!some.is_empty() && some.len() < all.len() && some.iter().all(|n| n.starts_with("conv2d/")));
        // A whole name, though others begin with it.
        assert!(all.iter().any(|n| n.starts_with("attention/b2_64x64_8x160")));
        assert_eq!(wanted(&["ATTENTION/b2_64x64_8x160"]).unwrap(), ["attention/b2_64x64_8x160"]);
        let two = wanted(&["layer_norm", "attention/*_mask?x1x1"]).unwrap();
        assert!(two.iter().all(|n| n.starts_with("layer_norm/") || n.ends_with("_mask2x1x1")));
        assert_eq!(two.iter().filter(|n| n.starts_with("attention/")).count(), 1);
        let none = wanted(&["layer_norm", "conv4d"]).unwrap_err();
        assert!(*none.kind() == crate::Kind::Usage && none.to_string().contains("conv2d"), "{none}");
        assert!(wanted(&["conv?d"]).is_err() && wanted(&["conv?d*"]).is_ok());
    }

    #[test]
    fn variants_are_listed_and_naive_ones_left_out() {
        let listed = Wanted::default().variants(&["Naive".to_owned()]).unwrap();
        assert!(listed.variant("naive", 2) && !listed.variant("panels", 2));
        let quick = Wanted::default().quick(true);
        assert!(!quick.variant("naive", 2) && quick.variant("naive", 1) && quick.variant("panels", 2));
        let error = Wanted::default().variants(&["fast".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("implicit_gemm"), "{error}");
    }

    #[test]
    fn wildcards_match_any_text() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("a*b*c", "a12b3c", true),
            ("a*b*c", "a12b3", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), is, "{pattern} {text}");
        }
    }
}
