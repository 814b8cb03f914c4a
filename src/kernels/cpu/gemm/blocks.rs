//! How a product's long sums are cut: from channels and taps to blocks of pieces. Rounding depends on this and on
//! nothing else, so it looks at neither rows nor threads.

/// Most lines of B in a block: with 256 rows of A it fits the second-level cache.
pub const BLOCK: usize = 512;
/// Most pieces of a block: nine taps of two sources, and two of them cut.
pub const PIECES: usize = 20;

/// Neighbouring channels of one tap of one source.
#[derive(Clone, Copy, Default)]
pub struct ChannelRun {
    /// Which source.
    pub source: usize,
    /// Which tap.
    pub tap: usize,
    /// First channel.
    pub first: usize,
    /// Channels.
    pub len: usize,
}

/// One block of a sum: lines `from .. from + len` of a panel.
pub struct Block {
    pieces: [ChannelRun; PIECES],
    count: usize,
    /// Its first line in a panel.
    pub from: usize,
    /// Its lines.
    pub len: usize,
}

impl Block {
    /// Its pieces, in the order of the lines.
    pub fn pieces(&self) -> &[ChannelRun] {
        &self.pieces[..self.count]
    }
}

/// All blocks, in order.
pub struct Blocks {
    channels: [usize; 2],
    sources: usize,
    taps: usize,
    /// What comes next.
    at: ChannelRun,
    from: usize,
    most: usize,
}

impl Blocks {
    /// The blocks for one or two sources with these channels.
    pub fn new(channels: &[usize], taps: usize) -> Self {
        let total = taps * channels.iter().sum::<usize>();
        // Even blocks: 2880 becomes 6 of 480 rather than 5 of 512 and one of 320.
        let most = total.div_ceil(total.div_ceil(BLOCK).max(1)).next_multiple_of(16).min(BLOCK);
        let mut both = [0; 2];
        both[..channels.len()].copy_from_slice(channels);
        Self { channels: both, sources: channels.len(), taps, at: ChannelRun::default(), from: 0, most }
    }
}

impl Iterator for Blocks {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let mut block = Block { pieces: [ChannelRun::default(); PIECES], count: 0, from: self.from, len: 0 };
        while block.count < PIECES && block.len < self.most && self.at.tap < self.taps {
            let channels = self.channels[self.at.source];
            let len = (channels - self.at.first).min(self.most - block.len);
            block.pieces[block.count] = ChannelRun { len, ..self.at };
            block.count += 1;
            block.len += len;
            self.at.first += len;
            if self.at.first == channels {
                self.at = match self.at.source + 1 < self.sources {
                    true => ChannelRun { source: self.at.source + 1, tap: self.at.tap, ..ChannelRun::default() },
                    false => ChannelRun { tap: self.at.tap + 1, ..ChannelRun::default() },
                };
            }
        }
        self.from += block.len;
        (block.len > 0).then_some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_line_once() {
        for (channels, taps) in
            [(&[1][..], 1), (&[320], 9), (&[1, 1], 9), (&[1280, 640], 9), (&[513], 1), (&[3, 700], 9)]
        {
            let mut line = 0;
            for block in Blocks::new(channels, taps) {
                assert!(block.from == line && block.len <= BLOCK);
                for piece in block.pieces() {
                    let before: usize = channels[..piece.source].iter().sum();
                    assert_eq!(piece.tap * channels.iter().sum::<usize>() + before + piece.first, line);
                    line += piece.len;
                }
            }
            assert_eq!(line, taps * channels.iter().sum::<usize>());
        }
    }
}
