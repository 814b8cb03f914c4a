//! What prompts and orders say of adapters, and folders to look them up in, go in; requests with the adapters
//! themselves, and with prompts that lack the tags, come out.

mod library;

pub use library::Library;

use super::tags::{self, Tag};
use super::word::Word;
use crate::checkpoint::Model;
use crate::checkpoint::adapter::{AdapterUse, BlockWeights, check_adapters};
use crate::diffusion::Request;
use crate::error::{Error, Result, escape};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An adapter that is asked for, and how much of it: `NAME`, `NAME:0.8`, `NAME:TEXT:UNET`, with `te=`, `unet=` and
/// `lbw=` anywhere behind the name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AdapterWish {
    /// A file, or the name of one.
    pub name: String,
    /// How much of what it does to text encoders.
    pub text: f32,
    /// How much of what it does to the U-Net.
    pub unet: f32,
    /// How much of that each block gets.
    pub blocks: Option<Arc<BlockWeights>>,
}

impl AdapterWish {
    /// From a name and what stands behind it, cut at colons.
    ///
    /// # Errors
    /// Usage: what is not understood.
    pub fn of(arguments: &[String]) -> Result<Self> {
        let Some((name, rest)) = arguments.split_first().filter(|(name, _)| !name.trim().is_empty()) else {
            return Err(Error::usage("no name is given: write <lora:NAME:0.8>"));
        };
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|v| v.is_finite());
        let wrong = |text: &str| {
            let text = escape(text);
            let known = "a weight, te=, unet= and lbw= are";
            Error::usage(format!("'{text}' is not understood: {known}")).at(escape(name.trim()))
        };
        let (mut text, mut unet, mut blocks) = (None, None, None);
        let mut place = 0;
        for argument in rest {
            match argument.split_once('=') {
                Some((key, value)) => match key.trim() {
                    "te" => text = Some(number(value).ok_or_else(|| wrong(argument))?),
                    "unet" => unet = Some(number(value).ok_or_else(|| wrong(argument))?),
                    "lbw" => blocks = Some(BlockWeights::parse(value)?),
                    _ => return Err(wrong(argument)),
                },
                None => {
                    match (place, number(argument)) {
                        (0, Some(value)) => text = text.or(Some(value)),
                        (1, Some(value)) => unet = unet.or(Some(value)),
                        // Block weights may stand behind one weight or two.
                        (1 | 2, _) if blocks.is_none() => {
                            blocks = Some(BlockWeights::parse(argument).map_err(|e| e.at(escape(name.trim())))?);
                        }
                        _ => return Err(wrong(argument)),
                    }
                    place += 1;
                }
            }
        }
        let both = text.unwrap_or(1.0);
        let name = name.trim().to_owned();
        Ok(Self { name, text: both, unet: unet.unwrap_or(both), blocks: blocks.map(Arc::new) })
    }

    /// The tag that says the same, under another name.
    fn tag(&self, name: &str) -> String {
        format!("<lora:{}>", Self { name: name.to_owned(), ..self.clone() }.word())
    }
}

impl Word for AdapterWish {
    fn parse(word: &str) -> Result<Self> {
        let mut arguments: Vec<String> = word.split(':').map(str::to_owned).collect();
        // A drive's letter is a part of the name.
        if arguments.len() > 1 && arguments[0].len() == 1 && arguments[1].starts_with(['\\', '/']) {
            let rest = arguments.remove(1);
            arguments[0] = format!("{}:{rest}", arguments[0]);
        }
        Self::of(&arguments)
    }

    fn word(&self) -> String {
        let mut out = format!("{}:{}", self.name, self.text);
        if self.unet != self.text {
            out.push_str(&format!(":{}", self.unet));
        }
        if let Some(blocks) = &self.blocks {
            out.push_str(&format!(":lbw={}", blocks.text));
        }
        out
    }
}

impl TryFrom<String> for AdapterWish {
    type Error = Error;

    fn try_from(word: String) -> Result<Self> {
        Self::parse(&word)
    }
}

impl From<AdapterWish> for String {
    fn from(wish: AdapterWish) -> Self {
        wish.word()
    }
}

/// The name of an adapter as it may stand in a list of names and hashes.
fn listed(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ':' | ',')).collect()
}

