//! Rewrites of a graph that keep its meaning and save passes over memory. Each has a name, can be switched off in
//! [`Caps`], and is tested on its own.
//!
//! Ten rewrites in one file: each is a screen, and all of them stand on the same few words (`Pair`, `sole_producer`,
//! `replace`).
//!
//! A fused node stands where the consumer stood, so that all its operands have been computed.

use super::choose::choose;
use super::target::Caps;
use super::{Graph, Node, Operand, ValueId, Weight, WeightExpr};
use crate::kernels::group_affine::{self, GroupAffine};
use crate::kernels::group_norm::GroupNorm;
use crate::kernels::statistics::Tiles;
use crate::kernels::{self, Activation, Dims, Op};
use crate::tensor::Shape;

/// A rewrite, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rewrite {
    /// What reads a concatenation reads its two halves.
    TwoSources,
    /// A convolution of an upsampling reads the small tensor.
    UpsampleConv,
    /// GroupNorm and the nonlinearity after it.
    NormAct,
    /// A product plus one row per sample.
    Row,
    /// A product and the nonlinearity after it.
    Act,
    /// A matmul and the GEGLU after it.
    Geglu,
    /// A product plus a tensor of the same pixels.
    Residual,
    /// Products of one operand that only attention reads, as one.
    Siblings,
    /// A GroupNorm is applied by the product that reads it.
    NormRead,
    /// A GroupNorm takes its statistics from the products before it.
    NormGiven,
}

impl Rewrite {
    /// Every rewrite, in order.
    pub const ALL: [Self; 10] = [
        Self::TwoSources,
        Self::UpsampleConv,
        Self::NormAct,
        Self::Row,
        Self::Act,
        Self::Geglu,
        Self::Residual,
        Self::Siblings,
        Self::NormRead,
        Self::NormGiven,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoSources => "two_sources",
            Self::UpsampleConv => "upsample_conv",
            Self::NormAct => "norm_act",
            Self::Row => "row",
            Self::Act => "act",
            Self::Geglu => "geglu",
            Self::Residual => "residual",
            Self::Siblings => "siblings",
            Self::NormRead => "norm_read",
            Self::NormGiven => "norm_given",
        }
    }

    /// Rewrites a graph for a target; whether that changed anything.
    fn apply(self, g: &mut Graph, caps: &Caps) -> bool {
        match self {
            Self::TwoSources => two_sources(g),
            Self::UpsampleConv => upsample_conv(g),
            Self::NormAct => norm_act(g),
            Self::Row => row(g),
            Self::Act => act(g),
            Self::Geglu => geglu(g),
            Self::Residual => residual(g),
            Self::Siblings => siblings(g),
            Self::NormRead => norm_read(g),
            Self::NormGiven => norm_given(g, caps),
        }
    }
}

/// Applies every rewrite that is not off, until none changes anything.
pub fn fuse(mut graph: Graph, caps: &Caps) -> Graph {
    let on = || Rewrite::ALL.into_iter().filter(|rewrite| !caps.rewrites_off.contains(rewrite));
    while on().filter(|rewrite| rewrite.apply(&mut graph, caps)).count() > 0 {}
    graph
}

/// A consumer at `at` that reads the whole of what the product at `from` writes, and is its only reader.
struct Pair {
    from: usize,
    at: usize,
}

/// The node that writes the whole of `v`, if `v` has no other reader.
fn sole_producer(g: &Graph, uses: &[usize], v: Operand) -> Option<usize> {
    let whole = v.offset == 0 && v.shape == g.values[v.id];
    (whole && uses[v.id] == 1).then(|| producer(g, v.id)).flatten()
}

fn producer(g: &Graph, id: ValueId) -> Option<usize> {
    g.nodes.iter().position(|n| n.y == id)
}

/// Replaces the consumer by `node`, which writes what the consumer wrote, and drops the producer.
fn replace(g: &mut Graph, pair: &Pair, mut node: Node) {
    node.y = g.nodes[pair.at].y;
    g.nodes[pair.at] = node;
    g.nodes.remove(pair.from);
}

/// Finds the first consumer for which `merge` returns a fused node, and puts it in.
fn fuse_pair(g: &mut Graph, merge: impl Fn(&Graph, &Node, &Node, usize) -> Option<Node>) -> bool {
    let uses = g.uses();
    let mut changed = false;
    let mut at = 0;
    while at < g.nodes.len() {
        let consumer = &g.nodes[at];
        let found = (0..consumer.x.len()).rev().find_map(|i| {
            let from = sole_producer(g, &uses, consumer.x[i])?;
            merge(g, &g.nodes[from], consumer, i).map(|node| (Pair { from, at }, node))
        });
        match found {
            Some((pair, node)) => {
                replace(g, &pair, node);
                changed = true;
            }
            None => at += 1,
        }
    }
    changed
}

