//! An upscaler's file (.safetensors, or .pth of any age) to a [`Model`] whose one network it is.

use super::parts::rename;
use super::{Model, arch, names};
use crate::error::Result;
use crate::models::Networks;
use crate::models::upscaler::{CompactConfig, RrdbConfig, Upscaler};
use crate::weights::WeightSource;
use crate::weights::bytes::Bytes;
use crate::weights::ckpt;
use crate::weights::format::raw;
use crate::weights::safetensors;
use crate::weights::table::{RawFile, Table};
use std::path::Path;
use std::sync::Arc;

/// Where trainers put the weights: those that are averaged first.
const INNER: [&str; 4] = ["params_ema", "params", "state_dict", "model"];
/// Widths beyond any network's: what would not fit into memory is not looked at.
const MOST_FEATURES: usize = 512;
const MOST_BLOCKS: usize = 128;
/// Eight times the size in one pass is the most that anybody trains.
const MOST_DOUBLINGS: usize = 3;
/// The embedded upscaler: realesr-animevideov3 (Wang et al.; BSD-3-Clause, see NOTICE), f16.
static EMBEDDED: &[u8] = include_bytes!("../assets/upscaler.safetensors");

/// Opens an upscaler's file: Compact (SRVGGNet) or RRDB (ESRGAN, Real-ESRGAN, BSRGAN). Only headers are read.
///
/// # Errors
/// Bad file: what is wrong or missing, or which other architecture it is.
pub fn open_upscaler(path: &Path) -> Result<Model> {
    let bytes = Bytes::open(path)?;
    let mut head = vec![0; bytes.len().min(4) as usize];
    bytes.read_at(0, &mut head)?;
    let file = match head[..] {
        [b'P', b'K', 3, 4] | [0x80, 2, 0x8a, 0x0a] => ckpt::read_under(Arc::new(bytes), &INNER)?,
        _ => raw(bytes)?,
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut model = of(file, name)?;
    model.path = Some(path.to_path_buf());
    Ok(model)
}

impl Model {
    /// The upscaler in the binary: realesr-animevideov3, four times the size.
    ///
    /// # Errors
    /// None, unless the binary is damaged.
    pub fn embedded_upscaler() -> Result<Self> {
        let file = safetensors::read(Arc::new(Bytes::memory("the embedded upscaler", EMBEDDED)))?;
        of(file, "realesr-animevideov3".into())
    }
}

fn of(file: RawFile, name: String) -> Result<Model> {
    let RawFile { bytes, format, tensors, .. } = file;
    let keys: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let canonical = names::upscaler(&keys).map_err(|why| bytes.bad(why))?;
    let map = rename(tensors.values().cloned().zip(canonical.into_iter().map(names::whole)));
    let table = Table::new(map, format!("{format}, upscaler"));
    let upscaler = config(&table).map_err(|why| bytes.bad(why))?;
    let networks = Networks { upscaler: Some(upscaler), ..Networks::default() };
    let required = arch::required(&networks).map_err(|why| bytes.bad(why))?;
    arch::check(&table, &required).map_err(|why| bytes.bad(format!("{why}; it is not a complete upscaler")))?;
    Ok(Model::new(name, Arc::new(table.keep(&required)), networks))
}

/// The network that the tensors describe.
fn config(table: &Table) -> Result<Upscaler, String> {
    let shape = |name: &str| table.info(&format!("upscaler.{name}")).map(|info| info.shape.clone());
    let missing = |name: &str| format!("has no {name}; it is incomplete");
    let bounded = |what: &str, n: usize, most: usize| match n {
        _ if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("has {n} {what}; 1 to {most} are read")),
    };
    if let Some(first) = shape("body.0.weight") {
        let last =
            (1..=2 * MOST_BLOCKS).take_while(|n| shape(&format!("body.{n}.weight")).is_some()).last().unwrap_or(0);
        let bias = format!("body.{last}.bias");
        let outputs = shape(&bias).and_then(|s| s.first().copied()).ok_or_else(|| missing(&bias))?;
        let scale = (1..=8).find(|s| 3 * s * s == outputs);
        let scale = scale.ok_or_else(|| format!("ends in {outputs} channels, which are no square of pixels"))?;
        if !last.is_multiple_of(2) {
            return Err(format!("ends in {bias}, between two convolutions; it is incomplete"));
        }
        let features = bounded("channels", first.first().copied().unwrap_or(0), MOST_FEATURES)?;
        let convs = bounded("convolutions", (last / 2).saturating_sub(1), MOST_BLOCKS)?;
        return Ok(Upscaler::Compact(CompactConfig { features, convs, scale }));
    }
    let first = shape("conv_first.weight").ok_or_else(|| missing("conv_first.weight"))?;
    let (Some(&features), Some(&inputs)) = (first.first(), first.get(1)) else {
        return Err(format!("has conv_first.weight of shape {first:?}; it is no upscaler"));
    };
    let unshuffle = match inputs {
        3 => 1,
        12 => 2,
        48 => 4,
        _ => return Err(format!("takes {inputs} channels; an upscaler of pictures takes 3, 12 or 48")),
    };
    let blocks = (0..=MOST_BLOCKS).take_while(|n| shape(&format!("body.{n}.rdb1.conv1.weight")).is_some()).count();
    let growth = shape("body.0.rdb1.conv1.weight").and_then(|s| s.first().copied()).unwrap_or(0);
    let doublings = (1..=MOST_DOUBLINGS + 1).take_while(|n| shape(&format!("conv_up{n}.weight")).is_some()).count();
    if doublings > MOST_DOUBLINGS || unshuffle > 1 << doublings {
        return Err(format!("doubles the size {doublings} times of pixels taken {unshuffle} by {unshuffle}"));
    }
    Ok(Upscaler::Rrdb(RrdbConfig {
        features: bounded("channels", features, MOST_FEATURES)?,
        growth: bounded("channels of growth", growth, MOST_FEATURES)?,
        blocks: bounded("blocks", blocks, MOST_BLOCKS)?,
        doublings,
        unshuffle,
    }))
}
