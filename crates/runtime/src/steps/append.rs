//! Puts the new keys and values into the KV cache, keys normed and turned on the way.

use super::heads::HeadPrep;
use super::{Run, Step};
use crate::kv::KvNode;
use crate::team::{Io, Items};
use sterna_kernels::attention::{KvAppend, PAGE_LEN, Rows, pages as kv_pages};

/// The step. Reads keys and values, an item is a KV head.
pub struct Append {
    /// What happens to keys first.
    pub prep: HeadPrep,
    /// The attention node's place in pages.
    pub node: KvNode,
}

impl Step for Append {
    fn kind(&self) -> &'static str {
        "kv_append"
    }

    fn items(&self, n_rows: usize, _n_workers: usize) -> Items {
        Items { count: if n_rows == 0 { 0 } else { self.node.n_heads }, chunk: 1 }
    }

    fn scratch_lines(&self, _max_rows: usize, _context_len: usize) -> usize {
        (PAGE_LEN * self.node.shape.head_dim).div_ceil(16)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let (shape, stride) = (self.node.shape, self.node.n_heads * self.node.shape.head_dim);
        let turned: &mut [f32] = bytemuck::cast_slice_mut(io.scratch());
        let mut slots = io.slots(0);
        for head in io.items() {
            let (keys, values) =
                (&io.floats(0)[head * shape.head_dim..], &io.floats(1)[head * shape.head_dim..]);
            for part in &run.batch.parts {
                let pages = run.batch.pages_of(part);
                let end = part.first_position + part.n_rows;
                for (page, within) in kv_pages(part.first_position..end) {
                    let position = page * PAGE_LEN + within.start;
                    let row = part.first_row + position - part.first_position;
                    let from = row * stride;
                    let rows = turned.chunks_exact_mut(shape.head_dim).take(within.len());
                    for (i, to) in rows.enumerate() {
                        let key = &keys[from + i * stride..][..shape.head_dim];
                        self.prep.apply(run, position + i, key, to);
                    }
                    run.level.run(KvAppend {
                        shape,
                        slot: slots.get(pages[page] as usize, head),
                        at: within.start,
                        n: within.len(),
                        keys: Rows { features: turned, stride: shape.head_dim },
                        values: Rows { features: &values[from..], stride },
                    });
                }
            }
        }
    }
}
