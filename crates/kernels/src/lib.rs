//! Computes on encoded tensors as fast as this CPU can; the only home of SIMD.
//!
//! In: encoded weights, packed 16 rows to a panel ([`packed`]), and activations prepared for them
//! ([`acts`]). Out: the numbers that the encoding defines ([`define`]), bit for bit the same on
//! every ISA, for any number of rows, and however the work is divided.
#![deny(unsafe_code)]
// Kernels index small arrays by the row of a tile: it is the clearest way to say what they do.
#![allow(clippy::needless_range_loop)]

#[allow(unsafe_code)]
pub mod isa;
#[allow(unsafe_code)]
pub mod table;

pub mod acts;
pub mod attention;
pub mod define;
pub mod dot;
pub mod elementwise;
pub mod math;
pub mod norm;
pub mod packed;
pub mod prepared;
pub mod probe;
pub mod rope;

pub use isa::{Isa, Kernel, Line};
pub use packed::PackedShape;
pub use prepared::Prepared;
pub use table::{ColumnsMut, ISAS, Level};
