//! What an adapter is, for people and for metadata: form, rank, base model, trigger words, hash.

use super::AdapterFile;
use super::forms::form_name;
use super::parts::ModulePart;
use crate::error::{Result, escape};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Trigger words that are told.
const MOST_WORDS: usize = 12;

impl AdapterFile {
    /// The first 12 digits by which the webui's metadata know it: of the sha256 of what follows a safetensors file's
    /// header, or of a whole file of another format.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn hash(&self) -> Result<String> {
        Ok(self.sha256()?.get(..12).unwrap_or_default().to_owned())
    }

    /// Whether its file, or what its metadata say of it, begins with these digits.
    ///
    /// # Errors
    /// As [`AdapterFile::hash`].
    pub fn is_hash(&self, digits: &str) -> Result<bool> {
        let digits = digits.to_ascii_lowercase();
        let told = self.metadata("sshs_model_hash").is_some_and(|own| own.to_ascii_lowercase().starts_with(&digits));
        Ok(digits.len() >= 8 && (told || self.sha256()?.starts_with(&digits)))
    }

    /// All 64 digits.
    ///
    /// # Errors
    /// As [`AdapterFile::hash`].
    pub fn sha256(&self) -> Result<String> {
        if let Some(known) = self.hash.get() {
            return Ok(known.clone());
        }
        let mut head = [0; 9];
        let long = self.bytes.len() >= 9;
        if long {
            self.bytes.read_at(0, &mut head)?;
        }
        let [length @ .., first] = head;
        let mut at = if long && first == b'{' { 8 + u64::from_le_bytes(length) } else { 0 };
        let (mut hasher, mut block) = (Sha256::new(), vec![0; 1 << 20]);
        while at < self.bytes.len() {
            let n = (self.bytes.len() - at).min(block.len() as u64);
            self.bytes.read_at(at, &mut block[..n as usize])?;
            hasher.update(&block[..n as usize]);
            at += n;
        }
        let hash: String = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(self.hash.get_or_init(|| hash).clone())
    }

    /// A summary of a few lines, as `lienzo inspect` prints it. Ends with a newline.
    ///
    /// # Errors
    /// As [`AdapterFile::hash`].
    pub fn describe(&self) -> Result<String> {
        let mut out = String::new();
        let mut line = |key: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{key:<12} {value}");
        };
        line("name", escape(&self.name));
        line("path", escape(&self.path.to_string_lossy()));
        line("kind", format!("adapter: {}", self.counted(form_name)));
        line("rank", self.counted(|m| self.rank(m)));
        let base = self.family().map_or_else(|| "unknown".into(), |(family, signs)| format!("{family} ({signs})"));
        line("base model", base);
        let of = |text: bool| self.modules.keys().filter(|name| is_text(name) == text).count();
        line("modules", format!("{}: {} of the U-Net, {} of text encoders", self.modules.len(), of(false), of(true)));
        let told = [
            ("alias", "ss_output_name"),
            ("title", "modelspec.title"),
            ("trained on", "ss_sd_model_name"),
            ("clip skip", "ss_clip_skip"),
            ("resolution", "ss_resolution"),
            ("comment", "ss_training_comment"),
        ];
        for (key, entry) in told {
            if let Some(text) = self.metadata(entry) {
                line(key, escape(text));
            }
        }
        let words = self.trigger_words();
        if !words.is_empty() {
            line("trigger", words.iter().map(|w| escape(w)).collect::<Vec<_>>().join(", "));
        }
        if !self.strange.is_empty() {
            let some: Vec<String> = self.strange.iter().take(3).map(|n| escape(n)).collect();
            line("not read", format!("{} tensors ({})", self.strange.len(), some.join(", ")));
        }
        line("sha256", self.sha256()?);
        line("short hash", format!("{} (as in Lora hashes)", self.hash()?));
        Ok(out)
    }

    /// What modules are, most frequent first: `128 LoRA, 4 LoCon`.
    fn counted(&self, what: impl Fn(&super::AdapterModule) -> String) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        self.modules.values().for_each(|m| *counts.entry(what(m)).or_default() += 1);
        let mut sorted: Vec<_> = counts.into_iter().collect();
        sorted.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        match &sorted[..] {
            [(one, _)] => one.clone(),
            several => several.iter().take(8).map(|(w, n)| format!("{n} {w}")).collect::<Vec<_>>().join(", "),
        }
    }

    /// `32, alpha 16`.
    fn rank(&self, module: &super::AdapterModule) -> String {
        let sides = [ModulePart::Down, ModulePart::HadaW1B, ModulePart::LokrW2B, ModulePart::LokrW1B];
        let rank = sides.iter().find_map(|part| module.factors.get(part)?.tensor.info.shape.first());
        let rank = match (rank, module.factors.get(&ModulePart::A2)) {
            (Some(rank), _) => rank.to_string(),
            (None, Some(a2)) => a2.tensor.info.shape.iter().min().map_or_else(String::new, ToString::to_string),
            (None, None) => "none".into(),
        };
        match module.numbers.get(&ModulePart::Alpha) {
            Some(alpha) => format!("{rank} (alpha {alpha})"),
            None => rank,
        }
    }

    /// Words that were in the captions of its training, most frequent first.
    pub fn trigger_words(&self) -> Vec<String> {
        if let Some(phrase) = self.metadata("modelspec.trigger_phrase") {
            return vec![phrase.to_owned()];
        }
        let Some(text) = self.metadata("ss_tag_frequency") else { return Vec::new() };
        let Ok(serde_json::Value::Object(sets)) = serde_json::from_str(text) else { return Vec::new() };
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for set in sets.values().filter_map(serde_json::Value::as_object) {
            for (word, n) in set {
                let sum = counts.entry(word.trim().to_owned()).or_default();
                *sum = sum.saturating_add(n.as_u64().unwrap_or(0));
            }
        }
        let mut sorted: Vec<_> = counts.into_iter().collect();
        sorted.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        sorted.into_iter().take(MOST_WORDS).map(|(word, _)| word).collect()
    }
}

fn is_text(name: &str) -> bool {
    ["lora_te", "lycoris_te", "text_encoder", "te", "clip_"].iter().any(|prefix| name.starts_with(prefix))
}
