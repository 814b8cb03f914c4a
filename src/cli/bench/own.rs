//! Flags of sizes go in, lists and ranges among them; the cases that they span come out.

use clap::Args;
use lienzo::bench::own::{self, Epilogue};
use lienzo::error::{Error, Result, escape};
use lienzo::kernels::Case;

/// Numbers: `64`, `64,128`, `64..4096*2` (doubled until 4096), `64..256+64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(Vec<usize>);

/// Cases that one command measures, at most.
const MOST_CASES: usize = 1000;

impl std::str::FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let how = || format!("'{}' is no list of sizes; write 64 or 64,128 or 64..4096*2 or 64..256+64", escape(text));
        let mut all = Vec::new();
        for item in text.split(',') {
            let number = |t: &str| t.trim().parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(how);
            let Some((first, rest)) = item.split_once("..") else {
                all.push(number(item)?);
                continue;
            };
            let at = rest.find(['*', '+']).ok_or_else(how)?;
            let (first, last, by) = (number(first)?, number(&rest[..at])?, number(&rest[at + 1..])?);
            let doubles = rest.as_bytes()[at] == b'*';
            if doubles && by < 2 {
                return Err(how());
            }
            let next = |n: &usize| if doubles { n.checked_mul(by) } else { n.checked_add(by) };
            all.extend(std::iter::successors(Some(first), next).take_while(|n| *n <= last).take(MOST_CASES + 1));
        }
        match all.len() {
            0 => Err(how()),
            n if n > MOST_CASES => Err(format!("'{}' is more than {MOST_CASES} sizes", escape(text))),
            _ => Ok(Self(all)),
        }
    }
}

fn epilogue(text: &str) -> std::result::Result<Epilogue, String> {
    let found = Epilogue::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, e)| e);
    let names = Epilogue::ALL.map(|(name, _)| name).join(", ");
    found.ok_or_else(|| format!("'{}' is not known; there are {names}", escape(text)))
}

/// Sizes of one's own, for matmul, conv2d, attention and group_norm. Each takes a list or a range: 64,128 or 64..4096*2
#[derive(Args, Debug)]
#[command(next_help_heading = "Shapes of one's own (lists 64,128 and ranges 64..4096*2 or 64..256+64)")]
pub struct OwnArgs {
    /// Rows of a matmul
    #[arg(long, value_name = "SIZES")]
    m: Option<Sizes>,
    /// Columns of a matmul (of its weight: geglu halves them)
    #[arg(long, value_name = "SIZES")]
    n: Option<Sizes>,
    /// Inner length of a matmul
    #[arg(long, value_name = "SIZES")]
    k: Option<Sizes>,
    /// Height of a picture of conv2d or group_norm
    #[arg(long = "h", value_name = "SIZES")]
    h: Option<Sizes>,
    /// Its width
    #[arg(long = "w", value_name = "SIZES")]
    w: Option<Sizes>,
    /// Its channels
    #[arg(long, value_name = "SIZES")]
    cin: Option<Sizes>,
    /// Channels that come out of conv2d
    #[arg(long, value_name = "SIZES")]
    cout: Option<Sizes>,
    /// Stride of conv2d: 1 or 2 [default: 1]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Groups of group_norm [default: 32]
    #[arg(long, value_name = "SIZES")]
    groups: Option<Sizes>,
    /// Queries of attention
    #[arg(long, value_name = "SIZES")]
    queries: Option<Sizes>,
    /// Keys of attention
    #[arg(long, value_name = "SIZES")]
    keys: Option<Sizes>,
    /// Heads of attention
    #[arg(long, value_name = "SIZES")]
    heads: Option<Sizes>,
    /// Channels of a head
    #[arg(long, value_name = "SIZES")]
    dim: Option<Sizes>,
    /// Samples [default: 1]
    #[arg(long, value_name = "SIZES")]
    batch: Option<Sizes>,
    /// What follows the sums: none, gelu, silu, residual or geglu [default: none]
    #[arg(long, value_name = "WHAT", value_parser = epilogue)]
    epilogue: Option<Epilogue>,
}

