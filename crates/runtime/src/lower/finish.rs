//! The end of lowering: every place gets its span of memory, buffers that are never alive together
//! the same one.

use super::{Draft, Lowered, Lowering, Place};
use crate::RuntimeError;
use crate::arena::{self, Buffer};
use crate::steps::Rows;
use crate::steps::hidden::{self, Hidden};
use crate::steps::inputs::Input;
use crate::team::{Access, Region, Span};

impl Lowering<'_> {
    /// Plans the arena and resolves places to spans.
    ///
    /// # Errors
    /// When the graph has no output.
    pub fn finish(mut self) -> Result<Lowered, RuntimeError> {
        let graph = self.graph;
        let output = graph.output.ok_or_else(|| RuntimeError::Node {
            node: "output".into(),
            reason: "the graph has none".into(),
        })?;
        // A result that exists on all rows is gathered like any other value.
        let result =
            self.input(output, if self.head.is_some() { Rows::Logits } else { Rows::Wanted });
        let hidden = match self.head {
            Some(head) => Some(hidden::lower(&mut self, head)?),
            None => self.is_encoder.then(|| (result, self.features(output))),
        };
        let max_rows = self.settings.max_batch_rows;
        let buffers: Vec<Buffer> = (0..self.buffers.len()).map(|b| self.life(b)).collect();
        let (offsets, arena_len) =
            if self.settings.pool { arena::plan(&buffers) } else { arena::plan_apart(&buffers) };
        let span = |place: Place| match place {
            Place::Arena(b) => {
                let len = self.buffers[b] * max_rows;
                Span { region: Region::Arena, start: offsets[b], len }
            }
            Place::Logits => Span::whole(Region::Logits),
            Place::Kv => Span::whole(Region::Kv),
        };
        let inputs = self.inputs.iter().map(|&(n, place)| {
            let node = &graph.nodes[n];
            let weights = node.weights[..node.outputs.len()].to_vec();
            let len = self.features(node.inputs[0]);
            Input { weights, start: span(place).start, len, rows: self.rows(n) }
        });
        let inputs = inputs.collect();
        let hidden = hidden.map(|(place, len)| Hidden { start: span(place).start, len });
        let access = |draft: &Draft| {
            let reads = draft.reads.iter().map(|&place| span(place)).collect();
            let writes = draft.writes.iter().map(|&(place, split)| (span(place), split)).collect();
            Access::new(reads, writes)
        };
        let accesses = self.steps.iter().map(access).collect();
        Ok(Lowered {
            accesses,
            steps: self.steps.into_iter().map(|draft| draft.planned).collect(),
            layout: self.layout,
            kv: self.kv,
            tables: self.tables,
            hidden,
            inputs,
            arena_len,
            vocabulary: self.vocabulary,
            n_logits: if self.is_encoder { 0 } else { graph.out_features() },
        })
    }

    /// The size of a buffer and the steps between which it is alive.
    fn life(&self, buffer: usize) -> Buffer {
        let place = Place::Arena(buffer);
        let touches = |draft: &Draft| {
            draft.reads.contains(&place) || draft.writes.iter().any(|(w, _)| *w == place)
        };
        let mut steps = (0..self.steps.len()).filter(|&s| touches(&self.steps[s]));
        let first = steps.next().unwrap_or(0);
        let last = steps.next_back().unwrap_or(first);
        Buffer { len: self.buffers[buffer] * self.settings.max_batch_rows, alive: first..=last }
    }
}
