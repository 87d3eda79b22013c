//! Rows prepared for a packed matrix in memory of their own: for benchmarks and tests. The runtime
//! prepares rows in its arena, tile by tile.

use crate::acts::{
    FloatActs, QuantActs, QuantLayout, QuantizeTile, RoundRows, ScaleOver, interleave, tiles,
};
use crate::dot::Acts;
use crate::{Level, PackedShape};

/// Rows of `cols` values in the form that a matrix takes on one ISA.
pub struct Prepared {
    layout: QuantLayout,
    n_rows: usize,
    is_quantized: bool,
    ints: Vec<i32>,
    scales: Vec<f32>,
    values: Vec<f32>,
}

impl Prepared {
    /// The rows `x`, `[n_rows, cols]`, for kernels of this matrix on this ISA.
    pub fn new(level: Level, shape: &PackedShape, x: &[f32], over: ScaleOver) -> Self {
        let (cols, n_rows) = (shape.cols, x.len() / shape.cols);
        let layout = QuantLayout { cols };
        let is_quantized = shape.format.quantized();
        let (mut ints, mut scales, mut values) = (Vec::new(), Vec::new(), Vec::new());
        if is_quantized {
            ints.resize(n_rows * layout.ints(), 0);
            scales.resize(n_rows * layout.chunks(), 0.0);
            for (first, width) in tiles(n_rows) {
                let x = &x[first * cols..][..width * cols];
                let ints = &mut ints[first * layout.ints()..][..width * layout.ints()];
                let scales = &mut scales[first * layout.chunks()..][..width * layout.chunks()];
                level.run(QuantizeTile { layout, over, width, x, ints, scales });
            }
        } else {
            values.resize(x.len(), 0.0);
            let mut x = x.to_vec();
            if over == ScaleOver::Row {
                level.run(RoundRows { cols, x: &mut x });
            }
            for (first, width) in tiles(n_rows) {
                let range = first * cols..(first + width) * cols;
                interleave(&x[range.clone()], width, cols, &mut values[range]);
            }
        }
        Self { layout, n_rows, is_quantized, ints, scales, values }
    }

    /// What a kernel reads.
    pub fn acts(&self) -> Acts<'_> {
        let Self { layout, n_rows, ints, scales, values, .. } = self;
        match self.is_quantized {
            true => Acts::Quant(QuantActs { layout: *layout, n_rows: *n_rows, ints, scales }),
            false => Acts::Float(FloatActs { cols: layout.cols, n_rows: *n_rows, values }),
        }
    }
}
