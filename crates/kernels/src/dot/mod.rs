//! Linear layers: packed weights and the kernels over them.
//!
//! Weights are packed 16 rows to a *panel*, a panel in *chunks* of 256 columns: header lines with
//! the scales, then code lines. A *unit* is 16 columns of 16 rows; its four *quads* are the
//! operands of [`Isa::dot`]. A packed format is one file here plus one line in [`FORMATS`]; every
//! block encoding without one runs through [`grid::Grid8`], its integer view at 8 bits per weight.

pub mod bf16;
pub mod float;
pub mod grid;
mod linear;
mod many;
mod pack;
pub mod q1_0;
pub mod q4_0;
pub mod q4_k;
pub mod q6_k;
pub mod q8_0;
pub mod tq2_0;

use crate::acts::{Bf16Acts, CHUNK, FloatActs, QuantActs, TILES};
use crate::isa::{Isa, Line};
use crate::table::{ColumnsMut, Level};
use sterna_formats::EncodingRef;

/// Rows in a panel: the lanes of a vector.
pub const PANEL: usize = 16;

/// Rows up to which weights are used as packed unless a caller says otherwise; beyond, chunks are
/// unpacked for all tiles.
pub const FEW_ROWS: usize = 8;

/// Whether so many rows use weights as packed, `few_rows` being the most that may: a full tile of
/// rows never does.
#[inline(always)]
pub fn is_few(n_rows: usize, few_rows: usize) -> bool {
    n_rows <= few_rows.min(TILES[0] - 1)
}

/// How many lines ahead of those in use weights are asked for: what hides the latency of memory
/// from one thread, by measurement (16 to 256 tried).
const AHEAD: usize = 32;

/// Every packed format; the first that takes an encoding packs it, unless a caller asks for bf16
/// dots by [`crate::PackedShape::for_bf16_dots`].
pub const FORMATS: &[&dyn Format] = &[
    &q8_0::Q8_0,
    &q4_0::Q4_0,
    &q4_k::Q4K,
    &q6_k::Q6K,
    &tq2_0::Tq2_0,
    &q1_0::Q1_0,
    &float::Float::<float::F32>::NEW,
    &float::Float::<float::F16>::NEW,
    &float::Float::<float::Bf16>::NEW,
    &bf16::Bf16Dots,
    &grid::Grid8::<16, false>,
    &grid::Grid8::<16, true>,
    &grid::Grid8::<32, false>,
    &grid::Grid8::<32, true>,
    &grid::Grid8::<256, false>,
];

/// A layout of packed weights and its kernels.
pub trait Format: Sync {
    /// Its name in profiles.
    fn name(&self) -> &'static str;
    /// Whether it packs this encoding.
    fn takes(&self, encoding: EncodingRef) -> bool;
    /// Lines of one panel of `cols` columns.
    fn panel_lines(&self, cols: usize) -> usize;
    /// Lines of scratch that [`Format::linear`] needs for more than [`FEW_ROWS`] rows.
    fn scratch_lines(&self) -> usize;
    /// Packs up to 16 encoded rows into one panel, whatever it held; missing rows become zeros.
    fn pack(&self, encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]);
    /// Computes a worker's share of a linear layer.
    fn linear(&self, level: Level, call: LinearCall<'_>);
    /// The form of activations that it takes.
    fn acts(&self) -> ActsForm;
}

/// A form of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActsForm {
    /// int8 codes with scales.
    Quant,
    /// f32.
    Float,
    /// bf16.
    Bf16,
}

