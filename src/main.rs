//! The `lienzo` command.

fn main() {}