/// `conv2d`, `matmul` and `group_norm` of a concatenation read its two halves.
fn two_sources(g: &mut Graph) -> bool {
    let mut changed = false;
    for at in 0..g.nodes.len() {
        let takes = match &g.nodes[at].op {
            Op::Conv2d(c) => !c.two_sources && c.upsample.is_none(),
            Op::Matmul(m) => !m.two_sources,
            Op::GroupNorm(n) => !n.two_sources,
            _ => false,
        };
        let joined = g.nodes[at].x[0];
        let whole = joined.shape == g.values[joined.id];
        let Some(concat) = producer(g, joined.id).filter(|i| takes && whole && matches!(g.nodes[*i].op, Op::Concat(_)))
        else {
            continue;
        };
        let halves = g.nodes[concat].x.clone();
        let node = &mut g.nodes[at];
        node.x.splice(0..1, halves);
        match &mut node.op {
            Op::Conv2d(c) => c.two_sources = true,
            Op::Matmul(m) => m.two_sources = true,
            Op::GroupNorm(n) => n.two_sources = true,
            _ => {}
        }
        changed = true;
    }
    if changed {
        drop_dead(g);
    }
    changed
}

/// A 3x3 convolution of an upsampling reads the small tensor.
fn upsample_conv(g: &mut Graph) -> bool {
    fuse_pair(g, |_, p, c, _| match (&p.op, &c.op) {
        (Op::Upsample(up), Op::Conv2d(conv)) if conv.upsample.is_none() && !conv.two_sources && !conv.stride2 => {
            let mut node = c.clone();
            node.x[0] = p.x[0];
            node.op = kernels::conv2d::Conv2d { upsample: Some((up.h, up.w)), ..*conv }.into();
            Some(node)
        }
        _ => None,
    })
}

/// GroupNorm followed by a nonlinearity.
fn norm_act(g: &mut Graph) -> bool {
    fuse_pair(g, |_, p, c, _| match (&p.op, &c.op) {
        (Op::GroupNorm(norm), Op::Activate(a)) if norm.act == Activation::None => {
            Some(Node { op: GroupNorm { act: a.act, ..*norm }.into(), ..p.clone() })
        }
        _ => None,
    })
}

/// What a product's epilogue already holds.
struct Epilogue {
    row: bool,
    act: Activation,
    residual: bool,
    geglu: bool,
}

fn epilogue(op: &Op) -> Option<Epilogue> {
    match op {
        Op::Matmul(m) => Some(Epilogue { row: m.row, act: m.act, residual: m.residual, geglu: m.geglu }),
        Op::Conv2d(c) => Some(Epilogue { row: c.row, act: c.act, residual: c.residual, geglu: false }),
        _ => None,
    }
}

fn with_epilogue(op: &Op, set: impl FnOnce(&mut Epilogue)) -> Op {
    let mut op = *op;
    if let Some(mut e) = epilogue(&op) {
        set(&mut e);
        match &mut op {
            Op::Matmul(m) => (m.row, m.act, m.residual, m.geglu) = (e.row, e.act, e.residual, e.geglu),
            Op::Conv2d(c) => (c.row, c.act, c.residual) = (e.row, e.act, e.residual),
            _ => {}
        }
    }
    op
}

/// A product plus one row per sample (the time embedding).
fn row(g: &mut Graph) -> bool {
    fuse_pair(g, |g, p, c, i| {
        epilogue(&p.op).filter(|e| !e.row && e.act == Activation::None && !e.residual && !e.geglu)?;
        let Op::Add(_) = c.op else { return None };
        let other = c.x[1 - i];
        let one_row = i == 0 && other.shape.pixels() == 1 && c.x[0].shape.pixels() > 1;
        let same_batch = g.values[c.y].b == g.values[p.y].b;
        (one_row && same_batch).then(|| {
            let mut node = Node { op: with_epilogue(&p.op, |e| e.row = true), ..p.clone() };
            node.x.push(other);
            node
        })
    })
}

/// A product followed by a nonlinearity.
fn act(g: &mut Graph) -> bool {
    fuse_pair(g, |_, p, c, _| {
        epilogue(&p.op).filter(|e| e.act == Activation::None && !e.residual && !e.geglu)?;
        let Op::Activate(a) = c.op else { return None };
        Some(Node { op: with_epilogue(&p.op, |e| e.act = a.act), ..p.clone() })
    })
}

/// A matmul followed by GEGLU.
fn geglu(g: &mut Graph) -> bool {
    fuse_pair(g, |_, p, c, _| {
        let e = epilogue(&p.op)?;
        let plain = !e.row && e.act == Activation::None && !e.residual && !e.geglu;
        let (Op::Matmul(_), Op::Geglu(_), true) = (&p.op, &c.op, plain) else { return None };
        Some(Node { op: with_epilogue(&p.op, |e| e.geglu = true), ..p.clone() })
    })
}

