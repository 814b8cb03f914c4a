//! A computation as plain data: nodes in the order in which they run, values between them, weights by checkpoint name.
//!
//! Model code builds a [`Graph`] with a [`Builder`]; [`fuse`] rewrites it; [`plan`] decides what runs where in memory.

pub mod build;
pub mod choose;
pub mod fuse;
pub mod plan;
pub mod target;

pub use crate::weights::expr::WeightExpr;
pub use build::Builder;

use crate::kernels::{Dims, Op};
use crate::tensor::Shape;
use std::fmt;

/// A stored value's number in its graph.
pub type ValueId = usize;

/// A value as an operand: all channels of a stored one, or a view of some neighbouring ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Which stored value.
    pub id: ValueId,
    /// Shape as the reader sees it; `c` counts the viewed channels.
    pub shape: Shape,
    /// First channel of the view.
    pub offset: usize,
}

impl Operand {
    /// Channels `first .. first + count` of this value.
    #[must_use]
    pub fn columns(self, first: usize, count: usize) -> Self {
        debug_assert!(first + count <= self.shape.c, "columns {first}..{} of {}", first + count, self.shape);
        Self { shape: self.shape.with_c(count), offset: self.offset + first, ..self }
    }
}

/// A weight of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Weight {
    /// Where it comes from.
    pub expr: WeightExpr,
    /// Its dimensions.
    pub dims: Dims,
}

/// One op with its operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its path in the checkpoint: `unet.mid_block.resnets.0.conv1`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands, in the op's order.
    pub x: Vec<Operand>,
    /// Weights, in the op's order.
    pub w: Vec<Weight>,
    /// The stored value that it writes.
    pub y: ValueId,
    /// The stored value that holds the statistics of y, if the op gives them.
    pub statistics: Option<ValueId>,
}

/// A word that names what goes into or comes out of a graph, with a number where there are many of a kind.
macro_rules! port {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            name: &'static str,
            number: Option<usize>,
        }

        impl $name {
            /// The only one of its name.
            pub const fn new(name: &'static str) -> Self {
                Self { name, number: None }
            }

            /// One of several.
            pub const fn numbered(name: &'static str, number: usize) -> Self {
                Self { name, number: Some(number) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.number {
                    Some(n) => write!(f, "{} {n}", self.name),
                    None => f.write_str(self.name),
                }
            }
        }
    };
}

port! {
    /// What goes into a graph.
    Input
}
port! {
    /// What comes out of a graph.
    Output
}

/// A computation. Nodes stand in an order in which they can run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// `text`, `context`, `time`, `step`, `decode` or `encode`.
    pub name: String,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Shapes of the stored values; inputs first.
    pub values: Vec<Shape>,
    /// Named inputs.
    pub inputs: Vec<(Input, ValueId)>,
    /// Named outputs: whole values.
    pub outputs: Vec<(Output, ValueId)>,
    /// Whether values stay f32 where a device would store them in f16: what is computed once and must be exact.
    pub keeps_f32: bool,
}

impl Graph {
    /// How often each stored value is read; an output counts as a reader.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        for v in self.nodes.iter().flat_map(|n| &n.x) {
            uses[v.id] += 1;
        }
        for (_, id) in &self.outputs {
            uses[*id] += 1;
        }
        uses
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> u64 {
        self.nodes.iter().map(|n| n.cost().flops).sum()
    }
}

impl Node {
    /// Shapes of its operands.
    pub fn shapes(&self) -> Vec<Shape> {
        self.x.iter().map(|v| v.shape).collect()
    }

    /// Dimensions of its weights.
    pub fn dims(&self) -> Vec<Dims> {
        self.w.iter().map(|w| w.dims).collect()
    }

    /// Work and traffic.
    pub fn cost(&self) -> crate::kernels::Cost {
        self.op.cost(&self.shapes(), &self.dims())
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for n in &self.nodes {
            let x: Vec<String> = n.x.iter().map(|v| format!("%{}{}", v.id, v.shape)).collect();
            writeln!(f, "%{} {} = {}({}) {}", n.y, self.values[n.y], n.op.name(), x.join(", "), n.name)?;
        }
        Ok(())
    }
}
