//! What block encodings share: the [`Block`] trait that turns a struct of bytes into an
//! [`Encoding`](super::Encoding), and the bit packings that recur in them.

mod bits;
mod block;
mod group_scales;
mod scalar;

pub use bits::{pack, unpack};
pub use block::{Block, of};
pub use group_scales::{pack_group_scales, unpack_group_scales};
pub use scalar::{Half, reciprocal, round_half_away, signed_max};
