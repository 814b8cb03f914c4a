// statistics slot: none.
#import line_moments

const STATISTICS: bool = false;

fn leave(column: u32, q: u32, row: u32, count: u32) {}
