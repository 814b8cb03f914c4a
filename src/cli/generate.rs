//! `lienzo generate`: flags to an order, an order to a request, events to progress and files.

mod args;
mod writer;

pub use args::GenerateArgs;

use super::device;
use super::flags::{error, told};
use super::grid;
use super::output::OutputPlan;
use super::terminal::{cancel_on_ctrl_c, print, say};
use lienzo::checkpoint::Model;
use lienzo::diffusion::Request;
use lienzo::diffusion::answers::Answers;
use lienzo::diffusion::refiner::Refiner;
use lienzo::engine::devices::DeviceWish;
use lienzo::error::{Error, Result, escape};
use lienzo::job::adapters::Library;
use lienzo::job::fit::{self, Needs};
use lienzo::job::hints::hints;
use lienzo::job::metadata::{Metadata, embedding_hashes};
use lienzo::job::note::Phrase;
use lienzo::job::order::Order;
use lienzo::job::picture::BoundedFiles;
use lienzo::job::recipe::{Lacking, Recipe, listed};
use lienzo::job::resolve::{chosen, remarks, resolve};
use lienzo::job::settle::settled;
use lienzo::job::styles::Styling;
use lienzo::job::tags::Tag;
use lienzo::job::unfinished::{Keeper, Left};
use lienzo::job::upscale::UpscaleOrder;
use lienzo::job::{adapters, dynamic, resume, sheet, tags};
use lienzo::system::format_bytes;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
pub use writer::Writer;
use writer::{Enlarger, Manner};

