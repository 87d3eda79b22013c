//! Sterna: the one binary.

fn main() {}