/// A product plus a tensor of the same pixels.
fn residual(g: &mut Graph) -> bool {
    fuse_pair(g, |g, p, c, i| {
        epilogue(&p.op).filter(|e| !e.residual && !e.geglu)?;
        let Op::Add(_) = c.op else { return None };
        let other = c.x[1 - i];
        let same = other.shape.pixels() == c.x[i].shape.pixels();
        // A product that would be computed for more samples than it has is better left alone.
        let same_batch = g.values[c.y].b == g.values[p.y].b;
        // `add` has the broadcasting operand second, so a first operand always has the full pixels.
        (same && same_batch).then(|| {
            let mut node = Node { op: with_epilogue(&p.op, |e| e.residual = true), ..p.clone() };
            node.x.push(other);
            node
        })
    })
}

/// Products of the same operand whose results only attention reads become one, read through column views: Q, K, V.
fn siblings(g: &mut Graph) -> bool {
    for first in 0..g.nodes.len() {
        let group = sibling_group(g, first);
        if group.len() < 2 {
            continue;
        }
        let merged = merge_siblings(g, &group);
        for (&at, (offset, id)) in group.iter().zip(merged.views) {
            let old = g.nodes[at].y;
            for v in g.nodes.iter_mut().flat_map(|n| &mut n.x).filter(|v| v.id == old) {
                v.id = id;
                v.offset += offset;
            }
        }
        g.nodes[first] = merged.node;
        for &at in group[1..].iter().rev() {
            g.nodes.remove(at);
        }
        return true;
    }
    false
}

/// The nodes, `first` among them, that can be computed with it as one product.
fn sibling_group(g: &Graph, first: usize) -> Vec<usize> {
    let plain = |n: &Node| {
        let Op::Matmul(m) = n.op else { return None };
        let e = epilogue(&n.op)?;
        let alone =
            !e.row && e.act == Activation::None && !e.residual && !e.geglu && !m.two_sources && m.norm.is_none();
        // Column views begin at multiples of 4 so that every layout keeps its alignment.
        let fits = n.w[0].dims.n.is_multiple_of(4)
            && n.w.iter().all(|w| matches!(w.expr, WeightExpr::One(_) | WeightExpr::Slice { .. }));
        (alone && fits && only_attention_reads(g, n.y)).then_some((n.x[0], m.bias))
    };
    let Some(key) = plain(&g.nodes[first]) else { return Vec::new() };
    (first..g.nodes.len()).filter(|&i| plain(&g.nodes[i]) == Some(key)).collect()
}

fn only_attention_reads(g: &Graph, id: ValueId) -> bool {
    let attention = |n: &Node| matches!(n.op, Op::Attention(_)) || n.x.iter().all(|v| v.id != id);
    g.nodes.iter().all(attention) && g.outputs.iter().all(|(_, o)| *o != id)
}

struct Merged {
    node: Node,
    /// Column offset and stored value for each of the old products.
    views: Vec<(usize, ValueId)>,
}

fn merge_siblings(g: &mut Graph, group: &[usize]) -> Merged {
    let nodes: Vec<&Node> = group.iter().map(|&i| &g.nodes[i]).collect();
    let stack = |index: usize| {
        let part = |n: &&Node| (n.w[index].expr.clone(), n.w[index].dims.n);
        let rows = nodes.iter().map(|n| n.w[index].dims.n).sum();
        Weight {
            expr: WeightExpr::Rows(nodes.iter().map(part).collect()),
            dims: Dims { n: rows, ..nodes[0].w[index].dims },
        }
    };
    let w: Vec<Weight> = (0..nodes[0].w.len()).map(stack).collect();
    let mut offset = 0;
    let mut views = Vec::new();
    let y = g.values.len();
    for n in &nodes {
        views.push((offset, y));
        offset += n.w[0].dims.n;
    }
    let shape: Shape = g.values[nodes[0].y].with_c(offset);
    let node = Node { w, y, ..nodes[0].clone() };
    g.values.push(shape);
    Merged { node, views }
}