/// Runs the command.
pub fn run(args: &GenerateArgs) -> Result<ExitCode> {
    if args.prompts.words.list()? {
        return Ok(ExitCode::SUCCESS);
    }
    args.mode()?;
    let begun = Instant::now();
    let cancel = cancel_on_ctrl_c("step");
    let larger = enlarger(args)?;
    let asked = Asked::new(args, &cancel)?;
    let Asked { order, .. } = &asked;
    let Some(ready) = Ready::new(args, &asked, &cancel)? else { return Ok(ExitCode::SUCCESS) };
    let Ready { model, mut requests, engine, keep, mut output } = ready;
    let mut metadata = None;
    if !args.output.disable_image_metadata {
        let exact = order.weight_type == Some(lienzo::engine::devices::WeightType::F32);
        let refiner = requests.iter().find_map(|r| Some(r.refiner.as_ref()?.model.clone()));
        let vae = order.vae.as_deref();
        metadata = Some(Metadata::start(&model, (vae, refiner.as_ref()), exact, &engine, cancel.clone())?);
    }
    let (count, mut keepers) = (asked.count, BTreeMap::new());
    if let Some(metadata) = metadata.as_mut().filter(|_| args.output.resume) {
        let there = already(args, &output, &mut requests, metadata)?;
        output.set_overwrite(args.output.overwrite);
        say!("{there} of {count} pictures are there already");
        keepers = go_on(&output, &mut requests, &model, metadata)?;
        if there == count && order.grid.as_ref().is_none_or(|_| grid::has_sheet(&requests, &output)) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let session = engine.session(&model, &cancel).keeping(keep).within(args.memory.allowed().budget());
    let (overwrite, keep_previews) = (args.output.overwrite, order.preview.is_some_and(|shown| shown.keep));
    let enlarger = larger.map(|(model, order)| Enlarger { engine: &engine, model, order, cancel: &cancel });
    let keep_after = if args.output.resume { Duration::ZERO } else { KEEP_AFTER };
    let manner = Manner { output: &output, count, overwrite, keep_previews, keep_after };
    let mut writer = Writer::new(manner, metadata, enlarger).keeping(keepers);
    match &order.grid {
        Some(axes) => grid::run(axes, &requests, &output, overwrite, (&session, writer))?,
        None => {
            for (first, request) in resume::numbered(&requests).filter(|(_, r)| r.skip.len() < r.count) {
                writer.draw(&session, request, first)?;
            }
        }
    }
    let total = begun.elapsed().as_secs_f64();
    match requests.as_slice() {
        [request] if order.grid.is_none() && asked.several.is_none() => {
            say!("seed {}, total {total:.2} s", request.seed)
        }
        _ => say!("{count} pictures, total {total:.2} s"),
    }
    if let Some(peak) = lienzo::system::peak_resident().filter(|_| args.output.verbose) {
        say!("peak memory {}", format_bytes(peak));
    }
    Ok(ExitCode::SUCCESS)
}

/// The network that makes pictures larger, and how.
fn enlarger(args: &GenerateArgs) -> Result<Option<(Arc<Model>, UpscaleOrder)>> {
    let Some(scale) = args.output.upscale else { return Ok(None) };
    let max_memory = args.memory.allowed().max_memory;
    let order = UpscaleOrder { scale: Some(scale), tile: None, max_memory };
    order.check().map_err(|e| e.at("--upscale"))?;
    let model = match &args.output.upscale_model {
        Some(path) => lienzo::checkpoint::open_upscaler(path)?,
        None => Model::embedded_upscaler()?,
    };
    Ok(Some((Arc::new(model), order)))
}
/// How long a picture has to take before what is done of it is kept beside it: a short one is quickly made again, and
/// leaves no file behind where it is stopped. With `--resume` it is kept from the first step on.
const KEEP_AFTER: Duration = Duration::from_secs(10);

/// What was asked for, and refused if no model could do it: known before one is opened.
struct Asked {
    order: Order,
    recipe: Option<Recipe>,
    styling: Styling,
    /// The prompt as it was typed.
    typed: String,
    /// Prompt and negative prompt in their styles.
    prompts: (String, String),
    /// Prompts of which each is drawn, with choices in them.
    several: Option<Vec<String>>,
    /// All pictures together.
    count: usize,
    output: Option<OutputPlan>,
    wish: DeviceWish,
}

impl Asked {
    fn new(args: &GenerateArgs, cancel: &AtomicBool) -> Result<Self> {
        let mut order = args.order()?;
        let recipe = args.prompts.from_image.is_some().then(|| repeated(args, &mut order, cancel)).transpose()?;
        if recipe.is_none() {
            args.prompts.model.one()?;
        }
        order.check().map_err(error)?;
        args.memory.allowed().check(args.device.wants_gpu()).map_err(error)?;
        if let Some(axes) = &order.grid {
            axes.check(args.memory.force).map_err(error)?;
        }
        let several = args.prompts.several()?;
        if several.is_some() && order.grid.is_some() {
            return Err(Error::usage(
                "--grid varies one prompt without choices, not - or @FILE or {a|b}: a sheet shows each cell's own \
                 setting; give the prompts as an axis of it, --grid \"prompt=a red cat|a dog\"",
            ));
        }
        let count = order.grid.as_ref().map_or(order.count(), |axes| axes.cells());
        let count = count.saturating_mul(several.as_ref().map_or(1, Vec::len));
        let styling = args.prompts.words.styling(&order.styles)?;
        let first = several.as_ref().and_then(|all| all.first()).map(String::as_str);
        let own = first.or(order.prompt.as_deref());
        let typed = match order.grid.as_ref().and_then(|axes| axes.prompt()).or(own) {
            Some(prompt) => prompt.to_owned(),
            None => {
                let try_this = "no prompt given; try: lienzo generate \"a red apple on a blue background\"";
                return Err(Error::usage(try_this));
            }
        };
        let typed = untagged(args, &typed)?;
        let against = order.negative_prompt.as_deref().unwrap_or("");
        let (prompt, negative) = styling.apply(&typed, against)?;
        // Styles may bring tags of their own.
        let prompts = (untagged(args, &prompt)?, without_tags(args, &negative)?);
        let overwrite = args.output.overwrite || args.output.resume;
        let spec = args.output.spec();
        let flags = [
            (args.output.resume, "--resume"),
            (order.preview.is_some(), "--preview"),
            (order.grid.is_some(), "--grid"),
        ];
        if let (Some("-"), Some((_, flag))) = (spec.as_deref(), flags.iter().find(|(given, _)| *given)) {
            return Err(Error::usage(format!("{flag} needs names of files: -o - writes one picture to stdout")));
        }
        if spec.as_deref() == Some("-") && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Err(Error::usage(
                "-o - writes a PNG to stdout, and that is a terminal: send it to a file or a program",
            ));
        }
        let output = if args.memory.plan { None } else { Some(OutputPlan::new(spec.as_deref(), count, overwrite)?) };
        if let Some(output) = output.as_ref().filter(|_| args.output.resume) {
            let is = |path: &std::path::Path, index, seed| output.path(index, seed) == path;
            resume::adopt_seed(&mut order, count, &|index| output.candidates(index), &is);
        }
        let wish = DeviceWish {
            precision: order.precision.unwrap_or_default(),
            weights: order.weight_type.unwrap_or_default(),
            ..args.device.wish()?
        };
        Ok(Self { order, recipe, styling, typed, prompts, several, count, output, wish })
    }
}

