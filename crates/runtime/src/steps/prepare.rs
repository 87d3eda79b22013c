//! Prepares activations for linear layers, once for all layers that read the same value: normalizes
//! (where a norm is computed here), quantizes and lays rows side by side.

use super::norm::Norm;
use super::{Rows, Run, Step, row_tiles};
use crate::RuntimeError;
use crate::lower::{Lowering, Prepared};
use crate::team::{Io, Items, Split};
use sterna_kernels::PackedShape;
use sterna_kernels::acts::{QuantLayout, QuantizeTile, TILES, interleave, tiles};
use sterna_model::ops::{Linear, RmsNorm};
use sterna_model::{ValueId, WeightSource};

/// The step. Writes codes and scales (where quantized), then floats (where asked for).
struct Prepare {
    layout: QuantLayout,
    norm: Option<Norm>,
    quant: bool,
    float: bool,
}

impl Step for Prepare {
    fn kind(&self) -> &'static str {
        "prepare"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn scratch_lines(&self, _max_rows: usize, _context_len: usize) -> usize {
        match &self.norm {
            Some(_) => (TILES[0] * self.layout.cols).div_ceil(16),
            None => 0,
        }
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let (layout, rows) = (self.layout, io.items());
        let cols = layout.cols;
        let x = &io.floats(0)[rows.start * cols..rows.end * cols];
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(io.scratch());
        let (ints, scales): (&mut [i32], &mut [f32]) =
            if self.quant { (io.int_rows(0), io.rows(1)) } else { (&mut [], &mut []) };
        let floats: &mut [f32] =
            if self.float { io.rows(if self.quant { 2 } else { 0 }) } else { &mut [] };
        for (first, width) in tiles(rows.len()) {
            let mut x = &x[first * cols..][..width * cols];
            if let Some(norm) = &self.norm {
                let normed = &mut scratch[..width * cols];
                norm.apply(run, x, normed);
                x = &scratch[..width * cols];
            }
            if self.quant {
                let ints = &mut ints[first * layout.ints()..][..width * layout.ints()];
                let scales = &mut scales[first * layout.chunks()..][..width * layout.chunks()];
                run.level.run(QuantizeTile { layout, width, x, ints, scales });
            }
            if self.float {
                interleave(x, width, cols, &mut floats[first * cols..][..width * cols]);
            }
        }
    }
}

/// The prepared form of a value, made on first use for all linear layers that will read it.
///
/// # Errors
/// When a norm's weight is no vector.
pub fn prepared(
    l: &mut Lowering<'_>,
    value: ValueId,
    rows: Rows,
) -> Result<Prepared, RuntimeError> {
    if let Some(&known) = l.prepared.get(&(value, rows)) {
        return Ok(known);
    }
    let (quant, float) = forms_wanted(l, value, rows);
    let producer = l.uses.producer(value).filter(|n| l.fusions.absorbed.contains(n));
    let norm = producer.filter(|&n| l.graph.nodes[n].op.as_any().is::<RmsNorm>());
    let (source, norm) = match norm {
        Some(n) => (l.graph.nodes[n].inputs[0], Some(Norm::of(l, n)?)),
        None => (value, None),
    };
    let layout = QuantLayout { cols: l.features(value) };
    let input = l.input(source, rows);
    let (mut prepared, mut writes) = (Prepared::default(), Vec::new());
    if quant {
        let (ints, scales) = (l.buffer(layout.ints()), l.buffer(layout.chunks()));
        prepared.quant = Some((ints, scales));
        writes.push((ints, Split::Rows { len: layout.ints() }));
        writes.push((scales, Split::Rows { len: layout.chunks() }));
    }
    if float {
        let floats = l.buffer(layout.cols);
        prepared.float = Some(floats);
        writes.push((floats, Split::Rows { len: layout.cols }));
    }
    let name = format!("{}.prepare", l.graph.values[value.0].name);
    l.emit(name, rows, Prepare { layout, norm, quant, float }, vec![input], writes);
    l.prepared.insert((value, rows), prepared);
    Ok(prepared)
}

/// Whether linear layers on these rows read the value quantized, and whether as floats.
fn forms_wanted(l: &Lowering<'_>, value: ValueId, rows: Rows) -> (bool, bool) {
    let (mut quant, mut float) = (false, false);
    for &n in l.uses.consumers(value) {
        let node = &l.graph.nodes[n];
        let Some(linear) = node.op.as_any().downcast_ref::<Linear>() else { continue };
        if l.rows(n) != rows {
            continue;
        }
        for &weight in &node.weights[..linear.n_outputs()] {
            let quantized = is_quantized(l.source, weight, l.features(value));
            quant |= quantized;
            float |= !quantized;
        }
    }
    (quant, float)
}

fn is_quantized(source: &dyn WeightSource, weight: sterna_model::WeightId, cols: usize) -> bool {
    let encoding = source.encoding(weight);
    encoding.fits(cols) && PackedShape::new(encoding, 1, cols).format.quantized()
}
