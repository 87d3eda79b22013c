//! Attention: an item is a row and a KV head with the query heads that share it. Runs of rows of
//! one sequence are computed together, so that cached keys are read once for several queries.

use super::append::Append;
use super::heads::HeadPrep;
use super::{Batch, Run, Step, Work};
use crate::RuntimeError;
use crate::fuse::{HeadChain, head_chain};
use crate::kv::KvNode;
use crate::lower::{Lowering, Place};
use crate::team::{Io, Items, Split};
use std::ops::Range;
use sterna_kernels::ColumnsMut;
use sterna_kernels::attention::{Attend, KvEncoding, PAGE_LEN, Slots};
use sterna_model::ops;

/// Rows whose queries are prepared and computed together.
const BLOCK: usize = 32;

/// The step. Reads queries and the KV cache.
struct AttendStep {
    prep: HeadPrep,
    node: KvNode,
    page_lines: usize,
    /// Query heads per KV head.
    group: usize,
    window: usize,
    /// Whether a row sees no later ones.
    causal: bool,
    scale: f32,
}

impl AttendStep {
    /// Features of the query heads that share a KV head.
    fn width(&self) -> usize {
        self.group * self.node.shape.head_dim
    }

    /// Rows of one sequence against one KV head.
    fn block(
        &self,
        io: &Io<'_>,
        run: &Run<'_>,
        head: usize,
        rows: Range<usize>,
        out: ColumnsMut<'_>,
        scratch: &mut [f32],
    ) {
        let part = run.batch.parts[run.batch.part_of[rows.start] as usize];
        let first_position = part.first_position + rows.start - part.first_row;
        let (width, stride) = (self.width(), self.width() * self.node.n_heads);
        let queries = &io.floats(0)[rows.start * stride + head * width..];
        let (turned, scratch) = scratch.split_at_mut(BLOCK * width);
        let (queries, stride) = if self.prep.is_empty() {
            (queries, stride)
        } else {
            for (i, to) in turned.chunks_exact_mut(width).take(rows.len()).enumerate() {
                self.prep.apply(run, first_position + i, &queries[i * stride..][..width], to);
            }
            (&*turned, width)
        };
        run.level.run(Attend {
            shape: self.node.shape,
            slots: Slots {
                lines: io.lines(1),
                pages: run.batch.pages_of(&part),
                page_lines: self.page_lines,
                first: self.node.first + head * self.node.shape.slot_lines(),
            },
            queries,
            stride,
            n_rows: rows.len(),
            n_heads: self.group,
            first_position,
            window: self.window,
            sees: (!self.causal).then_some(part.first_position + part.n_rows),
            scale: self.scale,
            out,
            scratch,
        });
    }
}

impl Step for AttendStep {
    fn kind(&self) -> &'static str {
        "attention"
    }

    fn items(&self, n_rows: usize, n_workers: usize) -> Items {
        let count = n_rows * self.node.n_heads;
        Items { count, chunk: (count / (n_workers * 8)).clamp(1, BLOCK) }
    }

    fn scratch_lines(&self, _max_rows: usize, context_len: usize) -> usize {
        let attend = Attend::scratch_len(self.node.shape, context_len);
        (attend + BLOCK * self.width()).div_ceil(16)
    }

    fn work(&self, io: &Io<'_>, run: &Run<'_>, _n_rows: usize) {
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(io.scratch());
        let mut out = io.heads(0);
        for (head, rows) in out.runs() {
            let mut start = rows.start;
            while start < rows.end {
                let part = run.batch.parts[run.batch.part_of[start] as usize];
                let end = rows.end.min(part.first_row + part.n_rows).min(start + BLOCK);
                self.block(io, run, head, start..end, out.get(head, start..end), scratch);
                start = end;
            }
        }
    }

    fn amount(&self, _n_rows: usize, batch: &Batch) -> Work {
        let shape = self.node.shape;
        let position_bytes = (self.node.n_heads * shape.slot_lines() * 64 / PAGE_LEN) as f64;
        let per_key = (2 * shape.head_dim * self.node.n_heads) as f64;
        let mut work = Work::default();
        for part in &batch.parts {
            let len = part.first_position + part.n_rows;
            let seen = |row: usize| match self.causal {
                true => (part.first_position + row + 1).min(self.window),
                false => len,
            };
            let keys: usize = (0..part.n_rows).map(seen).sum();
            // Scores, and as much again for weighted values; scores of codes are dots of int8.
            let scores = per_key * self.group as f64 * keys as f64;
            work.flops += 2.0 * scores;
            if shape.encoding == KvEncoding::Q8_0 {
                work.int8_flops += scores;
            }
            let first_seen = (part.first_position + 1).saturating_sub(self.window);
            let first_seen = if self.causal { first_seen } else { 0 };
            work.bytes += position_bytes * (len - first_seen) as f64;
        }
        work
    }
}

/// Lowers an `attention` node with the norms and ropes that it absorbs.
pub fn lower(l: &mut Lowering<'_>, n: usize) -> Result<(), RuntimeError> {
    let node = &l.graph.nodes[n];
    let op: &ops::Attention = l.op(n);
    let rows = l.rows(n);
    let (kv, page_lines) = (l.kv_node(n), l.kv.page_lines);
    let chain = |l: &Lowering<'_>, value| {
        if l.settings.fuse { head_chain(&l.uses, n, value) } else { (HeadChain::default(), value) }
    };
    let (query_chain, query) = chain(l, node.inputs[0]);
    let (key_chain, key) = chain(l, node.inputs[1]);
    let (query_prep, key_prep) = (HeadPrep::of(l, query_chain)?, HeadPrep::of(l, key_chain)?);
    let (query, key) = (l.input(query, rows), l.input(key, rows));
    let value = l.input(node.inputs[2], rows);
    let append = Append { prep: key_prep, node: kv };
    let slots = Split::Slots {
        page_lines,
        first: kv.first,
        slot_lines: kv.shape.slot_lines(),
        n_heads: kv.n_heads,
    };
    let writes = vec![(Place::Kv, slots)];
    l.emit(format!("{}.append", node.name), rows, append, vec![key, value], writes);
    let group = op.n_heads / op.n_kv_heads;
    let attend = AttendStep {
        prep: query_prep,
        node: kv,
        page_lines,
        group,
        window: op.window.unwrap_or(usize::MAX),
        causal: op.causal,
        scale: op.scale,
    };
    let out = l.output(node.outputs[0], rows);
    let split = Split::Heads { width: group * op.head_dim, n_heads: op.n_kv_heads };
    l.emit(node.name.clone(), rows, attend, vec![query, Place::Kv], vec![(out, split)]);
    Ok(())
}