/// A model, requests that fit it, and an engine that they fit.
struct Ready {
    model: Arc<Model>,
    requests: Vec<Request>,
    engine: lienzo::engine::Engine,
    keep: lienzo::engine::residency::Keep,
    output: OutputPlan,
}

impl Ready {
    /// None where the plan was all that was asked for; it has been printed.
    fn new(args: &GenerateArgs, asked: &Asked, cancel: &AtomicBool) -> Result<Option<Self>> {
        let order = &asked.order;
        let mut model =
            args.prompts.model.with_parts(super::open_model(order.model.as_deref(), order.vae.as_deref())?)?;
        let mut notes = Vec::new();
        // A plan is printed before any weight is read.
        if !args.memory.plan {
            model = settled(model, order, &mut notes, cancel)?;
        }
        let model = Arc::new(model);
        let shelf = BoundedFiles::new(args.memory.allowed().room());
        let mut base = resolve(order, asked.prompts.clone(), &model, &shelf, &mut notes).map_err(error)?;
        base.refiner = opened_refiner(order)?;
        said(&mut notes);
        let styled = |prompt: &str| Ok(untagged(args, &asked.styling.apply(prompt, "")?.0)?);
        let mut requests = match (&order.grid, &asked.several) {
            (Some(axes), _) => axes.requests(&base, &styled).map_err(error)?,
            (None, Some(prompts)) => each(args, prompts, &base, &styled)?,
            (None, None) => vec![base],
        };
        let hashes = asked.recipe.as_ref().map_or_else(Vec::new, Recipe::adapters);
        let library = Library::new(&args.prompts.lora_model_dir).with_hashes(hashes);
        let lenient = args.prompts.ignore_unsupported;
        let fits = adapters::equip(&mut requests, &order.lora, &library, &model, lenient)?;
        fits.iter().for_each(|note| say!("note: {note}"));
        args.prompts.words.embed(&model, &mut requests)?;
        let largest = requests.iter().max_by_key(|r| r.width * r.height);
        let request = largest.cloned().ok_or_else(|| Error::other("nothing to draw"))?;
        if let Some(recipe) = &asked.recipe {
            let mut lacking = recipe.other_adapters(&request)?;
            lacking.extend(recipe.embeddings(embedding_hashes(&request).as_deref()));
            refuse(args, &lacking)?;
        }
        request.check(&model)?;
        match &asked.output {
            Some(output) if order.grid.is_some() || asked.several.is_some() => {
                grid::check(&requests, output, &model, args.output.overwrite || args.output.resume)?
            }
            Some(output) => output.check_seeds(resume::name_seed(&request, 0), asked.count)?,
            None => {}
        }
        if let Some(output) = asked.output.as_ref().filter(|_| order.preview.is_some()) {
            let pictures = resume::numbered(&requests)
                .flat_map(|(first, r)| (0..r.count).map(move |i| (first + i, resume::name_seed(r, i))));
            output.check_previews(pictures)?;
        }
        let tokenizer = model.tokenizer()?;
        let work = |engine: &lienzo::engine::Engine| fit::work(engine, &model, &requests, &tokenizer);
        let engine = device::open(&asked.wish, Some(&work))?;
        let allowed = args.memory.allowed();
        let size = fit::fit(&engine, &model, &requests, &tokenizer, allowed, &mut notes)?;
        said(&mut notes);
        if let Some(size) = size {
            requests.iter_mut().for_each(|r| r.batch_size = size);
        }
        let sheet = order.grid.as_ref().map_or(0, |axes| sheet::bytes(axes, (request.width, request.height)));
        let before = if request.picture().is_some() { lienzo::system::peak_resident() } else { None };
        let needs = Needs::new(&engine, &model, &requests, &tokenizer)?.with(sheet, before.unwrap_or(0));
        if args.memory.plan {
            fit::check(&needs, allowed, &mut notes).map_err(error)?;
            said(&mut notes);
            print_plan(&needs, args)?;
            return Ok(None);
        }
        let keep = fit::check(&needs, allowed, &mut notes).map_err(error)?;
        said(&mut notes);
        drop(needs);
        let request = Request { batch_size: size.unwrap_or(request.batch_size), ..request };
        tell(args, asked, &model, &request)?;
        let Some(output) = asked.output.clone() else { return Ok(None) };
        Ok(Some(Self { model, requests, engine, keep, output }))
    }
}

