//! `steps=10,20 x sampler=euler,heun` goes in, the requests of all cells come out.

use super::adapters::AdapterWish;
use super::note::{Field, Objection, phrase};
use super::word::Word;
use crate::diffusion::Request;
use crate::diffusion::denoise::samplers::{self, Named};
use crate::diffusion::denoise::sigmas::ScheduleKind;
use crate::error::{Error, Result, escape};

/// More cells than this are worth a question.
pub const MANY: usize = 256;
/// Axes of one grid: columns, rows, blocks.
const MAX_AXES: usize = 3;
/// Values of one axis: a range could name more than memory holds.
const MAX_VALUES: usize = 10_000;

/// What a grid can vary, and other spellings of it.
const NAMES: [(Parameter, &[&str]); 11] = [
    (Parameter::Steps, &["steps"]),
    (Parameter::Sampler, &["sampler", "sampling-method"]),
    (Parameter::Scheduler, &["scheduler"]),
    (Parameter::Cfg, &["cfg", "cfg-scale"]),
    (Parameter::Seed, &["seed"]),
    (Parameter::Size, &["size"]),
    (Parameter::ClipSkip, &["clip-skip"]),
    (Parameter::Eta, &["eta"]),
    (Parameter::Strength, &["strength"]),
    (Parameter::Lora, &["lora"]),
    (Parameter::Prompt, &["prompt"]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Steps,
    Sampler,
    Scheduler,
    Cfg,
    Seed,
    Size,
    ClipSkip,
    Eta,
    Strength,
    Lora,
    Prompt,
}

impl Parameter {
    fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase().replace('_', "-");
        NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(parameter, _)| *parameter)
    }

    fn name(self) -> &'static str {
        NAMES.iter().find(|(p, _)| *p == self).map_or("", |(_, names)| names[0])
    }

    /// Whether `a..b` counts.
    fn counts(self) -> bool {
        matches!(self, Self::Steps | Self::Cfg | Self::Seed | Self::ClipSkip | Self::Eta | Self::Strength)
    }

    fn value(self, text: &str) -> Result<Setting> {
        let wrong =
            |e: &dyn std::fmt::Display| Error::usage(format!("{}={} is not a number: {e}", self.name(), escape(text)));
        Ok(match self {
            Self::Steps => Setting::Steps(text.parse().map_err(|e| wrong(&e))?),
            Self::Sampler => Setting::Sampler(samplers::find_named(text)?),
            Self::Scheduler => Setting::Schedule(ScheduleKind::parse(text)?),
            Self::Cfg => Setting::Guidance(text.parse().map_err(|e| wrong(&e))?),
            Self::Seed => Setting::Seed(text.parse().map_err(|e| wrong(&e))?),
            Self::Size => {
                let (w, h) = text.split_once('x').unwrap_or((text, text));
                let side = |text: &str| text.trim().parse().map_err(|e| wrong(&e));
                Setting::Size(side(w)?, side(h)?)
            }
            Self::ClipSkip => Setting::ClipSkip(text.parse().map_err(|e| wrong(&e))?),
            Self::Eta => Setting::Eta(text.parse().map_err(|e| wrong(&e))?),
            Self::Strength => Setting::Strength(text.parse().map_err(|e| wrong(&e))?),
            Self::Lora if matches!(text, "" | "none") => Setting::Lora(None),
            Self::Lora => Setting::Lora(Some(AdapterWish::parse(text)?)),
            Self::Prompt => Setting::Prompt(text.to_owned()),
        })
    }
}

/// What one value of an axis changes in a request.
#[derive(Clone, Debug, PartialEq)]
enum Setting {
    Steps(usize),
    Sampler(Named),
    Schedule(ScheduleKind),
    Guidance(f32),
    Seed(u64),
    Size(usize, usize),
    ClipSkip(usize),
    Eta(f32),
    Strength(f32),
    Lora(Option<AdapterWish>),
    Prompt(String),
}

/// One parameter with its values, and how they were typed.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    parameter: Parameter,
    values: Vec<(String, Setting)>,
}

impl Axis {
    /// How many values it has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has none; it never is.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What the sheet says beside a value.
    pub fn label(&self, value: usize) -> String {
        match &self.values[value] {
            (text, Setting::Prompt(_)) => text.clone(),
            (_, Setting::Sampler(named)) if named.schedule.is_none() => named.sampler.name.into(),
            (text, Setting::Sampler(_)) => text.clone(),
            (text, _) => format!("{} {text}", self.parameter.name()),
        }
    }
}

