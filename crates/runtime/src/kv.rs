//! The KV cache: pages of positions, handed out to sequences from a free list.
//!
//! A page holds [`PAGE_LEN`] positions of every attention node and KV head. Pages are reserved
//! before a batch runs, so a call that does not fit fails as a whole and changes nothing.

use crate::settings::PAGE_LEN;
use crate::{Lines, RuntimeError};
use sterna_kernels::attention::{KvEncoding, KvShape};
use sterna_model::ops::Attention;

/// A sequence of a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub(crate) u64);

/// One attention node's place in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvNode {
    /// Which node of the graph.
    pub node: usize,
    /// The first line of its head 0.
    pub first: usize,
    /// The shape of its slots.
    pub shape: KvShape,
    /// KV heads.
    pub n_heads: usize,
}

/// What a page consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvLayout {
    /// Attention nodes, in order.
    pub nodes: Vec<KvNode>,
    /// Lines of a page.
    pub page_lines: usize,
}

impl KvLayout {
    /// Adds an attention node of the graph.
    pub fn push(&mut self, node: usize, shape: KvShape, n_heads: usize) {
        self.nodes.push(KvNode { node, first: self.page_lines, shape, n_heads });
        self.page_lines += shape.slot_lines() * n_heads;
    }
}

/// The slots of an attention op.
///
/// # Errors
/// When the encoding does not take heads of its size.
pub fn kv_shape(op: &Attention, node: &str, encoding: KvEncoding) -> Result<KvShape, RuntimeError> {
    let (head_dim, multiple) = (op.head_dim, encoding.head_multiple());
    if !head_dim.is_multiple_of(multiple) {
        return Err(RuntimeError::Node {
            node: node.to_owned(),
            reason: format!(
                "its heads have {head_dim} features, and a {} KV cache needs a multiple of \
                 {multiple}; use f16",
                encoding.name()
            ),
        });
    }
    Ok(KvShape { head_dim, encoding })
}

/// A sequence: how long it is and where its positions lie.
struct Sequence {
    id: u64,
    len: usize,
    pages: Vec<u32>,
}

/// The cache's memory and its sequences.
pub struct KvCache {
    lines: Lines,
    free: Vec<u32>,
    n_pages: usize,
    context_len: usize,
    sequences: Vec<Sequence>,
    next_id: u64,
}

impl KvCache {
    /// A cache of `n_pages` pages, none of them resident yet.
    ///
    /// # Errors
    /// When the system gives no address space.
    pub fn new(
        layout: &KvLayout,
        n_pages: usize,
        context_len: usize,
    ) -> Result<Self, RuntimeError> {
        let lines = Lines::zeroed(n_pages * layout.page_lines, "the KV cache")?;
        let free = (0..n_pages as u32).rev().collect();
        Ok(Self { lines, free, n_pages, context_len, sequences: Vec::new(), next_id: 0 })
    }

    /// A new, empty sequence; it takes pages as it grows.
    pub fn new_sequence(&mut self) -> SequenceId {
        let id = self.next_id;
        self.next_id += 1;
        let pages = Vec::with_capacity(self.context_len.div_ceil(PAGE_LEN));
        self.sequences.push(Sequence { id, len: 0, pages });
        SequenceId(id)
    }

    /// Where a sequence is in the list.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn find(&self, id: SequenceId) -> Result<usize, RuntimeError> {
        let found = self.sequences.binary_search_by_key(&id.0, |s| s.id);
        found.map_err(|_| RuntimeError::UnknownSequence(id.0))
    }

    /// Gives a sequence's pages back.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn free(&mut self, id: SequenceId) -> Result<(), RuntimeError> {
        let at = self.find(id)?;
        let sequence = self.sequences.remove(at);
        self.free.extend(sequence.pages.into_iter().rev());
        Ok(())
    }

    /// Forgets the positions from `len` on.
    ///
    /// # Errors
    /// When there is no such sequence, or it is shorter.
    pub fn truncate(&mut self, id: SequenceId, len: usize) -> Result<(), RuntimeError> {
        let at = self.find(id)?;
        let sequence = &mut self.sequences[at];
        if len > sequence.len {
            let (sequence, len, wanted) = (id.0, sequence.len, len);
            return Err(RuntimeError::Truncate { sequence, len, wanted });
        }
        sequence.len = len;
        self.free.extend(sequence.pages.drain(len.div_ceil(PAGE_LEN)..).rev());
        Ok(())
    }

    /// Checks that the sequences at these places can grow by so many positions.
    ///
    /// # Errors
    /// When a context or the cache would overflow; nothing is changed then.
    pub fn check_growth(
        &self,
        growth: impl Iterator<Item = (usize, usize)>,
    ) -> Result<(), RuntimeError> {
        let mut wanted = 0;
        for (at, more) in growth {
            let Sequence { id, len, pages } = &self.sequences[at];
            let (sequence, len, context_len) = (*id, *len, self.context_len);
            if len + more > context_len {
                return Err(RuntimeError::ContextFull { sequence, len, more, context_len });
            }
            wanted += (len + more).div_ceil(PAGE_LEN).saturating_sub(pages.len());
        }
        let (free, total) = (self.free.len(), self.n_pages);
        if wanted > free {
            return Err(RuntimeError::CacheFull { wanted, free, total });
        }
        Ok(())
    }

    /// Gives the sequence at `at` the pages for `more` positions; they were checked before.
    pub fn reserve(&mut self, at: usize, more: usize) {
        let sequence = &mut self.sequences[at];
        let wanted = (sequence.len + more).div_ceil(PAGE_LEN);
        let n = wanted.saturating_sub(sequence.pages.len());
        sequence.pages.extend(self.free.drain(self.free.len() - n..).rev());
    }

    /// Notes that `more` positions of the sequence at `at` are filled.
    pub fn advance(&mut self, at: usize, more: usize) {
        self.sequences[at].len += more;
    }

    /// Positions of the sequence at `at`.
    pub fn len_at(&self, at: usize) -> usize {
        self.sequences[at].len
    }

    /// The pages of the sequence at `at`, in order of position.
    pub fn pages_at(&self, at: usize) -> &[u32] {
        &self.sequences[at].pages
    }

    /// The memory.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        self.lines.floats_mut()
    }

    /// Copies a page to another.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let page_lines = self.lines.lines().len() / self.n_pages.max(1);
        let start = |page: u32| page as usize * page_lines;
        self.lines.lines_mut().copy_within(start(from)..start(from) + page_lines, start(to));
    }

    /// A page's bytes.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn page(&self, page: u32) -> &[u8] {
        let page_lines = self.lines.lines().len() / self.n_pages.max(1);
        let start = page as usize * page_lines;
        bytemuck::cast_slice(&self.lines.lines()[start..start + page_lines])
    }

    /// The same to be written over.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn page_mut(&mut self, page: u32) -> &mut [u8] {
        let page_lines = self.lines.lines().len() / self.n_pages.max(1);
        let start = page as usize * page_lines;
        bytemuck::cast_slice_mut(&mut self.lines.lines_mut()[start..start + page_lines])
    }

    /// Whether no sequence was made here, so that a caller may hand out the pages itself.
    pub fn is_callers(&self) -> bool {
        self.sequences.is_empty()
    }

    /// All pages.
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// Bytes of all pages.
    pub fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Pages that are in use.
    pub fn used_pages(&self) -> usize {
        self.n_pages - self.free.len()
    }
}