/// The second model, for the last steps.
fn opened_refiner(order: &Order) -> Result<Option<Refiner>> {
    let Some(path) = &order.refiner else { return Ok(None) };
    let model = Arc::new(lienzo::checkpoint::open(path)?);
    Ok(Some(Refiner { model, switch: order.refiner_switch.unwrap_or(Refiner::SWITCH) }))
}

/// A request for each picture of several prompts; picture n has the first seed + n, which also chooses its words.
fn each(
    args: &GenerateArgs,
    prompts: &[String],
    base: &Request,
    styled: &dyn Fn(&str) -> Result<String, lienzo::job::note::Objection>,
) -> Result<Vec<Request>> {
    let mut out = Vec::new();
    for prompt in prompts {
        for _ in 0..base.count {
            let (seed, second) = base.seeds(out.len());
            let variation = second.zip(base.variation.map(|(_, strength)| strength));
            let text = dynamic::chosen(prompt, second.unwrap_or(seed), args.prompts.wildcard_dir.as_deref())?;
            let prompt = styled(&text).map_err(error)?;
            out.push(Request { prompt, seed, variation, count: 1, ..base.clone() });
        }
    }
    Ok(out)
}

/// Fills an order from the picture of `--from-image`.
fn repeated(args: &GenerateArgs, order: &mut Order, cancel: &AtomicBool) -> Result<Recipe> {
    let path = args.prompts.from_image.as_deref().unwrap_or(std::path::Path::new(""));
    let shelf = BoundedFiles::new(args.memory.allowed().room());
    let recipe = Recipe::of(path, &shelf);
    shelf.notes().iter().for_each(|note| say!("note: {note}"));
    let recipe = recipe?;
    let filled = recipe.fill(order, &args.prompts.model.model, &shelf, cancel);
    let lacking = filled.map_err(|e| e.at(escape(&path.to_string_lossy())))?;
    refuse(args, &lacking)?;
    Ok(recipe)
}

/// Refuses what of a picture's settings cannot be honoured, or says so where that is allowed.
fn refuse(args: &GenerateArgs, lacking: &[Lacking]) -> Result<()> {
    if lacking.is_empty() {
        return Ok(());
    }
    let list = told(&listed(lacking));
    if args.prompts.ignore_unsupported {
        say!("note: the picture will differ; not honoured: {list}");
        return Ok(());
    }
    let path = args.prompts.from_image.as_deref().map(std::path::Path::to_string_lossy).unwrap_or_default();
    let name = escape(&path);
    Err(Error::usage(format!(
        "{name} cannot be repeated exactly; not honoured: {list}; --ignore-unsupported goes on without"
    )))
}

/// A prompt without tags other than those of adapters: nobody here can honour them, and as words they would spoil it.
fn untagged(args: &GenerateArgs, prompt: &str) -> Result<String> {
    cleared(args, prompt, |tag| !tag.adapter)
}

/// A negative prompt without any tags: adapters have no negative.
fn without_tags(args: &GenerateArgs, prompt: &str) -> Result<String> {
    cleared(args, prompt, |_| true).map_err(|e| e.at("negative prompt"))
}

