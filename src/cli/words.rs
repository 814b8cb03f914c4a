//! `--style`, `--styles` and `--embd-dir`: what stands between the words that are typed and those that are read.

use super::terminal::print;
use clap::Args;
use lienzo::checkpoint::Model;
use lienzo::diffusion::Request;
use lienzo::diffusion::prompt::embeddings::{self, Embedding};
use lienzo::error::Result;
use lienzo::job::styles::{self, Style, Styling};
use std::path::PathBuf;
use std::sync::Arc;

/// The flags around prompts that several commands share.
#[derive(Args, Clone, Debug)]
pub struct WordArgs {
    /// Put the prompt into a style, such as photo or watercolor; may be given several times; `--style list` shows all
    #[arg(long, value_name = "NAME")]
    pub style: Vec<String>,
    /// More styles, from a webui styles.csv (columns name, prompt, negative_prompt)
    #[arg(long, value_name = "FILE")]
    styles: Option<PathBuf>,
    /// Folder of textual inversion embeddings; a file's name without its ending is a word for prompts
    #[arg(long, value_name = "DIR", visible_alias = "embeddings-dir")]
    embd_dir: Option<PathBuf>,
}

impl WordArgs {
    /// Whether `--style list` was given; then the list has been printed.
    pub fn list(&self) -> Result<bool> {
        if !self.style.iter().any(|name| name == "list") {
            return Ok(false);
        }
        let all = self.all()?;
        let wide = all.iter().map(|s| s.name.chars().count()).max().unwrap_or(0).min(30);
        let mut out = String::new();
        for style in all {
            let show = |text: &str| lienzo::error::escape(text);
            out.push_str(&format!("{:<wide$}  {}\n", show(&style.name), show(&style.prompt)));
        }
        print(&out);
        Ok(true)
    }

    /// Finds styles by name.
    pub fn styling(&self, names: &[String]) -> Result<Styling> {
        Styling::new(names, &self.all()?)
    }

    /// Those of the file go before the built-in ones.
    fn all(&self) -> Result<Vec<Style>> {
        styles::all(self.styles.as_deref())
    }

    /// The embeddings whose names stand in some text, those included that cannot be used.
    pub fn embeddings(&self, model: &Model, texts: &[&str]) -> Result<Vec<Embedding>> {
        match &self.embd_dir {
            Some(folder) => {
                let widths: Vec<usize> = model.networks.text.iter().map(|t| t.width).collect();
                embeddings::load(folder, texts, &widths)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Gives each request the embeddings that it uses.
    pub fn embed(&self, model: &Model, requests: &mut [Request]) -> Result<()> {
        let texts: Vec<&str> = requests.iter().flat_map(|r| [r.prompt.as_str(), r.negative_prompt.as_str()]).collect();
        let embeddings = Arc::new(self.embeddings(model, &texts)?);
        if embeddings.is_empty() {
            return Ok(());
        }
        requests.iter_mut().for_each(|r| r.embeddings = embeddings.clone());
        embeddings::keep_used(requests, &model.tokenizer()?, &model.networks)
    }
}
