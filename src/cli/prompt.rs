//! `lienzo prompt`: how a prompt is read, before a picture is made of it.

use super::ModelArgs;
use super::terminal::print;
use super::words::WordArgs;
use clap::Args;
use lienzo::checkpoint::Model;
use lienzo::diffusion::prompt::attention::parse;
use lienzo::diffusion::prompt::chunks::{Chunk, Lexicon, Token};
use lienzo::diffusion::prompt::read::{Reading, read};
use lienzo::error::{Error, Result, escape};
use lienzo::job::hints::hints;
use std::process::ExitCode;

/// Where the words are that the embedded model knows.
pub const WORDS: &str = "`lienzo inspect --embedded --words` lists what can be said";

/// What to read, and for which model.
#[derive(Args, Debug)]
pub struct PromptArgs {
    /// The prompt, with all that `generate` understands: (strong:1.3) [weak] BREAK [cat:dog:0.5] [cat|dog] AND
    #[arg(value_name = "PROMPT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// What to stay away from
    #[arg(short, long, value_name = "PROMPT", allow_hyphen_values = true)]
    negative_prompt: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Sampler steps, by which [cat:dog:0.5] is counted [default: the model's own]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    words: WordArgs,
}

/// Runs the command.
pub fn run(args: &PromptArgs) -> Result<ExitCode> {
    if args.words.list()? {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(typed) = &args.prompt else {
        return Err(Error::usage("no prompt given; try: lienzo prompt \"a (red:1.3) apple\""));
    };
    let styling = args.words.styling(&args.words.style)?;
    let model = args.model.open()?;
    let (prompt, negative) = styling.apply(typed, args.negative_prompt.as_deref().unwrap_or_default())?;
    let tokens = model.tokenizer()?;
    let embeddings = args.words.embeddings(&model, &[&prompt, &negative])?;
    let lexicon = Lexicon { tokens: &tokens, embeddings: &embeddings, positions: model.networks.positions() };
    let steps = args.steps.unwrap_or(model.defaults.steps);
    if !(1..=1000).contains(&steps) {
        return Err(Error::usage(format!("{steps} steps are not possible; use 1 to 1000")));
    }
    let mut out = String::new();
    let show = Show { lexicon, steps, model: &model };
    for (title, text, against) in [("prompt", &prompt, false), ("negative prompt", &negative, true)] {
        if against && text.is_empty() {
            continue;
        }
        let reading = read(text, against, steps, lexicon).map_err(|e| e.at(title))?;
        show.reading(title, text, &reading, &mut out);
    }
    if model.path.is_none() {
        let named: Vec<&str> = embeddings.iter().map(|e| e.name.as_str()).collect();
        let hints = hints(typed, &named)?;
        let list = hints.unknown.then(|| WORDS.to_owned());
        for hint in hints.lines.into_iter().chain(list) {
            out.push_str(&format!("note: {hint}\n"));
        }
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}

struct Show<'a> {
    lexicon: Lexicon<'a>,
    steps: usize,
    model: &'a Model,
}

impl Show<'_> {
    fn reading(&self, title: &str, text: &str, reading: &Reading, out: &mut String) {
        out.push_str(&format!("{title}: {}\n", line(text)));
        let name = |i: usize| format!("text {}", i + 1);
        if reading.branches.len() > 1 {
            let n = reading.branches.len();
            out.push_str(&format!("AND: {n} prompts guide together, and each step evaluates the model for each\n"));
        }
        for (i, branch) in reading.branches.iter().enumerate() {
            if reading.branches.len() > 1 {
                out.push_str(&format!("branch {} of weight {}:\n", i + 1, branch.weight));
            }
            let mut from = 1;
            for &(until, text) in branch.spans.iter().filter(|_| reading.texts.len() > 1) {
                let steps = if from == until { format!("step {from}") } else { format!("steps {from} to {until}") };
                out.push_str(&format!("  {steps} of {}: {}\n", self.steps, name(text)));
                from = until + 1;
            }
        }
        if let Some(note) = reading.note(&format!("the {title}"), self.lexicon.positions) {
            out.push_str(&format!("{note}\n"));
        }
        for (i, text) in reading.texts.iter().enumerate() {
            if reading.texts.len() > 1 {
                out.push_str(&format!("\n{}: {}\n", name(i), line(&text.text)));
            }
            for (number, chunk) in text.chunks.iter().enumerate() {
                self.chunk(number, text.chunks.len(), chunk, out);
            }
            self.unknown(&text.text, out);
        }
        out.push('\n');
    }

    fn chunk(&self, number: usize, of: usize, chunk: &Chunk, out: &mut String) {
        let room = self.lexicon.positions.saturating_sub(2);
        out.push_str(&format!("chunk {} of {of}: {} of {room} tokens\n", number + 1, chunk.tokens.len()));
        for (token, weight) in &chunk.tokens {
            if let Token::Vector { embedding, row: 0 } = token {
                let found = &self.lexicon.embeddings[*embedding];
                let vectors = found.values.len() / found.width.max(1);
                let what = format!("embedding of {vectors} vectors, {}", escape(&found.file));
                out.push_str(&format!("  x{weight:<6.4} {:>6}  {}: {what}\n", "", escape(&found.name)));
            }
            if let Token::Id(id) = token {
                let text = escape(&self.lexicon.tokens.decode(&[*id]));
                out.push_str(&format!("  x{weight:<6.4} {id:>6}  {text}\n"));
            }
        }
    }

    /// Words that the model's own small vocabulary has not: it sees letters or pieces instead.
    fn unknown(&self, text: &str, out: &mut String) {
        // Of the embedded model more is known than its tokens: its hints follow.
        if self.model.tokenizer.is_none() || self.model.path.is_none() {
            return;
        }
        let mut unknown: Vec<String> = Vec::new();
        for piece in parse(text) {
            for word in piece.text.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty() && !piece.is_break()) {
                let named = self.lexicon.embeddings.iter().any(|e| e.name.eq_ignore_ascii_case(word));
                let word = word.to_lowercase();
                if !named && !self.lexicon.tokens.knows(&word) && !unknown.contains(&word) {
                    unknown.push(word);
                }
            }
        }
        if !unknown.is_empty() {
            let words = escape(&unknown.join(", "));
            out.push_str(&format!("not in this model's vocabulary, so read in pieces that say little: {words}\n"));
        }
    }
}

/// A prompt on one line; what could drive the terminal is escaped, and nothing is cut.
fn line(text: &str) -> String {
    let all: Vec<char> = text.chars().collect();
    all.chunks(150).map(|part| escape(&part.iter().collect::<String>())).collect()
}
