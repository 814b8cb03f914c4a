//! Shapes and host tensors. Everything in Lienzo is `[b, h, w, c]`, channels last; a row of
//! tokens is `[b, 1, tokens, width]`.

use crate::error::{Error, Result};
use std::fmt;

/// Batch, height, width, channels. Channels are contiguous in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// Samples.
    pub b: usize,
    /// Rows of pixels (1 for tokens).
    pub h: usize,
    /// Pixels in a row, or tokens.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// `[b, h, w, c]`.
    pub const fn new(b: usize, h: usize, w: usize, c: usize) -> Self {
        Self { b, h, w, c }
    }

    /// `[b, 1, tokens, c]`.
    pub const fn tokens(b: usize, tokens: usize, c: usize) -> Self {
        Self::new(b, 1, tokens, c)
    }

    /// Pixels (or tokens) of one sample.
    pub const fn pixels(&self) -> usize {
        self.h * self.w
    }

    /// Rows of a matrix view: samples times pixels.
    pub const fn rows(&self) -> usize {
        self.b * self.h * self.w
    }

    /// Elements.
    pub const fn len(&self) -> usize {
        self.rows() * self.c
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with other channels.
    #[must_use]
    pub const fn with_c(self, c: usize) -> Self {
        Self { c, ..self }
    }

    /// The same with another batch.
    #[must_use]
    pub const fn with_b(self, b: usize) -> Self {
        Self { b, ..self }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}, {}]", self.b, self.h, self.w, self.c)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A dense f32 tensor on the host, `[b, h, w, c]` without padding.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Vec<f32>,
}

impl Tensor {
    /// Wraps `data`, which must hold exactly the elements of `shape`.
    pub fn new(shape: Shape, data: Vec<f32>) -> Result<Self> {
        if data.len() == shape.len() {
            Ok(Self { shape, data })
        } else {
            Err(Error::other(format!("{} values given for a tensor of {shape}", data.len())))
        }
    }

    /// All zeros.
    pub fn zeros(shape: Shape) -> Self {
        Self { shape, data: vec![0.0; shape.len()] }
    }

    /// From torch's `[b, c, h, w]` order.
    pub fn from_nchw(shape: Shape, nchw: &[f32]) -> Result<Self> {
        if nchw.len() != shape.len() {
            return Err(Error::other(format!("{} values given for a tensor of {shape}", nchw.len())));
        }
        let mut t = Self::zeros(shape);
        let px = shape.pixels();
        for (b, sample) in t.data.chunks_exact_mut((px * shape.c).max(1)).enumerate() {
            for (p, pixel) in sample.chunks_exact_mut(shape.c).enumerate() {
                for (c, v) in pixel.iter_mut().enumerate() {
                    *v = nchw[(b * shape.c + c) * px + p];
                }
            }
        }
        Ok(t)
    }

    /// To torch's `[b, c, h, w]` order.
    pub fn to_nchw(&self) -> Vec<f32> {
        let (s, px) = (self.shape, self.shape.pixels());
        let mut out = vec![0.0; s.len()];
        for (row, pixel) in self.data.chunks_exact(s.c.max(1)).enumerate() {
            let (b, p) = (row / px, row % px);
            for (c, v) in pixel.iter().enumerate() {
                out[(b * s.c + c) * px + p] = *v;
            }
        }
        out
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its elements, channels fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Its elements, to be written.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Its elements, taken out.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &self.data[..self.data.len().min(4)];
        write!(f, "Tensor{} {head:?}…", self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nchw_goes_there_and_back() {
        let s = Shape::new(2, 3, 2, 5);
        let nchw: Vec<f32> = (0..s.len()).map(|i| i as f32).collect();
        let t = Tensor::from_nchw(s, &nchw).unwrap();
        assert_eq!(t.data()[..5], [0.0, 6.0, 12.0, 18.0, 24.0]);
        assert_eq!(t.to_nchw(), nchw);
    }
}
