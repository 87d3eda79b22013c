//! Puts the new keys and values into the KV cache, keys normed and turned on the way.

use super::heads::HeadPrep;
use super::{Run, Step};
use crate::kv::KvNode;
use crate::settings::PAGE_LEN;
use crate::team::{Io, Items};
use sterna_kernels::attention::KvAppend;

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
        self.node.shape.head_dim.div_ceil(16)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let (shape, n_heads) = (self.node.shape, self.node.n_heads);
        let (keys, values) = (io.floats(0), io.floats(1));
        let turned: &mut [f32] = bytemuck::cast_slice_mut(io.scratch());
        let turned = &mut turned[..shape.head_dim];
        let mut slots = io.slots(0);
        for head in io.items() {
            for part in &run.batch.parts {
                let pages = run.pages.pages(part.sequence);
                for row in 0..part.n_rows {
                    let from = ((part.first_row + row) * n_heads + head) * shape.head_dim;
                    let position = part.first_position + row;
                    self.prep.apply(run, position, &keys[from..][..shape.head_dim], turned);
                    run.level.run(KvAppend {
                        shape,
                        slot: slots.get(pages[position / PAGE_LEN] as usize, head),
                        at: position % PAGE_LEN,
                        key: turned,
                        value: &values[from..][..shape.head_dim],
                    });
                }
            }
        }
    }
}
