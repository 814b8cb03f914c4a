//! `steps=10,20 x sampler=euler,heun` goes in, the requests of all cells come out.

use lienzo::diffusion::Request;
use lienzo::diffusion::denoise::samplers;
use lienzo::diffusion::denoise::sigmas::ScheduleKind;
use lienzo::error::{Error, Result, escape};

/// More cells than this are refused without `--force`.
const MANY: usize = 256;
/// Axes of one grid: columns, rows, blocks.
const MAX_AXES: usize = 3;

/// What a grid can vary, and other spellings of it.
const NAMES: [(Parameter, &[&str]); 10] = [
    (Parameter::Steps, &["steps"]),
    (Parameter::Sampler, &["sampler", "sampling-method"]),
    (Parameter::Scheduler, &["scheduler"]),
    (Parameter::Cfg, &["cfg", "cfg-scale"]),
    (Parameter::Seed, &["seed"]),
    (Parameter::Size, &["size"]),
    (Parameter::ClipSkip, &["clip-skip"]),
    (Parameter::Eta, &["eta"]),
    (Parameter::Strength, &["strength"]),
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
}

/// One parameter with its values as they were typed.
#[derive(Debug)]
pub struct Axis {
    parameter: Parameter,
    values: Vec<String>,
}

impl Axis {
    /// How many values it has.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// What the sheet says beside a value.
    pub fn label(&self, value: usize) -> String {
        match self.parameter {
            Parameter::Prompt => self.values[value].clone(),
            Parameter::Sampler => {
                samplers::find(&self.values[value]).map_or_else(|_| self.values[value].clone(), |s| s.name.to_string())
            }
            parameter => format!("{} {}", parameter.name(), self.values[value]),
        }
    }
}

/// Columns, rows and blocks; each has at least one value.
#[derive(Debug)]
pub struct Axes(pub Vec<Axis>);

impl Axes {
    /// Reads the specification.
    ///
    /// # Errors
    /// Usage: an unknown or repeated parameter, no values, too many axes or cells.
    pub fn parse(spec: &str, force: bool) -> Result<Self> {
        let mut axes: Vec<Axis> = Vec::new();
        for part in split(spec) {
            let known = || NAMES.map(|(_, names)| names[0]).join(", ");
            let wrong = |why: String| Error::usage(format!("--grid: {why}; write for example steps=10,20 x cfg=5,7"));
            let (name, values) = part.split_once('=').ok_or_else(|| wrong(format!("'{}' has no =", escape(part))))?;
            let parameter = Parameter::parse(name)
                .ok_or_else(|| wrong(format!("'{}' is not one of {}", escape(name.trim()), known())))?;
            if axes.iter().any(|a| a.parameter == parameter) {
                return Err(wrong(format!("{} is given twice", parameter.name())));
            }
            let values: Vec<String> = match parameter {
                Parameter::Prompt => split_prompts(values),
                _ => values.split(',').map(|v| v.trim().to_string()).collect(),
            };
            if values.iter().any(|v| v.is_empty() && parameter != Parameter::Prompt) {
                return Err(wrong(format!("{} has an empty value", parameter.name())));
            }
            axes.push(Axis { parameter, values });
        }
        if axes.len() > MAX_AXES {
            return Err(Error::usage(format!("--grid: {} parameters; at most {MAX_AXES} can be laid out", axes.len())));
        }
        let axes = Self(axes);
        let cells = axes.cells();
        if cells > MANY && !force {
            let message = format!("--grid: {cells} pictures are more than {MANY}; use fewer values, or --force");
            return Err(Error::usage(message));
        }
        Ok(axes)
    }

    /// How many pictures.
    pub fn cells(&self) -> usize {
        self.0.iter().map(Axis::len).fold(1, usize::saturating_mul)
    }

    /// A prompt, where the grid brings the prompts.
    pub fn prompt(&self) -> Option<&str> {
        let axis = self.0.iter().find(|a| a.parameter == Parameter::Prompt)?;
        axis.values.first().map(String::as_str)
    }

    /// The requests of all cells, columns fastest. `styled` puts a prompt into the styles that were asked for.
    pub fn requests(&self, base: &Request, styled: &dyn Fn(&str) -> String) -> Result<Vec<Request>> {
        (0..self.cells()).map(|cell| self.request(base, cell, styled)).collect()
    }

    fn request(&self, base: &Request, mut cell: usize, styled: &dyn Fn(&str) -> String) -> Result<Request> {
        let mut request = base.clone();
        for axis in &self.0 {
            let value = &axis.values[cell % axis.len()];
            cell /= axis.len();
            apply(axis.parameter, value, &mut request, styled)?;
        }
        Ok(request)
    }
}

fn apply(parameter: Parameter, value: &str, to: &mut Request, styled: &dyn Fn(&str) -> String) -> Result<()> {
    let wrong = |e: &dyn std::fmt::Display| {
        Error::usage(format!("--grid: {}={} is not a number: {e}", parameter.name(), escape(value)))
    };
    match parameter {
        Parameter::Size if to.picture().is_some() => {
            return Err(Error::usage("--grid: size cannot vary where a picture is begun with: its size decides"));
        }
        Parameter::Strength if to.picture().is_none() => {
            return Err(Error::usage("--grid: strength needs a picture to begin with: give -i FILE"));
        }
        Parameter::Strength => to.sampling.strength = Some(value.parse().map_err(|e| wrong(&e))?),
        Parameter::Steps => to.sampling.steps = value.parse().map_err(|e| wrong(&e))?,
        Parameter::Sampler => {
            let named = samplers::find_named(value)?;
            to.sampling.sampler = named.sampler;
            to.sampling.schedule = named.schedule.unwrap_or(to.sampling.schedule);
            to.sampling.timesteps = named.timesteps.unwrap_or(to.sampling.timesteps);
        }
        Parameter::Scheduler => to.sampling.schedule = ScheduleKind::parse(value)?,
        Parameter::Cfg => to.guidance = value.parse().map_err(|e| wrong(&e))?,
        Parameter::Seed => to.seed = value.parse().map_err(|e| wrong(&e))?,
        Parameter::Size => {
            let (w, h) = value.split_once('x').unwrap_or((value, value));
            to.width = w.trim().parse().map_err(|e| wrong(&e))?;
            to.height = h.trim().parse().map_err(|e| wrong(&e))?;
        }
        Parameter::ClipSkip => to.clip_skip = value.parse().map_err(|e| wrong(&e))?,
        Parameter::Eta => to.sampling.eta = Some(value.parse().map_err(|e| wrong(&e))?),
        Parameter::Prompt => to.prompt = styled(value),
    }
    Ok(())
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
        let axes = Axes::parse(spec, false).unwrap();
        axes.0.iter().map(|a| (0..a.len()).map(|v| a.label(v)).collect()).collect()
    }

    #[test]
    fn axes_are_read() {
        assert_eq!(labels("steps=10, 20 x sampler=euler,dpm++2m"), [["steps 10", "steps 20"], ["Euler", "DPM++ 2M"]]);
        assert_eq!(labels("prompt=a x b|[c|d] x = x cfg=7.5")[0], ["a x b", "[c|d] x ="]);
        assert_eq!(Axes::parse("prompt=cat|dog", false).unwrap().prompt(), Some("cat"));
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
            (&many, "10000 pictures"),
        ] {
            let error = Axes::parse(spec, false).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(why), "{spec}: {error}");
        }
        assert_eq!(Axes::parse(&many, true).unwrap().cells(), 10_000);
    }
}
