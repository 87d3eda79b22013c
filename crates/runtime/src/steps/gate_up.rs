//! Gate, up and what joins them (SwiGLU, squared ReLU) in one step: the two results of a panel meet
//! while they are in cache.

use super::elementwise::GateKind;
use super::linear::{ActsReads, Matrix};
use super::{Batch, Run, Step, Work, prepare};
use crate::RuntimeError;
use crate::lower::Lowering;
use crate::team::{Io, Items, Split};
use sterna_kernels::ColumnsMut;
use sterna_kernels::dot::PANEL;
use sterna_model::ops;

/// Panels of each matrix computed at a time: what the kernels for many rows take together.
const PANELS: usize = 2;

/// The step.
struct GateUp {
    gate: Matrix,
    up: Matrix,
    kind: GateKind,
    reads: ActsReads,
    /// Parts per worker.
    claims: usize,
}

impl Step for GateUp {
    fn kind(&self) -> &'static str {
        "gate_up"
    }

    fn items(&self, n_rows: usize, n_workers: usize) -> Items {
        let n_panels = if n_rows == 0 { 0 } else { self.gate.shape.n_panels };
        Items::panels(n_panels, n_workers, self.claims)
    }

    fn scratch_lines(&self, max_rows: usize, _context_len: usize) -> usize {
        // A line is 16 f32: a row of one panel.
        2 * PANELS * max_rows + self.gate.scratch_lines().max(self.up.scratch_lines())
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, n_rows: usize) {
        let Some((panels, mut out)) = io.columns(0, n_rows) else { return };
        let (results, scratch) = io.scratch().split_at_mut(2 * PANELS * n_rows);
        let (gate, up) = results.split_at_mut(PANELS * n_rows);
        let gate: &mut [f32] = bytemuck::cast_slice_mut(gate);
        let up: &mut [f32] = bytemuck::cast_slice_mut(up);
        let gate_acts = self.reads.acts(io, &self.gate, n_rows);
        let up_acts = self.reads.acts(io, &self.up, n_rows);
        let stride = PANELS * PANEL;
        for first in panels.clone().step_by(PANELS) {
            let some = first..panels.end.min(first + PANELS);
            let width = self.gate.shape.rows_of(some.clone()).len();
            let to = ColumnsMut::new(gate, n_rows, stride, 0..width);
            self.gate.apply(run, some.clone(), gate_acts, to, false, scratch);
            let to = ColumnsMut::new(up, n_rows, stride, 0..width);
            self.up.apply(run, some, up_acts, to, false, scratch);
            for row in 0..n_rows {
                let (gate, up) = (&gate[row * stride..][..width], &up[row * stride..][..width]);
                let out = &mut out.row(row)[(first - panels.start) * PANEL..][..width];
                self.kind.apply(run, gate, up, out);
            }
        }
    }

    fn amount(&self, n_rows: usize, _batch: &Batch) -> Work {
        self.gate.amount(n_rows) + self.up.amount(n_rows)
    }
}

/// Lowers a `linear` node of gate and up with the gate node that reads them.
pub fn lower(l: &mut Lowering<'_>, n: usize, reader: usize) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let rows = l.rows(n);
    let prepared = prepare::prepared(l, node.inputs[0], rows, l.op::<ops::Linear>(n).activations)?;
    let (reads, places) = ActsReads::of(l.features(node.inputs[0]), prepared);
    let (gate, up) = (l.matrix(node.weights[0])?, l.matrix(node.weights[1])?);
    let kind = GateKind::of(&*l.graph.nodes[reader].op).expect("fusing finds gates");
    let value = l.graph.nodes[reader].outputs[0];
    let stride = l.features(value);
    let out = l.output(value, rows);
    let claims = l.settings.tuning.claims;
    let step = GateUp { gate, up, kind, reads, claims };
    l.emit(node.name.clone(), rows, step, places, vec![(out, Split::Columns { first: 0, stride })]);
    Ok(())
}
