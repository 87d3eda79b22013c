//! What block encodings share: the [`Block`] trait that turns a struct of bytes into an
//! [`Encoding`](super::Encoding), the bit packings that recur in them, and the searches for scales.

mod affine;
mod bits;
mod block;
mod group_scales;
mod scalar;
mod symmetric;
mod tunable;
mod weighted;

pub use affine::{Affine, AffineBlock};
pub use bits::{above, pack, unpack};
pub use block::{Block, of};
pub use group_scales::{pack_group_scales, unpack_group_scales};
pub use scalar::{Half, reciprocal, round_half_away, signed_max};
pub use symmetric::{Symmetric, SymmetricBlock};
pub use tunable::{Codes, Tunable};
pub use weighted::round;
