//! OpenCLIP's names and layouts: query, key and value in one tensor, the projection the other way round.

use super::{Canonical, Portion, number, swap, swap_back};

const ENDS: [(&str, &str); 2] = [("token_embedding", "embeddings.token_embedding"), ("ln_final", "final_layer_norm")];
const LAYER: [(&str, &str); 5] = [
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
];

/// A tensor of a text encoder in OpenCLIP's layout, prefix stripped, as tensors of `part`.
pub(super) fn name(part: &str, name: &str) -> Vec<Canonical> {
    let whole = |inner: String| vec![Canonical { name: format!("{part}.{inner}"), view: Portion::Whole }];
    match name {
        "positional_embedding" => return whole("embeddings.position_embedding.weight".into()),
        // Used as `x P` there, as `x W^T` here; the form with `.weight` is ours already.
        "text_projection" => {
            return vec![Canonical { name: format!("{part}.text_projection.weight"), view: Portion::Transposed }];
        }
        "text_projection.weight" => return whole(name.into()),
        _ => {}
    }
    if let Some(inner) = swap(name, &ENDS) {
        return whole(inner);
    }
    let Some((n, rest)) = name.strip_prefix("transformer.resblocks.").and_then(number) else { return Vec::new() };
    let layer = format!("encoder.layers.{n}");
    if let Some(what) = rest.strip_prefix("attn.in_proj_") {
        let third = |(i, p): (usize, &str)| Canonical {
            name: format!("{part}.{layer}.self_attn.{p}.{what}"),
            view: Portion::Third(i),
        };
        return ["q_proj", "k_proj", "v_proj"].into_iter().enumerate().map(third).collect();
    }
    swap(rest, &LAYER).map_or_else(Vec::new, |inner| whole(format!("{layer}.{inner}")))
}

/// A tensor of ours, component stripped, in OpenCLIP's layout: its name there, and what of that tensor it is.
pub(super) fn back(rest: &str) -> Option<(String, Portion)> {
    match rest {
        "embeddings.position_embedding.weight" => return Some(("positional_embedding".into(), Portion::Whole)),
        "text_projection.weight" => return Some(("text_projection".into(), Portion::Transposed)),
        _ => {}
    }
    let Some((n, inner)) = rest.strip_prefix("encoder.layers.").and_then(number) else {
        return Some((swap_back(rest, &ENDS)?, Portion::Whole));
    };
    let layer = format!("transformer.resblocks.{n}");
    for (i, projection) in ["q_proj", "k_proj", "v_proj"].into_iter().enumerate() {
        if let Some(what) = inner.strip_prefix("self_attn.").and_then(|r| r.strip_prefix(projection)?.strip_prefix('.'))
        {
            return Some((format!("{layer}.attn.in_proj_{what}"), Portion::Third(i)));
        }
    }
    Some((format!("{layer}.{}", swap_back(inner, &LAYER)?), Portion::Whole))
}
