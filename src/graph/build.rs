//! Builds a graph node by node: names come from nested scopes, shapes from the ops.

use super::{Graph, Input, Node, Operand, Output, Weight, WeightExpr};
use crate::error::{Error, Result};
use crate::kernels::{Dims, Op};
use crate::tensor::Shape;

/// Adds nodes to a graph. Errors carry the path of the node that did not fit.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    scope: Vec<String>,
}

impl Builder {
    /// An empty graph called `name`; `root` is the checkpoint component, `unet`.
    pub fn new(name: &str, root: &str) -> Self {
        let graph = Graph { name: name.into(), ..Graph::default() };
        Self { graph, scope: vec![root.into()] }
    }

    /// The same, whose values stay f32 on every device.
    #[must_use]
    pub fn keeping_f32(mut self) -> Self {
        self.graph.keeps_f32 = true;
        self
    }

    /// An input.
    pub fn input(&mut self, input: Input, shape: Shape) -> Operand {
        let id = self.store(shape);
        self.graph.inputs.push((input, id));
        Operand { id, shape, offset: 0 }
    }

    /// Makes a whole value an output.
    pub fn output(&mut self, output: Output, v: Operand) {
        debug_assert!(v.offset == 0 && v.shape == self.graph.values[v.id], "outputs are whole values");
        self.graph.outputs.push((output, v.id));
    }

    /// Runs `f` with `name` added to the path.
    pub fn scope<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.scope.push(name.into());
        let result = f(self);
        self.scope.pop();
        result
    }

    /// The full path of `name` in the current scope.
    pub fn path(&self, name: &str) -> String {
        let mut path = self.scope.join(".");
        if !name.is_empty() {
            path.push('.');
            path.push_str(name);
        }
        path
    }

    /// The tensor `name` of the current scope as a weight.
    pub fn weight(&self, name: &str, dims: Dims) -> Weight {
        Weight { expr: WeightExpr::One(self.path(name)), dims }
    }

    /// Adds a node called `name` in the current scope.
    pub fn push(&mut self, name: &str, op: impl Into<Op>, x: &[Operand], w: Vec<Weight>) -> Result<Operand> {
        let (name, op) = (self.path(name), op.into());
        let shapes: Vec<Shape> = x.iter().map(|v| v.shape).collect();
        let dims: Vec<Dims> = w.iter().map(|w| w.dims).collect();
        let outs = op.output(&shapes, &dims).map_err(|e| e.at(&name))?;
        let &[shape] = outs.as_slice() else {
            return Err(Error::other(format!("{name}: {} has {} outputs", op.name(), outs.len())));
        };
        let y = self.store(shape);
        self.graph.nodes.push(Node { name, op, x: x.to_vec(), w, y, statistics: None });
        Ok(Operand { id: y, shape, offset: 0 })
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    fn store(&mut self, shape: Shape) -> usize {
        self.graph.values.push(shape);
        self.graph.values.len() - 1
    }
}
