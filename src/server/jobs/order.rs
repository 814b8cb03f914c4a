//! An order in JSON goes in, typed; an order with the model's own values filled in comes out, and goes back as JSON
//! that no reader rounds.

use crate::diffusion::denoise::samplers::Named;
use crate::diffusion::{Request, SIZES};
use crate::job::order::Order;
use crate::job::word::Seed;
use crate::server::fault::{Fault, FaultKind};
use serde_json::{Map, Number, Value, json};

/// The greatest integer that every reader of JSON keeps.
const SAFE: u64 = (1 << 53) - 1;
/// Bytes of a prompt.
pub(crate) const MAX_PROMPT: usize = 100_000;
/// Pictures of one job.
pub(crate) const MAX_COUNT: usize = 64;
/// Cells of a grid.
pub(crate) const MAX_CELLS: usize = 100;

/// An integer: as a string of digits where a reader might round it.
pub(crate) fn big(n: u64) -> Value {
    if n <= SAFE { json!(n) } else { json!(n.to_string()) }
}

/// The same for every number in a value; numbers that were f32 have their short form again.
pub(crate) fn told(value: Value) -> Value {
    match value {
        Value::Number(n) => match (n.as_u64(), n.as_f64()) {
            (Some(n), _) => big(n),
            (None, Some(v)) if f64::from(v as f32) == v => {
                (v as f32).to_string().parse::<f64>().ok().and_then(Number::from_f64).map_or(json!(v), Value::Number)
            }
            _ => Value::Number(n),
        },
        Value::Array(all) => all.into_iter().map(told).collect(),
        Value::Object(all) => Value::Object(all.into_iter().map(|(k, v)| (k, told(v))).collect()),
        other => other,
    }
}

/// An order as the native API tells it: without what was not asked for.
pub(crate) fn wire(order: &Order) -> Value {
    // An order is made of words and numbers: it always becomes JSON.
    let Value::Object(mut fields) = serde_json::to_value(order).unwrap_or_default() else { return Value::Null };
    fields.remove("preview");
    fields.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|all| !all.is_empty()));
    told(Value::Object(fields))
}

/// Fields of an order that clients may set.
pub(crate) fn fields() -> Vec<String> {
    let Ok(Value::Object(all)) = serde_json::to_value(Order::default()) else { return Vec::new() };
    all.into_iter().map(|(name, _)| name).filter(|name| name != "preview").collect()
}

/// Reads an order, naming the field that is wrong.
///
/// # Errors
/// Usage: an unknown field, a value that is none, a number out of its range.
pub(crate) fn read(value: Value) -> Result<Order, Fault> {
    let Value::Object(mut given) = value else {
        return Err(
            Fault::new(FaultKind::Usage, "an order is an object, such as {\"prompt\": \"a red apple\"}").at(["order"])
        );
    };
    given.retain(|_, value| !value.is_null());
    if let Some(seed) = given.get("variation_seed").and_then(Value::as_str).and_then(|s| s.parse::<u64>().ok()) {
        given.insert("variation_seed".into(), seed.into());
    }
    let known = fields();
    let mut order = Map::new();
    for (name, value) in given {
        if !known.contains(&name) {
            let shown = crate::error::escape(&name);
            let mut fault = Fault::of_order(&shown, format!("'{shown}' is no field of an order"));
            fault.allowed = known;
            return Err(fault);
        }
        // A float without a fraction is an integer to people who write JavaScript.
        let value = whole(value);
        // Each field alone: whoever reads the error learns which one it is.
        let alone = json!({&name: &value});
        serde_json::from_value::<Order>(alone).map_err(|e| Fault::of_order(&name, format!("{name}: {e}")))?;
        order.insert(name, value);
    }
    let order: Order =
        serde_json::from_value(Value::Object(order)).map_err(|e| Fault::new(FaultKind::Usage, e.to_string()))?;
    check(&order)?;
    Ok(order)
}

fn whole(value: Value) -> Value {
    match value.as_f64() {
        Some(v) if value.is_f64() && v.fract() == 0.0 && v.abs() <= SAFE as f64 => {
            if v < 0.0 {
                json!(v as i64)
            } else {
                json!(v as u64)
            }
        }
        _ => value,
    }
}

