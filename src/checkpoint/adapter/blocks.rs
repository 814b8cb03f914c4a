//! A list of numbers, one a block, to how much of an adapter each tensor gets: the webui's block weights.

use crate::error::{Error, Result, escape};

/// Blocks in the original layout's numbers: `B`ase (the text encoders), `I`nput, `M`iddle, `O`utput.
type Block = (char, usize);

/// Numbers of a list's places beyond the first, which is the text encoders': input blocks, the middle, output blocks.
fn places(count: usize) -> Option<Vec<Block>> {
    let list = |input: &[usize], output: std::ops::Range<usize>| {
        let inputs = input.iter().map(|n| ('I', *n));
        [('B', 0)].into_iter().chain(inputs).chain([('M', 0)]).chain(output.map(|n| ('O', n))).collect()
    };
    let all: Vec<usize> = (0..12).collect();
    match count {
        12 => Some(list(&[4, 5, 7, 8], 0..6)),
        17 => Some(list(&[1, 2, 4, 5, 7, 8], 3..12)),
        20 => Some(list(&all[..9], 0..9)),
        26 => Some(list(&all, 0..12)),
        _ => None,
    }
}

/// Lists that have a name.
const NAMED: [(&str, &str); 10] = [
    ("NONE", "00000000000000000"),
    ("ALL", "11111111111111111"),
    ("INS", "11110000000000000"),
    ("IND", "10001110000000000"),
    ("INALL", "11111110000000000"),
    ("MIDD", "10001111111100000"),
    ("OUTD", "10000000111100000"),
    ("OUTS", "10000000000011111"),
    ("OUTALL", "10000000111111111"),
    ("ALL0.5", "55555555555555555"),
];

/// How much each block takes.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockWeights {
    numbers: Vec<f32>,
    places: Vec<Block>,
    /// As it was written.
    pub text: String,
}

impl BlockWeights {
    /// Reads 12 or 20 numbers (SDXL), 17 or 26 (SD 1.x and 2.x), or the name of a list.
    ///
    /// # Errors
    /// Usage: neither.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Some((_, digits)) = NAMED.iter().find(|(name, _)| *name == text) {
            let number = |c: char| if c == '5' { 0.5 } else { f32::from(u8::from(c == '1')) };
            let numbers: Vec<f32> = digits.chars().map(number).collect();
            let places = places(numbers.len()).unwrap_or_default();
            return Ok(Self { numbers, places, text: text.into() });
        }
        let numbers: Option<Vec<f32>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
        let numbers = numbers.filter(|all| all.iter().all(|n: &f32| n.is_finite()));
        let named = || NAMED.map(|(name, _)| name).join(", ");
        let Some(numbers) = numbers else {
            let text = escape(text);
            return Err(Error::usage(format!("block weights '{text}' are no list of numbers and none of {}", named())));
        };
        let Some(places) = places(numbers.len()) else {
            let have = numbers.len();
            return Err(Error::usage(format!(
                "{have} block weights: use 17 or 26 for SD 1.x and 2.x, 12 or 20 for SDXL"
            )));
        };
        Ok(Self { numbers, places, text: text.into() })
    }

    /// Refuses lists that are for models of other levels.
    ///
    /// # Errors
    /// Usage.
    pub fn check(&self, levels: usize) -> Result<()> {
        let xl = matches!(self.numbers.len(), 12 | 20);
        match (xl, levels) {
            (true, 3) | (false, 4..) => Ok(()),
            (true, _) => Err(Error::usage("12 and 20 block weights are for SDXL; this model takes 17 or 26")),
            (false, _) => {
                Err(Error::usage("17 and 26 block weights are for SD 1.x and 2.x; this model takes 12 or 20"))
            }
        }
    }

    /// What a tensor gets: `original` is its name in the U-Net's original layout, none for text encoders. Blocks that a
    /// list does not name get nothing, what is in no block all.
    pub fn of(&self, original: Option<&str>) -> f32 {
        let block = match original {
            None => ('B', 0),
            Some(name) => match block(name) {
                Some(block) => block,
                None => return 1.0,
            },
        };
        let at = self.places.iter().position(|place| *place == block);
        at.and_then(|n| self.numbers.get(n)).copied().unwrap_or(0.0)
    }
}

fn block(name: &str) -> Option<Block> {
    let name = name.strip_prefix("model.diffusion_model.").unwrap_or(name);
    if name.starts_with("middle_block.") {
        return Some(('M', 0));
    }
    let number = |kind: char, prefix: &str| {
        let n = name.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
        Some((kind, n))
    };
    number('I', "input_blocks.").or_else(|| number('O', "output_blocks."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_a_block() {
        let list: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        let weights = BlockWeights::parse(&list.join(",")).unwrap();
        let of = |name: &str| weights.of(Some(&format!("model.diffusion_model.{name}.weight")));
        assert_eq!((weights.of(None), of("input_blocks.1.1.x"), of("input_blocks.8.1.x")), (0.0, 1.0, 6.0));
        assert_eq!((of("middle_block.1.x"), of("output_blocks.3.1.x"), of("output_blocks.11.0.x")), (7.0, 8.0, 16.0));
        assert_eq!((of("input_blocks.3.0.op"), of("time_embed.0"), of("out.2")), (0.0, 1.0, 1.0));
        assert!(weights.check(4).is_ok() && weights.check(3).is_err());
        let xl = BlockWeights::parse(&["0.5"; 12].join(",")).unwrap();
        assert!(xl.check(3).is_ok() && xl.check(4).is_err());
        assert_eq!(BlockWeights::parse("MIDD").unwrap().of(Some("middle_block.1.x")), 1.0);
        for wrong in ["", "1,2", "MIDDLE", "1,x", &["NaN"; 17].join(",")] {
            assert!(BlockWeights::parse(wrong).is_err(), "{wrong}");
        }
    }
}
