//! Rotary position embedding as a step of its own, where attention does not do it.

use super::{Rows, Run, Step, row_tiles};
use crate::RuntimeError;
use crate::lower::Lowering;
use crate::team::{Io, Items, Split};
use sterna_kernels::rope::{Rope, RopePairs};
use sterna_model::ops::{self, RopeLayout};

/// A rotation: its table and the features it turns.
#[derive(Clone, Debug)]
pub struct Turn {
    table: usize,
    n_pairs: usize,
    head_dim: usize,
    pairs: RopePairs,
}

impl Turn {
    /// The rotation of a node.
    pub fn of(l: &mut Lowering<'_>, n: usize) -> Self {
        let op: &ops::Rope = l.op(n);
        let pairs = match op.layout {
            RopeLayout::Interleaved => RopePairs::Interleaved,
            RopeLayout::Half => RopePairs::Half,
        };
        let (n_pairs, head_dim) = (op.rotary_dim / 2, op.head_dim);
        Self { table: l.table(n), n_pairs, head_dim, pairs }
    }

    /// Turns the heads of one row in place.
    pub fn apply(&self, run: &Run<'_>, position: usize, heads: &mut [f32]) {
        let table = &run.tables[self.table];
        let at = position * self.n_pairs;
        let (cos, sin) = (&table.cos[at..][..self.n_pairs], &table.sin[at..][..self.n_pairs]);
        run.level.run(Rope { heads, head_dim: self.head_dim, cos, sin, pairs: self.pairs });
    }
}

/// The step.
struct TurnRows {
    turn: Turn,
    len: usize,
    rows: Rows,
}

impl Step for TurnRows {
    fn kind(&self) -> &'static str {
        "rope"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let out = io.rows(0);
        let rows = io.items();
        out.copy_from_slice(&io.floats(0)[rows.start * self.len..rows.end * self.len]);
        for (row, heads) in rows.zip(out.chunks_exact_mut(self.len)) {
            self.turn.apply(run, run.batch.position_of(self.rows, row), heads);
        }
    }
}

/// Lowers a `rope` node.
pub fn lower(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let (rows, len) = (l.rows(n), l.features(node.outputs[0]));
    let step = TurnRows { turn: Turn::of(l, n), len, rows };
    let input = l.input(node.inputs[0], rows);
    let out = l.output(node.outputs[0], rows);
    l.emit(node.name.clone(), rows, step, vec![input], vec![(out, Split::Rows { len })]);
    Ok(())
}
