//! SwiGLU and addition as steps of their own, where linear layers do not do them.

use super::{Run, Step, row_tiles};
use crate::RuntimeError;
use crate::lower::Lowering;
use crate::team::{Io, Items, Split};
use sterna_kernels::elementwise::{AddTo, SwiGlu};

/// `silu(read 0) * read 1`.
struct Gate {
    len: usize,
}

impl Step for Gate {
    fn kind(&self) -> &'static str {
        "swiglu"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let part = io.items().start * self.len..io.items().end * self.len;
        let (gate, up) = (&io.floats(0)[part.clone()], &io.floats(1)[part]);
        run.level.run(SwiGlu { gate, up, out: io.rows(0) });
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

/// Lowers a `swiglu` node.
pub fn lower_swiglu(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let len = l.features(l.graph.nodes[n].outputs[0]);
    lower(l, n, Gate { len }, len)
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
