//! Packed weights: the bytes a program keeps, laid out once for every ISA.

use crate::dot::bf16::Bf16Dots;
use crate::dot::{FORMATS, Format, PANEL};
use crate::isa::Line;
use std::ops::Range;
use sterna_formats::EncodingRef;

/// The layout of a packed `[rows, cols]` matrix.
#[derive(Clone, Copy)]
pub struct PackedShape {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// The encoding the numbers came in.
    pub encoding: EncodingRef,
    /// The packed format.
    pub format: &'static dyn Format,
    /// Panels of 16 rows, the last perhaps with fewer.
    pub n_panels: usize,
    /// Lines of one panel.
    pub panel_lines: usize,
    /// The smallest code of the encoding (0 for floats).
    pub code_min: i32,
}

impl PackedShape {
    /// The layout for a matrix in `encoding`; `cols` fits the encoding's blocks and, for block
    /// encodings, is a multiple of 16 as all blocks are.
    ///
    /// # Panics
    /// When no format takes the encoding: every block encoding is taken by its integer view.
    pub fn new(encoding: EncodingRef, rows: usize, cols: usize) -> Self {
        let format = FORMATS
            .iter()
            .copied()
            .find(|f| f.takes(encoding))
            .unwrap_or_else(|| panic!("{encoding:?} has neither an integer view nor a format"));
        Self::of(format, encoding, rows, cols)
    }

    /// The layout for a BF16 matrix that meets activations rounded to bf16.
    ///
    /// # Panics
    /// When the encoding is another.
    pub fn for_bf16_dots(encoding: EncodingRef, rows: usize, cols: usize) -> Self {
        assert!(Bf16Dots.takes(encoding), "{encoding:?} is not BF16");
        Self::of(&Bf16Dots, encoding, rows, cols)
    }

    fn of(format: &'static dyn Format, encoding: EncodingRef, rows: usize, cols: usize) -> Self {
        assert!(encoding.fits(cols), "rows of {cols} do not fit {encoding:?}");
        Self {
            rows,
            cols,
            encoding,
            format,
            n_panels: rows.div_ceil(PANEL),
            panel_lines: format.panel_lines(cols),
            code_min: encoding.grid().map_or(0, |g| i32::from(g.code_min)),
        }
    }

    /// Lines of the whole matrix.
    pub fn total_lines(&self) -> usize {
        self.n_panels * self.panel_lines
    }

    /// The matrix rows of some panels.
    pub fn rows_of(&self, panels: Range<usize>) -> Range<usize> {
        panels.start * PANEL..(panels.end * PANEL).min(self.rows)
    }

    /// Packs some panels from exactly their encoded rows; `out` has their lines.
    pub fn pack(&self, panels: Range<usize>, rows: &[u8], out: &mut [Line]) {
        let panel_bytes = PANEL * self.encoding.row_bytes(self.cols);
        assert_eq!(out.len(), panels.len() * self.panel_lines);
        let panels = rows.chunks(panel_bytes).zip(out.chunks_exact_mut(self.panel_lines));
        for (rows, panel) in panels {
            self.format.pack(self.encoding, rows, self.cols, panel);
        }
    }
}
