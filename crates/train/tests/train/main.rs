//! Training as a whole: forms against the runtime and finite differences, resuming, bad input.

mod common;
mod forms;
mod gradients;
mod learning;
mod qad;
mod resume;
