//! Rows prepared for a packed matrix in memory of their own: for benchmarks and tests. The runtime
//! prepares rows in its arena, tile by tile.

use crate::acts::{
    Bf16Acts, FloatActs, QuantActs, QuantLayout, QuantizeTile, RoundRows, RoundToBf16, ScaleOver,
    bf16_words, interleave, tiles,
};
use crate::dot::{Acts, ActsForm};
use crate::{Level, PackedShape};

/// Rows of `cols` values in the form that a matrix takes on one ISA.
pub struct Prepared {
    layout: QuantLayout,
    n_rows: usize,
    form: ActsForm,
    ints: Vec<i32>,
    scales: Vec<f32>,
    values: Vec<f32>,
}

impl Prepared {
    /// The rows `x`, `[n_rows, cols]`, for kernels of this matrix on this ISA.
    pub fn new(level: Level, shape: &PackedShape, x: &[f32], over: ScaleOver) -> Self {
        let (cols, n_rows) = (shape.cols, x.len() / shape.cols);
        let layout = QuantLayout { cols };
        let form = shape.format.acts();
        let (mut ints, mut scales, mut values) = (Vec::new(), Vec::new(), Vec::new());
        if form == ActsForm::Quant {
            ints.resize(n_rows * layout.ints(), 0);
            scales.resize(n_rows * layout.chunks(), 0.0);
            for (first, width) in tiles(n_rows) {
                let x = &x[first * cols..][..width * cols];
                let ints = &mut ints[first * layout.ints()..][..width * layout.ints()];
                let scales = &mut scales[first * layout.chunks()..][..width * layout.chunks()];
                level.run(QuantizeTile { layout, over, width, x, ints, scales });
            }
        } else {
            let mut x = x.to_vec();
            level.run(RoundRows { over, cols, x: &mut x });
            if form == ActsForm::Bf16 {
                ints.resize(n_rows * bf16_words(cols), 0);
                level.run(RoundToBf16 { cols, n_rows, x: &x, words: &mut ints });
                return Self { layout, n_rows, form, ints, scales, values };
            }
            values.resize(x.len(), 0.0);
            for (first, width) in tiles(n_rows) {
                let range = first * cols..(first + width) * cols;
                interleave(&x[range.clone()], width, cols, &mut values[range]);
            }
        }
        Self { layout, n_rows, form, ints, scales, values }
    }

    /// What a kernel reads.
    pub fn acts(&self) -> Acts<'_> {
        let Self { layout, form, ints, scales, values, .. } = self;
        let (layout, cols, n_rows) = (*layout, layout.cols, self.n_rows);
        match form {
            ActsForm::Quant => Acts::Quant(QuantActs { layout, n_rows, ints, scales }),
            ActsForm::Float => Acts::Float(FloatActs { cols, n_rows, values }),
            ActsForm::Bf16 => Acts::Bf16(Bf16Acts { cols, n_rows, words: ints }),
        }
    }
}