/// Activations in one of the forms.
#[derive(Clone, Copy, Debug)]
pub enum Acts<'a> {
    /// For block encodings.
    Quant(QuantActs<'a>),
    /// For float encodings.
    Float(FloatActs<'a>),
    /// For BF16 weights by bf16 dots.
    Bf16(Bf16Acts<'a>),
}

/// One worker's share of a linear layer: `out[row, r] (+)= sum_k w[r, k] * x[row, k]`.
pub struct LinearCall<'a> {
    /// The panels' lines, `panels.len() * panel_lines`.
    pub lines: &'a [Line],
    /// Lines of one panel.
    pub panel_lines: usize,
    /// Columns (input features).
    pub cols: usize,
    /// The smallest code of the encoding (0 for floats).
    pub code_min: i32,
    /// The input rows.
    pub acts: Acts<'a>,
    /// Where the panels' outputs go; column 0 is the first row of the first panel.
    pub out: ColumnsMut<'a>,
    /// Adds to what is there (the residual stream) instead of replacing it.
    pub accumulate: bool,
    /// Rows up to which weights are used as packed; a full tile of rows never is. The numbers are
    /// the same.
    pub few_rows: usize,
    /// At least [`Format::scratch_lines`] lines of this worker's own.
    pub scratch: &'a mut [Line],
}

/// The integer kernels' view of a packed format; see the module's words.
pub trait Blocks: Sync + Sized + 'static {
    /// Its name in profiles.
    const NAME: &str;
    /// Columns that share a scale: 16, 32 or 256.
    const GROUP: usize;
    /// Whether groups have a min.
    const HAS_MIN: bool;
    /// The largest stored code.
    const MAX_CODE: u8;
    /// Lines of codes per unit.
    const UNIT_LINES: usize;
    /// Lines of scales per chunk.
    const HEADER_LINES: usize;

    /// Whether it packs this encoding.
    fn takes(encoding: EncodingRef) -> bool;
    /// The four quads of a unit, one byte a code.
    fn unit<I: Isa>(isa: I, lines: &[Line]) -> [I::B; 4];
    /// The scales of a group, one lane a row.
    fn scale<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F;
    /// The mins of a group; called only where there are some.
    fn min<I: Isa>(isa: I, header: &[Line], group: usize) -> I::F {
        let _ = (header, group);
        isa.splat(0.0)
    }
    /// Packs up to 16 encoded rows into one panel, whatever it held: through the integer view and
    /// the two functions below, unless the format has a way that gives the same faster.
    fn pack(encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        pack::by_view::<Self>(encoding, rows, cols, panel);
    }
    /// Packs a unit's codes, given one byte each.
    fn pack_unit(quads: &[Line; 4], lines: &mut [Line]);
    /// Packs one row's share of a chunk's header from its encoded bytes and integer view.
    fn pack_header(row: usize, chunk: &RowChunk<'_>, header: &mut [Line]);
}

/// One row's part of a chunk while packing.
pub struct RowChunk<'a> {
    /// The encoded blocks.
    pub bytes: &'a [u8],
    /// One scale a group.
    pub scales: &'a [f32],
    /// One min a group, or empty.
    pub mins: &'a [f32],
}

impl<B: Blocks> Format for B {
    fn name(&self) -> &'static str {
        B::NAME
    }
    fn takes(&self, encoding: EncodingRef) -> bool {
        B::takes(encoding)
    }
    fn panel_lines(&self, cols: usize) -> usize {
        cols.div_ceil(CHUNK) * B::HEADER_LINES + cols / 16 * B::UNIT_LINES
    }
    fn scratch_lines(&self) -> usize {
        many::SCRATCH
    }
    fn pack(&self, encoding: EncodingRef, rows: &[u8], cols: usize, panel: &mut [Line]) {
        B::pack(encoding, rows, cols, panel);
    }
    fn linear(&self, level: Level, call: LinearCall<'_>) {
        level.run(linear::Linear::<B>::new(call));
    }
    fn acts(&self) -> ActsForm {
        ActsForm::Quant
    }
}

/// Writes an f16 (as bits) for `row` into half line `group` of a header.
pub(crate) fn put_f16(header: &mut [Line], group: usize, row: usize, bits: u16) {
    let at = group % 2 * 32 + row * 2;
    header[group / 2].0[at..at + 2].copy_from_slice(&bits.to_le_bytes());
}

/// Two quads to a line of nibbles, low first.
pub(crate) fn nibbles(low: &Line, high: &Line) -> Line {
    Line(std::array::from_fn(|i| low.0[i] & 15 | high.0[i] << 4))
}
