//! RMS and layer norm as a step of their own, where they are not computed while linear layers
//! prepare their input.

use super::{Run, Step, row_tiles};
use crate::RuntimeError;
use crate::lower::Lowering;
use crate::pack::Form;
use crate::team::{Io, Items, Split};
use std::ops::Range;
use sterna_kernels::norm::{LayerNorm, RmsNorm};
use sterna_model::ops;

/// A norm's weights and epsilon.
#[derive(Clone, Debug)]
pub struct Norm {
    /// The weight's lines.
    pub lines: Range<usize>,
    /// The bias's lines: a layer norm has one, an RMS norm none.
    pub bias: Option<Range<usize>>,
    /// Features normalized together.
    pub group_len: usize,
    /// Added to the mean square.
    pub eps: f32,
}

impl Norm {
    /// The norm of a node.
    ///
    /// # Errors
    /// When its weight is no vector.
    pub fn of(l: &mut Lowering<'_>, n: usize) -> Result<Self, RuntimeError> {
        let node = &l.graph.nodes[n];
        let (group_len, eps) = match node.op.as_any().downcast_ref::<ops::LayerNorm>() {
            Some(op) => (l.features(node.outputs[0]), op.eps),
            None => {
                let op: &ops::RmsNorm = l.op(n);
                (op.group_len, op.eps)
            }
        };
        let lines = l.lines(node.weights[0], Form::Floats)?;
        let bias = node.weights.get(1).map(|&bias| l.lines(bias, Form::Floats)).transpose()?;
        Ok(Self { lines, bias, group_len, eps })
    }

    /// Normalizes whole groups.
    pub fn apply(&self, run: &Run<'_>, x: &[f32], out: &mut [f32]) {
        let weight = run.vector(&self.lines, self.group_len);
        let eps = self.eps;
        match &self.bias {
            None => run.level.run(RmsNorm { x, weight, eps, out }),
            Some(bias) => {
                let bias = run.vector(bias, self.group_len);
                run.level.run(LayerNorm { x, weight, bias, eps, out });
            }
        }
    }
}

/// The step.
struct NormRows {
    norm: Norm,
    len: usize,
}

impl Step for NormRows {
    fn kind(&self) -> &'static str {
        if self.norm.bias.is_some() { "layer_norm" } else { "rms_norm" }
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let rows = io.items();
        let x = &io.floats(0)[rows.start * self.len..rows.end * self.len];
        self.norm.apply(run, x, io.rows(0));
    }
}

/// Lowers an `rms_norm` or `layer_norm` node.
pub fn lower(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let (rows, len) = (l.rows(n), l.features(node.outputs[0]));
    let step = NormRows { norm: Norm::of(l, n)?, len };
    let input = l.input(node.inputs[0], rows);
    let out = l.output(node.outputs[0], rows);
    l.emit(node.name.clone(), rows, step, vec![input], vec![(out, Split::Rows { len })]);
    Ok(())
}