impl OwnArgs {
    /// Every size flag with its name.
    fn flags(&self) -> [(&'static str, &Option<Sizes>); 13] {
        [
            ("--m", &self.m),
            ("--n", &self.n),
            ("--k", &self.k),
            ("--h", &self.h),
            ("--w", &self.w),
            ("--cin", &self.cin),
            ("--cout", &self.cout),
            ("--groups", &self.groups),
            ("--queries", &self.queries),
            ("--keys", &self.keys),
            ("--heads", &self.heads),
            ("--dim", &self.dim),
            ("--batch", &self.batch),
        ]
    }

    /// The cases, where any size is given, of the op that is named.
    ///
    /// # Errors
    /// Usage: the op takes no sizes, lacks one, or has no such one.
    pub fn cases(&self, names: &[String]) -> Result<Vec<Case>> {
        let given = || self.flags().into_iter().filter(|(_, sizes)| sizes.is_some()).map(|(flag, _)| flag);
        let beside = [("--stride", self.stride.is_some()), ("--epilogue", self.epilogue.is_some())];
        let beside = || beside.into_iter().filter(|(_, is)| *is).map(|(flag, _)| flag);
        let Some(any) = given().chain(beside()).next() else { return Ok(Vec::new()) };
        let [op] = names else {
            let message = format!("{any} needs the name of one op: lienzo bench matmul --m 4096 --n 320 --k 1280");
            return Err(Error::usage(message));
        };
        let (needed, may): (&[&str], &[&str]) = match op.as_str() {
            "matmul" => (&["--m", "--n", "--k"], &["--batch", "--epilogue"]),
            "conv2d" => (&["--h", "--w", "--cin", "--cout"], &["--batch", "--stride", "--epilogue"]),
            "attention" => (&["--queries", "--keys", "--heads", "--dim"], &["--batch"]),
            "group_norm" => (&["--h", "--w", "--cin"], &["--groups", "--batch", "--epilogue"]),
            other => {
                let other = escape(other);
                let message = format!("{other} takes no sizes; matmul, conv2d, attention and group_norm do");
                return Err(Error::usage(message));
            }
        };
        if let Some(missing) = needed.iter().find(|flag| !given().any(|g| g == **flag)) {
            return Err(Error::usage(format!("sizes of {op} are {}; {missing} is missing", needed.join(" "))));
        }
        if let Some(other) = given().chain(beside()).find(|flag| !needed.contains(flag) && !may.contains(flag)) {
            let all = [needed, may].concat().join(" ");
            return Err(Error::usage(format!("{op} has no {other}; it takes {all}")));
        }
        self.spanned(op)
    }

    /// Every combination of the sizes.
    fn spanned(&self, op: &str) -> Result<Vec<Case>> {
        let list = |sizes: &Option<Sizes>, default: usize| sizes.as_ref().map_or(vec![default], |s| s.0.clone());
        let lists = match op {
            "matmul" => vec![list(&self.m, 1), list(&self.n, 1), list(&self.k, 1)],
            "conv2d" => [&self.h, &self.w, &self.cin, &self.cout].map(|s| list(s, 1)).to_vec(),
            "attention" => [&self.queries, &self.keys, &self.heads, &self.dim].map(|s| list(s, 1)).to_vec(),
            _ => vec![list(&self.h, 1), list(&self.w, 1), list(&self.cin, 1), list(&self.groups, 32)],
        };
        let lists: Vec<Vec<usize>> = lists.into_iter().chain([list(&self.batch, 1)]).collect();
        let count = lists.iter().fold(1_usize, |n, l| n.saturating_mul(l.len()));
        if count > MOST_CASES {
            return Err(Error::usage(format!("{count} combinations of sizes; at most {MOST_CASES} are measured")));
        }
        let mut all = vec![Vec::new()];
        for list in &lists {
            all = all
                .iter()
                .flat_map(|head: &Vec<usize>| list.iter().map(move |n| [&head[..], &[*n]].concat()))
                .collect();
        }
        let (stride, epilogue) = (self.stride.unwrap_or(1), self.epilogue.unwrap_or_default());
        all.iter()
            .map(|sizes| match (op, sizes.as_slice()) {
                ("matmul", &[m, n, k, b]) => own::matmul([m, n, k, b], epilogue),
                ("conv2d", &[h, w, cin, cout, b]) => own::conv2d([h, w, cin, cout, b], stride, epilogue),
                ("attention", &[q, k, heads, dim, b]) => own::attention([q, k, heads, dim, b]),
                (_, &[h, w, c, groups, b]) => own::group_norm([h, w, c, groups, b], epilogue),
                _ => Err(Error::other("a list of sizes of another length than its op's")),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_lists_and_ranges() {
        for (text, sizes) in [
            ("64", vec![64]),
            ("64,128, 3", vec![64, 128, 3]),
            ("64..512*2", vec![64, 128, 256, 512]),
            ("1..4+1,7", vec![1, 2, 3, 4, 7]),
            ("3..100*4", vec![3, 12, 48]),
        ] {
            assert_eq!(text.parse::<Sizes>().unwrap().0, sizes, "{text}");
        }
        for text in ["", "0", "-1", "x", "1..", "1..5", "1..5*1", "5..1*2", "1..5+0", "1..1000000+1", ","] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
