//! Pictures and labels go in, one contact sheet comes out.

mod font;

use super::axes::Axes;
use crate::error::{Error, Kind, Result};
use crate::image::Image;
use font::{CELL, draw, wrap};

/// Pictures whose longer side is below this are shown larger, by a whole factor.
const READABLE: usize = 128;
/// Columns of a grid of one parameter, which has no rows of its own.
const COLUMNS: usize = 8;
/// The largest sheet, in pixels.
const MAX_PIXELS: usize = 400_000_000;
/// Characters of a label beside a row, and lines of any label.
const BESIDE: usize = 16;
const LINES: usize = 4;

/// Sizes in pixels that follow from the pictures.
struct Layout {
    /// How much each picture is enlarged.
    scale: usize,
    /// A picture's place.
    cell: (usize, usize),
    /// A dot of the font.
    dot: usize,
    margin: usize,
}

/// Bytes that the pictures of all cells, their sheet and its file take at most, where the largest has this size.
pub fn bytes(axes: &Axes, (width, height): (usize, usize)) -> u64 {
    let (_, _, (w, h)) = laid_out(axes, (width, height));
    let sheet = w.saturating_mul(h).min(MAX_PIXELS);
    3 * (axes.cells() * width * height + sheet) as u64 + Image::bytes_to_write(sheet, 1)
}

/// Lays the pictures of all cells (columns fastest) on white, each column, row and block with its label.
pub fn sheet(axes: &Axes, pictures: &[Image]) -> Result<Image> {
    let widest = pictures.iter().map(|p| p.width).max().unwrap_or(1).max(1);
    let highest = pictures.iter().map(|p| p.height).max().unwrap_or(1).max(1);
    let (layout, blocks, (width, height)) = laid_out(axes, (widest, highest));
    let pixels = width.checked_mul(height).filter(|n| *n <= MAX_PIXELS);
    let Some(pixels) = pixels else {
        let message = format!("the contact sheet would have {width}x{height} pixels; the single pictures are written");
        return Err(Error::new(Kind::Other, message));
    };
    let mut image = Image { width, height, rgb: vec![255; 3 * pixels] };
    let left = layout.left(&blocks);
    let mut y = layout.margin;
    for block in &blocks {
        y = layout.draw(block, (left, y), pictures, &mut image);
    }
    Ok(image)
}

/// Where everything of a sheet is, and its size, for pictures of at most this size.
fn laid_out(axes: &Axes, (widest, highest): (usize, usize)) -> (Layout, Vec<Block>, (usize, usize)) {
    let scale = READABLE.div_ceil(widest.max(highest).max(1));
    let cell = (widest * scale, highest * scale);
    let dot = (cell.0 / 256).max(1);
    let layout = Layout { scale, cell, dot, margin: 8 * dot };
    let blocks = blocks(axes);
    let width = layout.left(&blocks) + columns(&blocks) * (cell.0 + layout.margin);
    let height = layout.margin + blocks.iter().map(|b| layout.block_height(b)).sum::<usize>();
    (layout, blocks, (width, height))
}

/// One value of the third parameter: a title and rows of cells under their columns' labels.
struct Block {
    title: Option<String>,
    rows: Vec<Row>,
}

struct Row {
    /// What stands above, one for each cell; none below the first row.
    above: Vec<String>,
    beside: Option<String>,
    /// Numbers of the cells.
    cells: Vec<usize>,
}

fn blocks(axes: &Axes) -> Vec<Block> {
    let [across, more @ ..] = &axes.0[..] else { return Vec::new() };
    let Some(down) = more.first() else {
        let all: Vec<usize> = (0..across.len()).collect();
        let row = |cells: &[usize]| Row {
            above: cells.iter().map(|c| across.label(*c)).collect(),
            beside: None,
            cells: cells.to_vec(),
        };
        return vec![Block { title: None, rows: all.chunks(COLUMNS).map(row).collect() }];
    };
    let row = |block: usize, r: usize| Row {
        above: (0..across.len()).filter(|_| r == 0).map(|c| across.label(c)).collect(),
        beside: Some(down.label(r)),
        cells: (0..across.len()).map(|c| c + across.len() * (r + down.len() * block)).collect(),
    };
    let third = more.get(1);
    let block =
        |b: usize| Block { title: third.map(|axis| axis.label(b)), rows: (0..down.len()).map(|r| row(b, r)).collect() };
    (0..third.map_or(1, |axis| axis.len())).map(block).collect()
}

fn columns(blocks: &[Block]) -> usize {
    blocks.iter().flat_map(|b| &b.rows).map(|r| r.cells.len()).max().unwrap_or(0)
}

impl Layout {
    fn line(&self) -> usize {
        CELL.1 * self.dot
    }

    fn wrapped(&self, label: &str) -> Vec<String> {
        wrap(label, self.cell.0 / (CELL.0 * self.dot), LINES)
    }

    /// Where the first column begins.
    fn left(&self, blocks: &[Block]) -> usize {
        let labels = blocks.iter().flat_map(|b| &b.rows).filter_map(|r| r.beside.as_deref());
        let lines = labels.flat_map(|l| wrap(l, BESIDE, LINES));
        match lines.map(|l| l.chars().count()).max() {
            Some(longest) => 2 * self.margin + longest * CELL.0 * self.dot,
            None => self.margin,
        }
    }