/// Limits of a server, and sizes with their neighbours as a remedy.
pub(crate) fn check(order: &Order) -> Result<(), Fault> {
    let Some(prompt) = &order.prompt else { return Err(Fault::of_order("prompt", "an order needs a prompt")) };
    let negative = order.negative_prompt.as_deref().unwrap_or_default();
    for (name, text) in [("prompt", prompt.as_str()), ("negative_prompt", negative)] {
        if text.contains('\0') {
            return Err(Fault::of_order(name, format!("{name} holds a NUL, which no picture's text can hold")));
        }
        if text.len() > MAX_PROMPT {
            let message = format!("{name} has {} bytes: at most {MAX_PROMPT} are taken", text.len());
            return Err(Fault::of_order(name, message));
        }
    }
    if order.refiner.is_some() {
        return Err(Fault::of_order("refiner", "this server draws with one model: leave the refiner out"));
    }
    if let Some(count) = order.count.filter(|n| !(1..=MAX_COUNT).contains(n)) {
        let set = json!({"count": count.clamp(1, MAX_COUNT)});
        let fault = Fault::of_order("count", format!("{count} pictures: use 1 to {MAX_COUNT}"));
        return Err(fault.or_set("a possible number", set));
    }
    if let Some(steps) = order.steps.filter(|n| !(1..=1000).contains(n)) {
        let set = json!({"steps": steps.clamp(1, 1000)});
        return Err(Fault::of_order("steps", format!("{steps} steps: use 1 to 1000")).or_set("a possible number", set));
    }
    if let Some(guidance) = order.guidance.filter(|g| !(0.0..=30.0).contains(g)) {
        let set = json!({"guidance": if guidance < 0.0 { 0 } else { 30 }});
        let fault = Fault::of_order("guidance", format!("guidance {guidance}: use 0 to 30"));
        return Err(fault.or_set("the nearest", set));
    }
    for (name, side) in [("width", order.width), ("height", order.height)] {
        side.map_or(Ok(()), |side| possible(name, side, order.init_image.is_some()))?;
    }
    if let Some(axes) = order.grid.as_ref().filter(|axes| axes.cells() > MAX_CELLS) {
        return Err(Fault::of_order("grid", format!("{} pictures: at most {MAX_CELLS} of a grid", axes.cells())));
    }
    let name = |field: &'static str, value: &Option<std::path::PathBuf>| {
        let name = value.as_deref().map(std::path::Path::to_string_lossy).unwrap_or_default();
        let sha = name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if value.is_none() || sha {
            Ok(())
        } else {
            Err(Fault::of_order(
                field,
                format!("{field} is the sha256 of a picture that this server has: 64 hex digits"),
            ))
        }
    };
    name("init_image", &order.init_image)?;
    name("mask", &order.mask)?;
    order.check().map_err(Fault::of_objection)
}

fn possible(name: &str, side: usize, fitted: bool) -> Result<(), Fault> {
    let (least, most) = SIZES;
    let step = if fitted { 1 } else { 8 };
    if (least..=most).contains(&side) && side.is_multiple_of(step) {
        return Ok(());
    }
    let rule = if fitted { String::new() } else { "multiples of 8 ".into() };
    let mut fault =
        Fault::of_order(name, format!("{name} {side} is not possible: sides are {rule}from {least} to {most}"));
    let below = (side / 8 * 8).clamp(least, most);
    for near in [below, (below + 8).clamp(least, most)] {
        let set = json!({name: near});
        if fault.remedy.iter().all(|r| r.set.as_ref() != set.as_object()) {
            fault = fault.or_set(format!("{name} {near}"), set);
        }
    }
    Err(fault)
}

/// The order that a request is: what was left out has the value that it gets. `defaulted` names those fields.
///
/// Read again it makes the same request; sizes that a picture decides stay open.
pub(crate) fn filled(order: &Order, request: &Request) -> (Order, Vec<String>) {
    let mut out = order.clone();
    let mut defaulted = Vec::new();
    macro_rules! fill {
        ($($field:ident: $value:expr),+ $(,)?) => {
            $(if out.$field.is_none() {
                out.$field = Some($value);
                defaulted.push(stringify!($field).to_owned());
            })+
        };
    }
    let s = &request.sampling;
    // A name like `DPM++ 2M Karras` tells two fields.
    if let Some(named) = &mut out.sampler {
        out.schedule = out.schedule.or(named.schedule);
        out.timesteps = out.timesteps.or(named.timesteps);
        (named.schedule, named.timesteps) = (None, None);
    }
    fill! {
        negative_prompt: String::new(),
        steps: s.steps,
        guidance: request.guidance,
        sampler: Named { sampler: s.sampler, schedule: None, timesteps: None },
        schedule: s.schedule,
        timesteps: s.timesteps,
        clip_skip: request.clip_skip,
        rng: request.rng,
        batch_size: request.batch_size,
    }
    if out.grid.is_none() {
        fill! { count: request.count }
    }
    if !matches!(out.seed, Some(Seed::Fixed(_))) {
        out.seed = Some(Seed::Fixed(request.seed));
        defaulted.push("seed".into());
    }
    if let Some((seed, _)) = request.variation {
        fill! { variation_seed: seed }
    }
    if request.picture().is_none() {
        fill! { width: request.width, height: request.height }
    } else if let Some(strength) = s.strength {
        fill! { strength: strength }
    }
    (out, defaulted)
}