/// Finds the adapters of requests: those that tags in their prompts name, then `more`. The tags are taken out of the
/// prompts, and stay in what metadata tell of them. Gives notes of what of a file fits nowhere; with `lenient`, of what
/// was not found too.
///
/// # Errors
/// Usage: a name that is not known or tells no two files apart, a file that does not belong to the model.
pub fn equip(
    requests: &mut [Request],
    more: &[AdapterWish],
    library: &Library,
    model: &Model,
    lenient: bool,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let mut note = |text: String| {
        if !notes.contains(&text) {
            notes.push(text);
        }
    };
    for request in requests {
        let (prompt, tags) = tags::taken_out(&request.prompt, |tag| tag.adapter);
        if tags.is_empty() && more.is_empty() {
            continue;
        }
        let (mut uses, mut lost, mut added) = (Vec::new(), Vec::new(), String::new());
        let of_tag = |tag: &Tag| AdapterWish::of(&tag.arguments).map_err(|e| e.at(escape(&tag.text)));
        let wishes = tags.iter().map(|tag| Ok((of_tag(tag)?, Some(tag))));
        let wishes = wishes.chain(more.iter().map(|wish| Ok((wish.clone(), None))));
        for (wish, tag) in wishes.collect::<Result<Vec<_>>>()? {
            let shown = escape(tag.map_or(&wish.name, |tag| &tag.text));
            let adapter = match library.find(&wish.name).map_err(|e| e.at(&shown)) {
                Ok(found) => found,
                Err(e) if lenient => {
                    note(format!("{}; taken out of the prompt: {shown}", e.message()));
                    lost.extend(tag);
                    continue;
                }
                Err(e) => return Err(e),
            };
            if tag.is_none() {
                added.push_str(&format!(" {}", wish.tag(&adapter.name)));
            }
            let told = listed(if tag.is_some() { &wish.name } else { &adapter.name });
            let AdapterWish { text, unet, blocks, .. } = wish;
            uses.push(AdapterUse { adapter, told, text, unet, blocks });
        }
        check_adapters(model, &uses)?.into_iter().for_each(&mut note);
        let written = tags::taken_out(&request.prompt, |tag| lost.contains(&tag)).0;
        request.prompt = prompt;
        request.written = (!uses.is_empty()).then(|| written + &added);
        request.adapters = Arc::new(uses);
    }
    Ok(notes)
}

/// `name: hash` of each adapter of a request, as metadata list them; none without any.
///
/// # Errors
/// A file cannot be read any more.
pub fn adapter_hashes(request: &Request) -> Result<Option<String>> {
    let mut all: Vec<String> = Vec::new();
    for one in request.adapters.iter() {
        let entry = format!("{}: {}", one.told, one.adapter.hash()?);
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    Ok((!all.is_empty()).then(|| all.join(", ")))
}

/// What suits distilled adapters, which only their names tell: the word, steps at most, and samplers.
const FAST: [(&str, usize, &[&str]); 5] = [
    ("lcm", 8, &["LCM"]),
    ("lightning", 8, &["Euler", "DDIM"]),
    ("hyper", 8, &["DDIM", "TCD", "Euler", "LCM"]),
    ("tcd", 8, &["TCD"]),
    ("turbo", 8, &["Euler", "Euler a", "LCM"]),
];

/// What an asker should know of settings that an adapter's name says it was not made for.
pub fn unsuited(request: &Request) -> Vec<String> {
    let (steps, guidance) = (request.sampling.steps, request.guidance);
    let sampler = request.sampling.sampler.name;
    let hint = |one: &AdapterUse| {
        let name = one.adapter.name.to_ascii_lowercase();
        let (word, most, samplers) = FAST.iter().find(|(word, ..)| name.contains(word))?;
        let suits = steps <= *most && guidance <= 2.0 && samplers.contains(&sampler);
        let name = escape(&one.adapter.name);
        let made = format!("1 to {most} steps, guidance 1 to 2 and the sampler {}", samplers.join(" or "));
        let have = format!("{steps} steps of {sampler} at guidance {guidance}");
        (!suits && one.unet != 0.0)
            .then(|| format!("{name} looks like a {word} LoRA, which is made for {made}; these are {have}"))
    };
    request.adapters.iter().filter_map(hint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_as_the_webui_reads_tags() {
        let wish = |word: &str| AdapterWish::parse(word).unwrap();
        let weights = |word: &str| (wish(word).text, wish(word).unet);
        assert_eq!((wish("a.b v1").name.as_str(), weights("a")), ("a.b v1", (1.0, 1.0)));
        assert_eq!((weights("a:0.8"), weights("a:0.3:1.2")), ((0.8, 0.8), (0.3, 1.2)));
        assert_eq!((weights("a:te=0.5"), weights("a:1:unet=-2")), ((0.5, 0.5), (1.0, -2.0)));
        assert_eq!(wish("a:1:MIDD").blocks.unwrap().text, "MIDD");
        assert_eq!(wish("a:1:1:OUTD").blocks, wish("a:lbw=OUTD:1").blocks);
        assert_eq!(wish("C:\\x\\a.safetensors:0.5").name, "C:\\x\\a.safetensors");
        for word in ["a:0.8", "a:0.3:1.2", "a:1:lbw=MIDD"] {
            assert_eq!(
                (wish(word).word().as_str(), AdapterWish::parse(&wish(word).word()).unwrap()),
                (word, wish(word))
            );
        }
        for (word, why) in [
            ("", "no name"),
            (":1", "no name"),
            ("a:x", "'x' is not understood"),
            ("a:1:1:1,2", "2 block"),
            ("a:dyn=4", "'dyn=4'"),
            ("a:start=3", "'start=3'"),
            ("a:nan", "'nan'"),
        ] {
            let error = AdapterWish::parse(word).unwrap_err().to_string();
            assert!(error.contains(why), "{word}: {error}");
        }
    }
}