/// A GroupNorm that one product reads is applied while that product reads, with statistics from whoever wrote its
/// operands: no pass over memory is left of it.
fn norm_read(g: &mut Graph) -> bool {
    let uses = g.uses();
    let mut changed = false;
    for consumer in 0..g.nodes.len() {
        let reads = match &g.nodes[consumer].op {
            Op::Conv2d(c) => !c.two_sources && c.norm.is_none() && c.upsample.is_none(),
            Op::Matmul(m) => !m.two_sources && m.norm.is_none(),
            _ => false,
        };
        let Some(at) = sole_producer(g, &uses, g.nodes[consumer].x[0]).filter(|_| reads) else { continue };
        let Op::GroupNorm(norm) = g.nodes[at].op else { continue };
        let sources = g.nodes[at].x.clone();
        let Some(producers) = sources.iter().map(|v| leaves_statistics(g, *v)).collect::<Option<Vec<_>>>() else {
            continue;
        };
        let statistics: Vec<Operand> = producers.into_iter().map(|p| statistics_of(g, p, Tiles::Rows)).collect();
        let affine = into_affine(g, at, norm, statistics);
        let node = &mut g.nodes[consumer];
        node.x.splice(0..1, sources.into_iter().chain([affine]));
        match &mut node.op {
            Op::Conv2d(c) => (c.two_sources, c.norm) = (norm.two_sources, Some(norm.act)),
            Op::Matmul(m) => (m.two_sources, m.norm) = (norm.two_sources, Some(norm.act)),
            _ => {}
        }
        changed = true;
    }
    changed
}

/// The product that writes the whole of `v` and can give its statistics.
fn leaves_statistics(g: &Graph, v: Operand) -> Option<usize> {
    let whole = v.offset == 0 && v.shape == g.values[v.id];
    let able = |op: &Op| epilogue(op).is_some_and(|e| !e.geglu);
    producer(g, v.id).filter(|i| whole && able(&g.nodes[*i].op))
}

/// The statistics that node `at` gives, from now on if it did not before.
fn statistics_of(g: &mut Graph, at: usize, tiles: Tiles) -> Operand {
    let shape = tiles.shape(g.values[g.nodes[at].y]);
    let id = g.nodes[at].statistics.unwrap_or(g.values.len());
    if id == g.values.len() {
        g.values.push(shape);
    }
    let node = &mut g.nodes[at];
    node.statistics = Some(id);
    node.op = leaving(node.op, tiles);
    Operand { id, shape, offset: 0 }
}

/// Makes the GroupNorm at `at` a merge of statistics; gives its new value.
fn into_affine(g: &mut Graph, at: usize, norm: GroupNorm, statistics: Vec<Operand>) -> Operand {
    let normed = g.values[g.nodes[at].y];
    let GroupNorm { two_sources, groups, eps, .. } = norm;
    let value = Operand { id: g.values.len(), shape: group_affine::affine(normed.b, normed.c), offset: 0 };
    g.values.push(value.shape);
    let node = &mut g.nodes[at];
    node.op = GroupAffine { two_sources, size: (normed.h, normed.w), groups, eps }.into();
    (node.x, node.y) = (statistics, value.id);
    value
}

/// The product with statistics beside its output.
fn leaving(mut op: Op, tiles: Tiles) -> Op {
    match &mut op {
        Op::Conv2d(c) => c.statistics = Some(tiles),
        Op::Matmul(m) => m.statistics = Some(tiles),
        _ => {}
    }
    op
}

/// A GroupNorm takes its statistics from the products that write its operands, where each of them can leave them on
/// this device: it reads its operands once.
fn norm_given(g: &mut Graph, caps: &Caps) -> bool {
    let runs = |op: Op, x: &[Shape], node: &Node| choose(&op, x, &node.dims(), &caps.for_weights(&node.w)).is_ok();
    let mut changed = false;
    for at in 0..g.nodes.len() {
        let Op::GroupNorm(norm @ GroupNorm { given: false, .. }) = g.nodes[at].op else { continue };
        let producer = |v: &Operand| leaves_statistics(g, *v);
        let Some(producers) = g.nodes[at].x.iter().map(producer).collect::<Option<Vec<_>>>() else { continue };
        let op: Op = GroupNorm { given: true, ..norm }.into();
        let mut x = g.nodes[at].shapes();
        x.extend(g.nodes[at].shapes().into_iter().map(|s| Tiles::Pixels.shape(s)));
        let left = producers.iter().all(|p| {
            let node = &g.nodes[*p];
            runs(leaving(node.op, Tiles::Pixels), &node.shapes(), node)
        });
        if left && runs(op, &x, &g.nodes[at]) {
            let given: Vec<Operand> = producers.into_iter().map(|p| statistics_of(g, p, Tiles::Pixels)).collect();
            g.nodes[at].x.extend(given);
            g.nodes[at].op = op;
            changed = true;
        }
    }
    changed
}

/// Removes nodes whose value nobody reads.
fn drop_dead(g: &mut Graph) {
    loop {
        let uses = g.uses();
        let before = g.nodes.len();
        g.nodes.retain(|n| uses[n.y] > 0);
        if g.nodes.len() == before {
            return;
        }
    }
}