fn cleared(args: &GenerateArgs, prompt: &str, which: impl Fn(&Tag) -> bool) -> Result<String> {
    let (without, found) = tags::taken_out(prompt, which);
    if found.is_empty() {
        return Ok(prompt.to_owned());
    }
    let list = found.iter().map(|tag| escape(&tag.text)).collect::<Vec<_>>().join(", ");
    if !args.prompts.ignore_unsupported {
        let remedy = "take it out, or let --ignore-unsupported do so";
        return Err(Error::usage(format!("it asks for what is not here: {list}; {remedy}")));
    }
    // Of a picture that is repeated it has been said.
    if args.prompts.from_image.is_none() {
        say!("note: not honoured, and taken out of the prompt: {list}");
    }
    Ok(without)
}

/// Has requests skip the pictures that need not be made again; gives their number.
fn already(
    args: &GenerateArgs,
    output: &OutputPlan,
    requests: &mut [Request],
    metadata: &mut Metadata<'_>,
) -> Result<usize> {
    let (made, strange) = resume::finished(&|number, seed| output.path(number, seed), requests, metadata);
    match strange.first().filter(|_| !args.output.overwrite) {
        Some(path) => Err(Error::usage(format!(
            "--resume: '{}' is there, but was not made by this command; give the same flags as before, another -o, or \
             --overwrite",
            escape(&path.to_string_lossy())
        ))),
        None => Ok(made),
    }
}

/// Has requests go on where an interrupted run stopped inside a picture; gives who keeps the rest.
fn go_on(
    output: &OutputPlan,
    requests: &mut [Request],
    model: &Model,
    metadata: &mut Metadata<'_>,
) -> Result<BTreeMap<usize, Keeper>> {
    let (mut first, mut keepers) = (0, BTreeMap::new());
    for request in requests {
        let (h, w) = request.latent_size(model);
        let latents = model.networks.latents().channels * h * w;
        for index in (0..request.count).filter(|i| !request.skip.contains(i)) {
            let picture = output.path(first + index, resume::name_seed(request, index));
            let left = match Left::read(&picture, latents) {
                Ok(None) => continue,
                Ok(Some(left)) => left,
                Err(e) => {
                    say!("note: {e}; the picture is begun anew");
                    continue;
                }
            };
            let name = escape(&picture.to_string_lossy());
            if !left.same_machine() || metadata.text(request, index)? != left.parameters() {
                say!("note: what is kept of '{name}' is of another order, model, version or device; it is begun anew");
                continue;
            }
            say!("{} evaluations of '{name}' are done already", left.answers.len());
            keepers.insert(first + index, Keeper::again(&picture, &left)?);
            request.known.insert(index, Answers::new(left.answers));
        }
        first += request.count;
    }
    Ok(keepers)
}

/// What the user should know before waiting.
fn tell(args: &GenerateArgs, asked: &Asked, model: &Model, request: &Request) -> Result<()> {
    let order = &asked.order;
    if args.output.verbose {
        if order.model.is_none() {
            say!("no -m: using the small model in the binary");
        }
        let threads = asked.wish.threads(&mut Vec::new())?;
        say!("{threads} threads, {}, model {}", lienzo::simd::Isa::best(), escape(&model.name));
    }
    if let Some((seed, strength)) = request.variation.filter(|_| order.variation_seed.is_none()) {
        say!("variation seed {seed}, strength {strength}");
    }
    said(&mut chosen(order, request, model));
    said(&mut remarks(order, request, model));
    if model.path.is_none() {
        let embeddings: Vec<&str> = request.embeddings.iter().map(|e| e.name.as_str()).collect();
        let typed = tags::taken_out(&asked.typed, |_| true).0;
        let hints = hints(&typed, &embeddings)?;
        hints.lines.iter().for_each(|hint| say!("note: {hint}"));
        if hints.unknown {
            say!("note: {}", super::prompt::WORDS);
        }
    }
    Ok(())
}

/// Says notes, and forgets them.
fn said(notes: &mut Vec<Phrase>) {
    notes.drain(..).for_each(|note| say!("note: {}", told(&note)));
}

/// `--plan`: every step of every plan, then the peak.
fn print_plan(needs: &Needs<'_>, args: &GenerateArgs) -> Result<()> {
    let (table, normal, low) = fit::table(needs, args.memory.allowed())?;
    print(format!("{table}peak memory {}, with --low-memory {}\n", format_bytes(normal), format_bytes(low)));
    Ok(())
}
