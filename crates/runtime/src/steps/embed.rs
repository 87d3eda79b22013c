//! Looks up embeddings: decodes the encoded row of each token, of each position, or of a text's
//! type.

use super::{Rows, Run, Step, row_tiles};
use crate::RuntimeError;
use crate::lower::Lowering;
use crate::pack::Form;
use crate::team::{Io, Items, Split};
use std::ops::Range;
use sterna_formats::EncodingRef;
use sterna_kernels::elementwise::AddTo;

/// The step.
pub struct Embed {
    lines: Range<usize>,
    encoding: EncodingRef,
    cols: usize,
}

impl Step for Embed {
    fn kind(&self) -> &'static str {
        "embed"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let row_bytes = self.encoding.row_bytes(self.cols);
        let table: &[u8] = bytemuck::cast_slice(&run.weights[self.lines.clone()]);
        let rows = io.rows(0).chunks_exact_mut(self.cols);
        for (&token, out) in run.batch.tokens[io.items()].iter().zip(rows) {
            self.encoding.decode(&table[token as usize * row_bytes..][..row_bytes], out);
        }
    }
}

/// Which row of a table is added.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The position's.
    Position,
    /// The first: the type of a single text.
    First,
}

/// The step. Adds read 0 to a learned row.
struct Learned {
    lines: Range<usize>,
    encoding: EncodingRef,
    cols: usize,
    rows: Rows,
    which: Which,
}

impl Step for Learned {
    fn kind(&self) -> &'static str {
        match self.which {
            Which::Position => "position_embedding",
            Which::First => "type_embedding",
        }
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let row_bytes = self.encoding.row_bytes(self.cols);
        let table: &[u8] = bytemuck::cast_slice(&run.weights[self.lines.clone()]);
        let x = io.floats(0).chunks_exact(self.cols).skip(io.items().start);
        for ((row, x), out) in io.items().zip(x).zip(io.rows(0).chunks_exact_mut(self.cols)) {
            let at = match self.which {
                Which::Position => run.batch.position_of(self.rows, row),
                Which::First => 0,
            };
            self.encoding.decode(&table[at * row_bytes..][..row_bytes], out);
            run.level.run(AddTo { x, out });
        }
    }
}

/// Lowers a `position_embedding` node.
///
/// # Errors
/// When a context may be longer than the table.
pub fn lower_positions(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let table = node.weights[0];
    let n_positions = l.graph.decl(table).shape[0];
    if l.settings.context_len > n_positions {
        return Err(RuntimeError::Setting {
            field: "context_len",
            value: l.settings.context_len,
            reason: format!("the model has learned {n_positions} positions and knows no others"),
        });
    }
    lower_learned(l, n, Which::Position)
}

/// Lowers a `type_embedding` node.
///
/// # Errors
/// When the table cannot be read.
pub fn lower_types(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    lower_learned(l, n, Which::First)
}

fn lower_learned(l: &mut Lowering<'_>, n: usize, which: Which) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let table = node.weights[0];
    let (rows, cols) = (l.rows(n), l.features(node.outputs[0]));
    let lines = l.lines(table, Form::Encoded)?;
    let step = Learned { lines, encoding: l.source.encoding(table), cols, rows, which };
    let input = l.input(node.inputs[0], rows);
    let out = l.output(node.outputs[0], rows);
    l.emit(node.name.clone(), rows, step, vec![input], vec![(out, Split::Rows { len: cols })]);
    Ok(())
}

/// Lowers an `embedding` node.
pub fn lower(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let table = node.weights[0];
    let (rows, cols) = (l.rows(n), l.features(node.outputs[0]));
    let vocabulary = l.graph.decl(table).shape[0];
    l.vocabulary = if l.vocabulary == 0 { vocabulary } else { l.vocabulary.min(vocabulary) };
    let step =
        Embed { lines: l.lines(table, Form::Encoded)?, encoding: l.source.encoding(table), cols };
    let out = l.output(node.outputs[0], rows);
    l.emit(node.name.clone(), rows, step, vec![], vec![(out, Split::Rows { len: cols })]);
    Ok(())
}
