//! Sterna's chores.

fn main() {}
