//! The state of rows before the head, after the last norm: what the model makes of a text, for
//! those who ask for that instead of the next token. An encoder has no head; its result is the
//! state.

use super::norm::Norm;
use super::{Rows, Run, Step, row_tiles};
use crate::fuse::{Uses, is_norm};
use crate::lower::{Lowering, Place};
use crate::team::{Io, Items, Split};
use crate::{RuntimeError, Settings};
use sterna_model::Graph;
use sterna_model::ops::Linear;

/// Where states before the head lie in the arena.
#[derive(Clone, Copy, Debug)]
pub struct Hidden {
    /// The first row, in f32.
    pub start: usize,
    /// Features of a row.
    pub len: usize,
}

/// The node of the head, where states before it are to be kept: the result's, if it is linear.
pub fn head(graph: &Graph, uses: &Uses<'_>, settings: &Settings) -> Option<usize> {
    let head = uses.producer(graph.output?)?;
    (settings.hidden && graph.nodes[head].op.as_any().is::<Linear>()).then_some(head)
}

/// The step. It normalizes again what the head's preparation normalizes for rows of its own.
struct HiddenRows {
    norm: Option<Norm>,
    len: usize,
}

impl Step for HiddenRows {
    fn kind(&self) -> &'static str {
        "hidden"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        row_tiles(n_rows)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let (rows, first) = (io.items(), run.batch.n_logits);
        let x = &io.floats(0)[(first + rows.start) * self.len..(first + rows.end) * self.len];
        match &self.norm {
            Some(norm) => norm.apply(run, x, io.rows(0)),
            None => io.rows(0).copy_from_slice(x),
        }
    }
}

/// Lowers what the node `head` reads, for rows that want that; where it is left, and its features.
///
/// # Errors
/// When a norm's weight is no vector.
pub fn lower(l: &mut Lowering<'_>, head: usize) -> Result<(Place, usize), RuntimeError> {
    let value = l.graph.nodes[head].inputs[0];
    let producer = l.uses.producer(value).filter(|&n| is_norm(&*l.graph.nodes[n].op));
    let (source, norm) = match producer {
        Some(n) => (l.graph.nodes[n].inputs[0], Some(Norm::of(l, n)?)),
        None => (value, None),
    };
    let len = l.features(value);
    let (from, to) = (l.input(source, Rows::Wanted), l.buffer(len));
    let name = format!("{}.hidden", l.graph.values[value.0].name);
    let step = HiddenRows { norm, len };
    l.emit(name, Rows::Hidden, step, vec![from], vec![(to, Split::Rows { len })]);
    Ok((to, len))
}