/// Columns, rows and blocks; each has at least one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Axes(pub Vec<Axis>);

impl Word for Axes {
    fn parse(word: &str) -> Result<Self> {
        Self::parse(word)
    }

    fn word(&self) -> String {
        let axis = |axis: &Axis| {
            let between = if matches!(axis.parameter, Parameter::Prompt | Parameter::Lora) { "|" } else { "," };
            let values: Vec<&str> = axis.values.iter().map(|(text, _)| text.as_str()).collect();
            format!("{}={}", axis.parameter.name(), values.join(between))
        };
        self.0.iter().map(axis).collect::<Vec<_>>().join(" x ")
    }
}

impl Axes {
    /// Reads the specification.
    ///
    /// # Errors
    /// Usage: an unknown or repeated parameter, no values, a value that is none of its parameter's, too many axes.
    pub fn parse(spec: &str) -> Result<Self> {
        let mut axes: Vec<Axis> = Vec::new();
        for part in split(spec) {
            let known = || NAMES.map(|(_, names)| names[0]).join(", ");
            let wrong = |why: String| Error::usage(format!("grid: {why}; write for example steps=10,20 x cfg=5,7"));
            let (name, values) = part.split_once('=').ok_or_else(|| wrong(format!("'{}' has no =", escape(part))))?;
            let parameter = Parameter::parse(name)
                .ok_or_else(|| wrong(format!("'{}' is not one of {}", escape(name.trim()), known())))?;
            if axes.iter().any(|a| a.parameter == parameter) {
                return Err(wrong(format!("{} is given twice", parameter.name())));
            }
            let values: Vec<String> = match parameter {
                Parameter::Prompt => split_prompts(values),
                // Block weights have commas.
                Parameter::Lora => values.split('|').map(|v| v.trim().to_string()).collect(),
                _ => values.split(',').map(|v| v.trim().to_string()).collect(),
            };
            if values.iter().any(|v| v.is_empty() && !matches!(parameter, Parameter::Prompt | Parameter::Lora)) {
                return Err(wrong(format!("{} has an empty value", parameter.name())));
            }
            let mut read = Vec::new();
            for text in values {
                let counted = if parameter.counts() { range(&text).map_err(&wrong)? } else { None };
                for text in counted.unwrap_or_else(|| vec![text]) {
                    let setting = parameter.value(&text).map_err(|e| e.at("grid"))?;
                    read.push((text, setting));
                }
            }
            if read.len() > MAX_VALUES {
                return Err(wrong(format!("{} has {} values; at most {MAX_VALUES}", parameter.name(), read.len())));
            }
            axes.push(Axis { parameter, values: read });
        }
        if axes.len() > MAX_AXES {
            return Err(Error::usage(format!("grid: {} parameters; at most {MAX_AXES} can be laid out", axes.len())));
        }
        Ok(Self(axes))
    }

    /// How many pictures.
    pub fn cells(&self) -> usize {
        self.0.iter().map(Axis::len).fold(1, usize::saturating_mul)
    }

    /// Refuses more pictures than anybody can have meant.
    ///
    /// # Errors
    /// Usage: how many they are.
    pub fn check(&self, force: bool) -> Result<(), Objection> {
        let cells = self.cells();
        if cells <= MANY || force {
            return Ok(());
        }
        Err(Objection::usage(phrase![
            Field::Grid,
            format!(": {cells} pictures are more than {MANY}; use fewer values, or "),
            Field::Force
        ]))
    }

    /// A prompt, where the grid brings the prompts.
    pub fn prompt(&self) -> Option<&str> {
        let axis = self.0.iter().find(|a| a.parameter == Parameter::Prompt)?;
        axis.values.first().map(|(text, _)| text.as_str())
    }

