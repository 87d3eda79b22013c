//! Gates, GELU and addition as steps of their own, where linear layers do not do them.

use super::{Run, Step, row_tiles};
use crate::RuntimeError;
use crate::lower::Lowering;
use crate::team::{Io, Items, Split};
use sterna_kernels::elementwise::{AddTo, Gelu, Relu2, SwiGlu};
use sterna_model::{Op, ops};

/// What the gate of an MLP does to its up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// `silu(gate) * up`.
    SwiGlu,
    /// `relu(gate)^2 * up`.
    Relu2,
}

impl GateKind {
    /// The gate that an op is, if it is one.
    pub fn of(op: &dyn Op) -> Option<Self> {
        let op = op.as_any();
        let kinds = [(op.is::<ops::Swiglu>(), Self::SwiGlu), (op.is::<ops::Relu2>(), Self::Relu2)];
        kinds.into_iter().find_map(|(is, kind)| is.then_some(kind))
    }

    /// Computes it for slices of one length.
    pub fn apply(self, run: &Run<'_>, gate: &[f32], up: &[f32], out: &mut [f32]) {
        match self {
            Self::SwiGlu => run.level.run(SwiGlu { gate, up, out }),
            Self::Relu2 => run.level.run(Relu2 { gate, up, out }),
        }
    }
}

/// A gate, read 0, and its up, read 1.
struct Gate {
    kind: GateKind,
    len: usize,
}

impl Step for Gate {
    fn kind(&self) -> &'static str {
        match self.kind {
            GateKind::SwiGlu => "swiglu",
            GateKind::Relu2 => "relu2",
        }
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let part = io.items().start * self.len..io.items().end * self.len;
        let (gate, up) = (&io.floats(0)[part.clone()], &io.floats(1)[part]);
        self.kind.apply(run, gate, up, io.rows(0));
    }
}

/// `gelu(read 0)`.
struct GeluRows {
    len: usize,
}

impl Step for GeluRows {
    fn kind(&self) -> &'static str {
        "gelu"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let part = io.items().start * self.len..io.items().end * self.len;
        run.level.run(Gelu { x: &io.floats(0)[part], out: io.rows(0) });
    }
}

/// `read 0 + read 1`.
struct Add {
    len: usize,
}

impl Step for Add {
    fn kind(&self) -> &'static str {
        "add"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let part = io.items().start * self.len..io.items().end * self.len;
        let out = io.rows(0);
        out.copy_from_slice(&io.floats(0)[part.clone()]);
        run.level.run(AddTo { x: &io.floats(1)[part], out });
    }
}

/// Lowers a `swiglu` or `relu2` node.
pub fn lower_gate(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let len = l.features(l.graph.nodes[n].outputs[0]);
    let kind = GateKind::of(&*l.graph.nodes[n].op).expect("the lowering table sends gates");
    lower(l, n, Gate { kind, len }, len)
}

/// Lowers a `gelu` node.
pub fn lower_gelu(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let len = l.features(l.graph.nodes[n].outputs[0]);
    lower(l, n, GeluRows { len }, len)
}

/// Lowers an `add` node.
pub fn lower_add(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let len = l.features(l.graph.nodes[n].outputs[0]);
    lower(l, n, Add { len }, len)
}

fn lower(
    l: &mut Lowering<'_>,
    n: usize,
    step: impl Step + 'static,
    len: usize,
) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let rows = l.rows(n);
    let reads = node.inputs.iter().map(|&value| l.input(value, rows)).collect();
    let out = l.output(node.outputs[0], rows);
    l.emit(node.name.clone(), rows, step, reads, vec![(out, Split::Rows { len })]);
    Ok(())
}
