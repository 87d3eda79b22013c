//! A block encoding is a struct of bytes that can show its integer view and be made from values.
//!
//! In: a [`Block`], e.g. [`Q4_0`](super::super::q4_0::Q4_0). Out: an [`Encoding`] over slices of
//! such blocks. `decode` is derived from the integer view, so the two cannot disagree.

use std::marker::PhantomData;

use bytemuck::Pod;

use super::super::{Codes, Encoding, EncodingRef, Grid, Tunable};

/// Values in the largest block.
const MAX_LEN: usize = 256;
/// Groups in the largest block.
const MAX_GROUPS: usize = 16;

/// One block as it lies in a file: `LEN` values in `size_of::<Self>()` bytes. Its fields are bytes,
/// so that a block may start at any address.
pub trait Block: Pod + Send + Sync {
    /// The name users know.
    const NAME: &'static str;
    /// The type number in GGUF files.
    const GGML_TYPE: u32;
    /// Values per block.
    const LEN: usize;
    /// Where its factors are, as [`Tunable::factors`] says.
    const FACTORS: &'static [usize];
    /// The codes that a value may have.
    const CODES: Codes;
    /// The shape of the integer view.
    const GRID: Grid;

    /// Writes the integer view: `LEN` codes, and a scale (and a min, if the grid has them) per
    /// group.
    fn read(&self, codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]);

    /// Replaces the codes, as [`Block::read`] shows them, and nothing else.
    fn set_codes(&mut self, codes: &[i8]);

    /// The block nearest to `LEN` values, where `importance` weighs each value's squared error.
    fn write(values: &[f32], importance: Option<&[f32]>) -> Self;
}

/// The encoding whose blocks are `B`.
pub const fn of<B: Block>() -> EncodingRef {
    const {
        assert!(align_of::<B>() == 1 && B::LEN <= MAX_LEN);
        assert!(B::LEN.is_multiple_of(B::GRID.group_len));
        assert!(B::LEN / B::GRID.group_len <= MAX_GROUPS);
    }
    &Blocks::<B>(PhantomData)
}

struct Blocks<B>(PhantomData<B>);

impl<B: Block> Encoding for Blocks<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn ggml_type(&self) -> u32 {
        B::GGML_TYPE
    }

    fn block_len(&self) -> usize {
        B::LEN
    }

    fn block_bytes(&self) -> usize {
        size_of::<B>()
    }

    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        let blocks: &[B] = bytemuck::cast_slice(bytes);
        assert_eq!(blocks.len() * B::LEN, values.len());
        let mut codes = [0; MAX_LEN];
        let mut scales = [0.0; MAX_GROUPS];
        let mut mins = [0.0; MAX_GROUPS];
        let codes = &mut codes[..B::LEN];
        let n_groups = B::LEN / B::GRID.group_len;
        for (block, values) in blocks.iter().zip(values.chunks_exact_mut(B::LEN)) {
            block.read(codes, &mut scales[..n_groups], &mut mins[..n_groups]);
            let groups = values.chunks_exact_mut(B::GRID.group_len);
            for (i, (values, codes)) in groups.zip(codes.chunks(B::GRID.group_len)).enumerate() {
                decode_group::<B>(codes, scales[i], mins[i], values);
            }
        }
    }

    fn grid(&self) -> Option<Grid> {
        Some(B::GRID)
    }

    fn read_grid(&self, bytes: &[u8], codes: &mut [i8], scales: &mut [f32], mins: &mut [f32]) {
        let blocks: &[B] = bytemuck::cast_slice(bytes);
        assert_eq!(blocks.len() * B::LEN, codes.len());
        let n_groups = B::LEN / B::GRID.group_len;
        let parts = codes.chunks_exact_mut(B::LEN).zip(scales.chunks_exact_mut(n_groups));
        for (i, (block, (codes, scales))) in blocks.iter().zip(parts).enumerate() {
            let mins =
                if B::GRID.has_min { &mut mins[i * n_groups..][..n_groups] } else { &mut [] };
            block.read(codes, scales, mins);
        }
    }

    fn tunable(&self) -> Option<&dyn Tunable> {
        Some(self)
    }

    fn encode(&self, values: &[f32], importance: Option<&[f32]>, bytes: &mut [u8]) {
        let blocks: &mut [B] = bytemuck::cast_slice_mut(bytes);
        assert_eq!(blocks.len() * B::LEN, values.len());
        for (i, (block, values)) in blocks.iter_mut().zip(values.chunks_exact(B::LEN)).enumerate() {
            *block = B::write(values, importance.map(|all| &all[i * B::LEN..][..B::LEN]));
        }
    }
}

impl<B: Block> Tunable for Blocks<B> {
    fn codes(&self) -> Codes {
        B::CODES
    }

    fn write_codes(&self, codes: &[i8], bytes: &mut [u8]) {
        let blocks: &mut [B] = bytemuck::cast_slice_mut(bytes);
        assert_eq!(blocks.len() * B::LEN, codes.len());
        let parts = codes.chunks_exact(B::LEN);
        blocks.iter_mut().zip(parts).for_each(|(block, codes)| block.set_codes(codes));
    }

    fn factors(&self) -> &'static [usize] {
        B::FACTORS
    }
}

fn decode_group<B: Block>(codes: &[i8], scale: f32, min: f32, values: &mut [f32]) {
    for (value, &code) in values.iter_mut().zip(codes) {
        let product = scale * f32::from(code);
        *value = if B::GRID.has_min { product + min } else { product };
    }
}