    /// What a cell has otherwise, as fields of an [`super::order::Order`] in JSON.
    pub fn fields(&self, mut cell: usize) -> Vec<(String, serde_json::Value)> {
        use serde_json::json;
        let mut out = Vec::new();
        let mut put = |name: &str, value| out.push((name.to_owned(), value));
        for axis in &self.0 {
            let (text, setting) = &axis.values[cell % axis.len()];
            cell /= axis.len();
            match setting {
                Setting::Steps(n) => put("steps", json!(n)),
                Setting::Sampler(_) => put("sampler", json!(text)),
                Setting::Schedule(kind) => put("schedule", json!(kind.name())),
                Setting::Guidance(v) => put("guidance", json!(v)),
                Setting::Seed(n) => put("seed", json!(n)),
                Setting::Size(w, h) => {
                    put("width", json!(w));
                    put("height", json!(h));
                }
                Setting::ClipSkip(n) => put("clip_skip", json!(n)),
                Setting::Eta(v) => put("eta", json!(v)),
                Setting::Strength(v) => put("strength", json!(v)),
                Setting::Lora(wish) => put("lora", json!(wish.iter().map(Word::word).collect::<Vec<_>>())),
                Setting::Prompt(prompt) => put("prompt", json!(prompt)),
            }
        }
        out
    }

    /// The requests of all cells, columns fastest. `styled` puts a prompt into the styles that were asked for.
    ///
    /// # Errors
    /// Usage: a parameter that this request has no use for.
    pub fn requests(
        &self,
        base: &Request,
        styled: &dyn Fn(&str) -> Result<String, Objection>,
    ) -> Result<Vec<Request>, Objection> {
        (0..self.cells()).map(|cell| self.request(base, cell, styled)).collect()
    }

    fn request(
        &self,
        base: &Request,
        mut cell: usize,
        styled: &dyn Fn(&str) -> Result<String, Objection>,
    ) -> Result<Request, Objection> {
        let mut request = base.clone();
        let mut added = String::new();
        for axis in &self.0 {
            let (_, setting) = &axis.values[cell % axis.len()];
            cell /= axis.len();
            apply(setting, &mut request, styled)?;
            if let Setting::Lora(Some(wish)) = setting {
                added = format!(" <lora:{}>", wish.word());
            }
        }
        // Behind whatever prompt an axis has brought.
        request.prompt.push_str(&added);
        Ok(request)
    }
}

fn apply(
    setting: &Setting,
    to: &mut Request,
    styled: &dyn Fn(&str) -> Result<String, Objection>,
) -> Result<(), Objection> {
    match setting {
        Setting::Size(..) if to.picture().is_some() => {
            let why = ": size cannot vary where a picture is begun with: its size decides";
            return Err(Objection::usage(phrase![Field::Grid, why]));
        }
        Setting::Strength(_) if to.picture().is_none() => {
            return Err(Objection::usage(phrase![
                Field::Grid,
                ": strength needs a picture to begin with: give one with ",
                Field::InitImage
            ]));
        }
        Setting::Strength(strength) => to.sampling.strength = Some(*strength),
        Setting::Steps(steps) => to.sampling.steps = *steps,
        Setting::Sampler(named) => {
            to.sampling.sampler = named.sampler;
            to.sampling.schedule = named.schedule.unwrap_or(to.sampling.schedule);
            to.sampling.timesteps = named.timesteps.unwrap_or(to.sampling.timesteps);
        }
        Setting::Schedule(kind) => to.sampling.schedule = *kind,
        Setting::Guidance(guidance) => to.guidance = *guidance,
        Setting::Seed(seed) => to.seed = *seed,
        Setting::Size(width, height) => (to.width, to.height) = (*width, *height),
        Setting::ClipSkip(skip) => to.clip_skip = *skip,
        Setting::Eta(eta) => to.sampling.eta = Some(*eta),
        Setting::Lora(_) => {}
        Setting::Prompt(prompt) => to.prompt = styled(prompt)?,
    }
    Ok(())
}

/// The numbers of `5..30..5`, or of `1..4` in steps of 1, both ends included; none where it is no range.
fn range(text: &str) -> Result<Option<Vec<String>>, String> {
    let parts: Vec<&str> = text.split("..").map(str::trim).collect();
    if parts.len() < 2 {
        return Ok(None);
    }
    let wrong = || format!("'{}' is no range: write 5..30..5 for 5, 10, ... 30", escape(text));
    let numbers: Vec<f64> = parts.iter().map(|n| n.parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let (from, to, step) = match numbers[..] {
        [from, to] => (from, to, 1.0),
        [from, to, step] => (from, to, step),
        _ => return Err(wrong()),
    };
    // Exact to here, whatever the numbers are; seeds beyond are told one by one.
    let exact = numbers.iter().all(|n| n.is_finite() && n.abs() < 9e15);
    let steps = ((to - from) / step + 1e-9).floor();
    if !exact || step == 0.0 || steps < 0.0 {
        return Err(wrong());
    }
    if steps >= MAX_VALUES as f64 {
        return Err(format!("'{}' has {} values; at most {MAX_VALUES}", escape(text), steps + 1.0));
    }
    let places = parts.iter().map(|n| n.split_once('.').map_or(0, |(_, after)| after.len())).max().unwrap_or(0);
    let number = |i: usize| {
        let text = format!("{:.places$}", from + i as f64 * step);
        match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        }
    };
    Ok(Some((0..=steps as usize).map(number).collect()))
}

