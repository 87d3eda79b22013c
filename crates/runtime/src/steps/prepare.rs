//! Prepares activations for linear layers, once for all layers that see the same value alike:
//! normalizes (where a norm is computed here), quantizes and lays rows side by side.
//!
//! Layers on int8 activations have codes with one scale per row, or one for all, which is what
//! their model means.
//! Their float weights meet the same codes as floats. For other layers, codes are the runtime's own
//! way to compute with block encodings, with a scale per 256 values, and floats stay as they are,
//! or become bf16 where the settings say so.

use super::norm::Norm;
use super::{Rows, Run, Step, row_tiles};
use crate::RuntimeError;
use crate::fuse::is_norm;
use crate::lower::{Lowering, Prepared};
use crate::team::{Io, Items, Split};
use sterna_kernels::acts::{
    LEAST_ROW_MAX, QuantLayout, QuantizeTile, RoundRows, RoundToBf16, ScaleOver, TILES, bf16_words,
    interleave, tiles,
};
use sterna_kernels::dot::ActsForm;
use sterna_model::ops::{Activations, Linear};
use sterna_model::{ValueId, WeightId};

const _: () = assert!(LEAST_ROW_MAX == Activations::LEAST_MAX);

/// The step. Writes codes and scales, floats, and bf16: those that are asked for, in this order.
struct Prepare {
    layout: QuantLayout,
    norm: Option<Norm>,
    over: ScaleOver,
    wanted: Wanted,
}

/// The forms of activations that are asked for.
#[derive(Clone, Copy, Default)]
struct Wanted {
    quant: bool,
    float: bool,
    bf16: bool,
}

impl Prepare {
    /// Whether floats are codes times their scale.
    fn rounds_floats(&self) -> bool {
        (self.wanted.float || self.wanted.bf16) && self.over != ScaleOver::Chunk
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

    fn work(&self, io: &Io<'_>, run: &Run<'_>, n_rows: usize) {
        let (layout, over, rows) = (self.layout, self.over, io.items());
        let cols = layout.cols;
        let x = &io.floats(0)[rows.start * cols..rows.end * cols];
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(io.scratch());
        let Wanted { quant, float, bf16 } = self.wanted;
        let (ints, scales): (&mut [i32], &mut [f32]) =
            if quant { (io.int_rows(0), io.rows(1)) } else { (&mut [], &mut []) };
        let at = if quant { 2 } else { 0 };
        let floats: &mut [f32] = if float { io.rows(at) } else { &mut [] };
        let words: &mut [i32] = if bf16 { io.int_rows(at + usize::from(float)) } else { &mut [] };
        let len = bf16_words(cols);
        // A full tile of rows, or the rest, at a time.
        for first in (0..rows.len()).step_by(TILES[0]) {
            let n = TILES[0].min(rows.len() - first);
            let raw = &x[first * cols..][..n * cols];
            if let Some(norm) = &self.norm {
                norm.apply(run, raw, &mut scratch[..n * cols]);
            }
            for (at, width) in tiles(n).filter(|_| quant) {
                let x = if self.norm.is_some() { &scratch[..n * cols] } else { raw };
                let x = &x[at * cols..][..width * cols];
                let ints = &mut ints[(first + at) * layout.ints()..][..width * layout.ints()];
                let scales = &mut scales[(first + at) * layout.chunks()..];
                let scales = &mut scales[..width * layout.chunks()];
                run.level.run(QuantizeTile { layout, over, width, x, ints, scales });
            }
            if self.rounds_floats() {
                let rounded = &mut scratch[..n * cols];
                if self.norm.is_none() {
                    rounded.copy_from_slice(raw);
                }
                run.level.run(RoundRows { over, cols, x: rounded });
            }
            let in_scratch = self.norm.is_some() || self.rounds_floats();
            let x = if in_scratch { &scratch[..n * cols] } else { raw };
            if bf16 {
                let words = &mut words[first * len..][..n * len];
                run.level.run(RoundToBf16 { cols, n_rows, x, words });
            }
            for (at, width) in tiles(n).filter(|_| float) {
                let x = &x[at * cols..][..width * cols];
                interleave(x, width, cols, &mut floats[(first + at) * cols..][..width * cols]);
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
    let wanted = forms_wanted(l, value, rows, activations);
    let producer = l.uses.producer(value).filter(|n| l.fusions.absorbed.contains(n));
    let norm = producer.filter(|&n| is_norm(&*l.graph.nodes[n].op));
    let (source, norm) = match norm {
        Some(n) => (l.graph.nodes[n].inputs[0], Some(Norm::of(l, n)?)),
        None => (value, None),
    };
    let layout = QuantLayout { cols: l.features(value) };
    let input = l.input(source, rows);
    let (mut prepared, mut writes) = (Prepared::default(), Vec::new());
    if wanted.quant {
        let (ints, scales) = (l.buffer(layout.ints()), l.buffer(layout.chunks()));
        prepared.quant = Some((ints, scales));
        writes.push((ints, Split::Rows { len: layout.ints() }));
        writes.push((scales, Split::Rows { len: layout.chunks() }));
    }
    if wanted.float {
        let floats = l.buffer(layout.cols);
        prepared.float = Some(floats);
        writes.push((floats, Split::Rows { len: layout.cols }));
    }
    if wanted.bf16 {
        let len = bf16_words(layout.cols);
        let words = l.buffer(len);
        prepared.bf16 = Some(words);
        writes.push((words, Split::Rows { len }));
    }
    let (over, suffix) = match activations {
        Activations::Float => (ScaleOver::Chunk, "prepare"),
        Activations::Int8PerToken => (ScaleOver::Row, "prepare_int8"),
        Activations::Int8Static(range) => (ScaleOver::All(range.get()), "prepare_static_int8"),
    };
    let name = format!("{}.{suffix}", l.graph.values[value.0].name);
    l.emit(name, rows, Prepare { layout, norm, over, wanted }, vec![input], writes);
    l.prepared.insert((value, rows, activations), prepared);
    Ok(prepared)
}

/// The forms in which linear layers on these rows that see the value so read it.
fn forms_wanted(l: &Lowering<'_>, value: ValueId, rows: Rows, activations: Activations) -> Wanted {
    let mut wanted = Wanted::default();
    for &n in l.uses.consumers(value) {
        let node = &l.graph.nodes[n];
        let Some(linear) = node.op.as_any().downcast_ref::<Linear>() else { continue };
        if l.rows(n) != rows || linear.activations != activations {
            continue;
        }
        for &weight in &node.weights[..linear.n_outputs()] {
            match acts_form(l, weight, l.features(value)) {
                ActsForm::Quant => wanted.quant = true,
                ActsForm::Float => wanted.float = true,
                ActsForm::Bf16 => wanted.bf16 = true,
            }
        }
    }
    wanted
}

/// The form of activations that a matrix of so many columns takes. (One that does not fit is
/// refused when it is packed.)
fn acts_form(l: &Lowering<'_>, weight: WeightId, cols: usize) -> ActsForm {
    let encoding = l.source.encoding(weight);
    let fitting = Some(l.matrix_form(weight)).filter(|_| encoding.fits(cols));
    let panels = fitting.and_then(|form| form.panels(encoding, 1, cols));
    panels.map_or(ActsForm::Float, |shape| shape.format.acts())
}