    /// Height of the labels above a row, with the space below them.
    fn above(&self, row: &Row) -> usize {
        let lines = row.above.iter().map(|l| self.wrapped(l).len()).max().unwrap_or(0);
        if lines > 0 { lines * self.line() + self.margin / 2 } else { 0 }
    }

    fn title(&self, block: &Block) -> usize {
        if block.title.is_some() { self.line() + self.margin } else { 0 }
    }

    fn block_height(&self, block: &Block) -> usize {
        let rows = block.rows.iter().map(|r| self.above(r) + self.cell.1 + self.margin);
        self.title(block) + rows.sum::<usize>()
    }

    /// Draws a block at its corner; gives where the next one begins.
    fn draw(&self, block: &Block, (left, mut y): (usize, usize), pictures: &[Image], out: &mut Image) -> usize {
        if let Some(title) = &block.title {
            let room = (out.width - self.margin) / (CELL.0 * self.dot);
            for line in wrap(title, room, 1) {
                draw(out, &line, (self.margin, y), self.dot);
            }
            y += self.title(block);
        }
        for row in &block.rows {
            let above = self.above(row);
            let x = |column: usize| left + column * (self.cell.0 + self.margin);
            for (column, label) in row.above.iter().enumerate() {
                let lines = self.wrapped(label);
                // All end at the pictures.
                let top = y + above - self.margin / 2 - lines.len() * self.line();
                self.centred(&lines, (x(column), top), self.cell.0, out);
            }
            y += above;
            if let Some(label) = &row.beside {
                let lines = wrap(label, BESIDE, LINES);
                let top = y + self.cell.1.saturating_sub(lines.len() * self.line()) / 2;
                for (i, line) in lines.iter().enumerate() {
                    draw(out, line, (self.margin, top + i * self.line()), self.dot);
                }
            }
            for (column, cell) in row.cells.iter().enumerate() {
                if let Some(picture) = pictures.get(*cell) {
                    self.paste(picture, (x(column), y), out);
                }
            }
            y += self.cell.1 + self.margin;
        }
        y
    }

    fn centred(&self, lines: &[String], (x, y): (usize, usize), width: usize, out: &mut Image) {
        for (i, line) in lines.iter().enumerate() {
            let free = width.saturating_sub(line.chars().count() * CELL.0 * self.dot);
            draw(out, line, (x + free / 2, y + i * self.line()), self.dot);
        }
    }

    /// A picture in the middle of its place, every pixel a square.
    fn paste(&self, picture: &Image, (x, y): (usize, usize), out: &mut Image) {
        let (w, h) = (picture.width * self.scale, picture.height * self.scale);
        let (x, y) = (x + (self.cell.0 - w) / 2, y + (self.cell.1 - h) / 2);
        for row in 0..h {
            let source = &picture.rgb[3 * (row / self.scale) * picture.width..][..3 * picture.width];
            let target = &mut out.rgb[3 * ((y + row) * out.width + x)..][..3 * w];
            for (pixels, pixel) in target.chunks_exact_mut(3 * self.scale).zip(source.chunks_exact(3)) {
                pixels.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(pixel));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize, level: u8) -> Image {
        Image { width, height, rgb: vec![level; 3 * width * height] }
    }

    fn at(image: &Image, x: usize, y: usize) -> u8 {
        image.rgb[3 * (y * image.width + x)]
    }

    #[test]
    fn every_cell_is_where_its_labels_are() {
        let axes = Axes::parse("steps=1,2 x seed=1,2,3").unwrap();
        let pictures: Vec<Image> = (0..6).map(|i| flat(64, 64, 100 + i)).collect();
        let image = sheet(&axes, &pictures).unwrap();
        // seed 1 is 6 characters wide; one line of labels above, margins of 8, pictures doubled.
        let (left, top) = (8 + 36 + 8, 8 + 12 + 4);
        assert_eq!((image.width, image.height), (left + 2 * 136, top + 3 * 136));
        for i in 0..6 {
            let (x, y) = (left + i % 2 * 136, top + i / 2 * 136);
            for (dx, dy) in [(0, 0), (127, 127), (64, 3)] {
                assert_eq!(usize::from(at(&image, x + dx, y + dy)), 100 + i);
            }
            assert_eq!((at(&image, x + 128, y), at(&image, x, y + 128)), (255, 255));
        }
    }

    #[test]
    fn one_axis_wraps_and_three_make_blocks() {
        let axes = Axes::parse("seed=1,2,3,4,5,6,7,8,9").unwrap();
        let pictures: Vec<Image> = (0..9).map(|i| flat(128, 128, 100 + i)).collect();
        let image = sheet(&axes, &pictures).unwrap();
        assert_eq!((image.width, image.height), (8 + 8 * 136, 8 + 2 * (16 + 136)));
        let axes = Axes::parse("seed=1,2 x steps=1 x size=64,128").unwrap();
        let pictures = [flat(64, 64, 1), flat(64, 64, 2), flat(128, 128, 3), flat(128, 128, 4)];
        let image = sheet(&axes, &pictures).unwrap();
        assert_eq!(image.height, 8 + 2 * (20 + 16 + 136));
        // The small one in the middle of its place.
        assert_eq!((at(&image, 8 + 42 + 8 + 31, 44 + 64), at(&image, 8 + 42 + 8 + 32, 44 + 64)), (255, 1));
    }
}
