//! Prepares activations for linear layers, once for all layers that see the same value alike:
//! normalizes (where a norm is computed here), quantizes and lays rows side by side.
//!
//! Layers on int8 activations have codes with one scale per row, which is what their model means.
//! Their float weights meet the same codes as floats. For other layers, codes are the runtime's own
//! way to compute with block encodings, with a scale per 256 values, and floats stay as they are.

use super::norm::Norm;
use super::{Rows, Run, Step, row_tiles};
use crate::RuntimeError;
use crate::fuse::is_norm;
use crate::lower::{Lowering, Prepared};
use crate::team::{Io, Items, Split};
use sterna_kernels::PackedShape;
use sterna_kernels::acts::{
    LEAST_ROW_MAX, QuantLayout, QuantizeTile, RoundRows, ScaleOver, TILES, interleave, tiles,
};
use sterna_model::ops::{Activations, Linear};
use sterna_model::{ValueId, WeightSource};

const _: () = assert!(LEAST_ROW_MAX == Activations::LEAST_MAX);

/// The step. Writes codes and scales (where quantized), then floats (where asked for).
struct Prepare {
    layout: QuantLayout,
    norm: Option<Norm>,
    over: ScaleOver,
    quant: bool,
    float: bool,
}

impl Prepare {
    /// Whether floats are codes times their scale.
    fn rounds_floats(&self) -> bool {
        self.float && self.over == ScaleOver::Row
    }
}

impl Step for Prepare {
    fn kind(&self) -> &'static str {
        "prepare"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn scratch_lines(&self, _max_rows: usize, _context_len: usize) -> usize {
        let needed = self.norm.is_some() || self.rounds_floats();
        if needed { (TILES[0] * self.layout.cols).div_ceil(16) } else { 0 }
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let (layout, over, rows) = (self.layout, self.over, io.items());
        let cols = layout.cols;
        let x = &io.floats(0)[rows.start * cols..rows.end * cols];
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(io.scratch());
        let (ints, scales): (&mut [i32], &mut [f32]) =
            if self.quant { (io.int_rows(0), io.rows(1)) } else { (&mut [], &mut []) };
        let floats: &mut [f32] =
            if self.float { io.rows(if self.quant { 2 } else { 0 }) } else { &mut [] };
        for (first, width) in tiles(rows.len()) {
            let raw = &x[first * cols..][..width * cols];
            if let Some(norm) = &self.norm {
                norm.apply(run, raw, &mut scratch[..width * cols]);
            }
            if self.quant {
                let x = if self.norm.is_some() { &scratch[..width * cols] } else { raw };
                let ints = &mut ints[first * layout.ints()..][..width * layout.ints()];
                let scales = &mut scales[first * layout.chunks()..][..width * layout.chunks()];
                run.level.run(QuantizeTile { layout, over, width, x, ints, scales });
            }
            if self.rounds_floats() {
                let rounded = &mut scratch[..width * cols];
                if self.norm.is_none() {
                    rounded.copy_from_slice(raw);
                }
                run.level.run(RoundRows { cols, x: rounded });
            }
            if self.float {
                let in_scratch = self.norm.is_some() || self.rounds_floats();
                let x = if in_scratch { &scratch[..width * cols] } else { raw };
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
    activations: Activations,
) -> Result<Prepared, RuntimeError> {
    if let Some(&known) = l.prepared.get(&(value, rows, activations)) {
        return Ok(known);
    }
    let (quant, float) = forms_wanted(l, value, rows, activations);
    let producer = l.uses.producer(value).filter(|n| l.fusions.absorbed.contains(n));
    let norm = producer.filter(|&n| is_norm(&*l.graph.nodes[n].op));
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
    let (over, suffix) = match activations {
        Activations::Float => (ScaleOver::Chunk, "prepare"),
        Activations::Int8PerToken => (ScaleOver::Row, "prepare_int8"),
    };
    let name = format!("{}.{suffix}", l.graph.values[value.0].name);
    l.emit(name, rows, Prepare { layout, norm, over, quant, float }, vec![input], writes);
    l.prepared.insert((value, rows, activations), prepared);
    Ok(prepared)
}

/// Whether linear layers on these rows that see the value so read it quantized, and whether as
/// floats.
fn forms_wanted(
    l: &Lowering<'_>,
    value: ValueId,
    rows: Rows,
    activations: Activations,
) -> (bool, bool) {
    let (mut quant, mut float) = (false, false);
    for &n in l.uses.consumers(value) {
        let node = &l.graph.nodes[n];
        let Some(linear) = node.op.as_any().downcast_ref::<Linear>() else { continue };
        if l.rows(n) != rows || linear.activations != activations {
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