/// Cuts at each ` x ` that a known parameter's name and `=` follow; prompts may hold an x of their own.
fn split(spec: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, _) in spec.match_indices(" x ") {
        let next = spec[at + 3..].split_once('=').map(|(name, _)| name);
        // A match that overlaps the one before it lies behind `from`.
        if at >= from && next.is_some_and(|name| name.len() < 32 && Parameter::parse(name).is_some()) {
            parts.push(spec[from..at].trim());
            from = at + 3;
        }
    }
    parts.push(spec[from..].trim());
    parts
}

/// Cuts prompts at each `|` that is not inside of square brackets, where it alternates.
fn split_prompts(values: &str) -> Vec<String> {
    let (mut prompts, mut depth) = (vec![String::new()], 0usize);
    for c in values.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                prompts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = prompts.last_mut() {
            last.push(c);
        }
    }
    prompts.iter().map(|p| p.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(spec: &str) -> Vec<Vec<String>> {
        let axes = Axes::parse(spec).unwrap();
        axes.0.iter().map(|a| (0..a.len()).map(|v| a.label(v)).collect()).collect()
    }

    #[test]
    fn axes_are_read() {
        assert_eq!(labels("steps=10, 20 x sampler=euler,dpm++2m"), [["steps 10", "steps 20"], ["Euler", "DPM++ 2M"]]);
        assert_eq!(labels("prompt=a x b|[c|d] x = x cfg=7.5")[0], ["a x b", "[c|d] x ="]);
        assert_eq!(labels("lora=a:0.5|a:1|none x steps=3")[0], ["lora a:0.5", "lora a:1", "lora none"]);
        assert_eq!(Axes::parse("prompt=cat|dog").unwrap().prompt(), Some("cat"));
    }

    #[test]
    fn ranges_count_with_both_ends() {
        assert_eq!(labels("steps=5..30..10,50")[0], ["steps 5", "steps 15", "steps 25", "steps 50"]);
        assert_eq!(labels("cfg=1..2..0.25")[0], ["cfg 1", "cfg 1.25", "cfg 1.5", "cfg 1.75", "cfg 2"]);
        assert_eq!(labels("seed=1..3 x eta=1..0..-0.5")[1], ["eta 1", "eta 0.5", "eta 0"]);
        assert_eq!(labels("strength=0.1..0.3..0.1")[0], ["strength 0.1", "strength 0.2", "strength 0.3"]);
        // A prompt's dots are its own.
        assert_eq!(labels("prompt=a..b|c")[0], ["a..b", "c"]);
    }

    #[test]
    fn a_grid_is_written_as_it_is_read() {
        for spec in ["steps=10,20 x sampler=euler,DPM++ 2M Karras", "prompt=a x b|[c|d]", "cfg=1..2..0.5"] {
            let axes = Axes::parse(spec).unwrap();
            assert_eq!(Axes::parse(&axes.word()).unwrap(), axes);
        }
    }

    #[test]
    fn what_makes_no_grid_is_refused() {
        let numbers: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let many = format!("steps={0} x seed={0}", numbers.join(","));
        for (spec, why) in [
            ("", "has no ="),
            ("stps=1", "'stps' is not one of steps, sampler"),
            ("steps=1,,2", "empty value"),
            ("steps=1 x steps=2", "twice"),
            ("steps=1 x seed=1 x cfg=1 x size=64", "4 parameters"),
            ("steps=1,two", "steps=two is not a number"),
            ("sampler=eulr", "did you mean Euler"),
            ("scheduler=karas", "use one of"),
            ("steps=1..x", "is no range"),
            ("steps=5..1", "is no range"),
            ("steps=1..5..0", "is no range"),
            ("seed=1..1000000", "1000000 values"),
        ] {
            let error = Axes::parse(spec).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(why), "{spec}: {error}");
        }
        let many = Axes::parse(&many).unwrap();
        assert!(many.check(false).unwrap_err().to_string().contains("10000 pictures"));
        assert!(many.check(true).is_ok() && many.cells() == 10_000);
    }
}
