//! What the core knows of the disk: which pages are there, who waits for which, what to write.
//!
//! In: sequences that wait, advance and end; events of the disk. Out: orders. It has no thread and
//! no file, so that it runs under the simulator as it runs on a machine.
//!
//! Pages that are everybody's ([`crate::salt`]) have the addresses that they have without a salt,
//! and segments of their own; those that follow are their tenant's alone. `tier/loads.rs` is who
//! waits for which.

mod loads;

use super::hash::{PageHash, SegmentId};
use super::rates::Rates;
use super::store::Held;
use super::{Event, Order, Save};
use crate::sequence::Sequence;
pub use loads::Arrived;
use loads::Loading;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use sterna_runtime::settings::PAGE_LEN;

/// Pages of a segment, at most: a page of a 1B model has a megabyte or so, which a disk reads in
/// the time that it takes to open a file or find a place; more of them share a file to keep the
/// folder small, and few enough that the queue for writing has room for several.
const SEGMENT_PAGES: usize = 16;
/// Bytes of a segment, at most, where one page is not more.
const SEGMENT_BYTES: usize = 64 << 20;

/// New pages that are worth a file once a prompt is read.
const LEAST_OF_PROMPT: usize = 8;
/// The same once an answer ends. Fewer are written with those of the conversation's next turn.
const LEAST_OF_ANSWER: usize = 4;

/// A segment that is used again so soon is not marked as used again.
const TOUCH_EVERY: Duration = Duration::from_secs(600);

/// A segment that is on the disk, or on its way there.
struct Segment {
    hashes: Vec<PageHash>,
    is_written: bool,
    touched: Option<Duration>,
}

/// A sequence's addresses, and how far it is with the disk.
struct Chain {
    /// Where the addresses of its first pages begin, which are everybody's.
    open: PageHash,
    /// How many those are.
    n_public: usize,
    /// Where those of its other pages begin, and where they are after `hashes`.
    private: [PageHash; 2],
    hashes: Vec<PageHash>,
    progress: Progress,
    /// Its pages that were loaded while it waited.
    loaded: Range<usize>,
}

impl Chain {
    /// Where the addresses begin that a page's is one of.
    fn start(&self, page: usize) -> PageHash {
        if page < self.n_public { self.open } else { self.private[0] }
    }

    /// Adds the address of the next page.
    fn push(&mut self, tokens: &[u32]) {
        if self.n_public < usize::MAX {
            self.private[1] = self.private[1].then(tokens);
        }
        let before = self.hashes.last().copied().unwrap_or(self.open);
        let is_open = self.hashes.len() < self.n_public;
        self.hashes.push(if is_open { before.then(tokens) } else { self.private[1] });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Untried,
    /// Until when it waits for its turn.
    Queued(Duration),
    Loading(u64),
    Over,
}

/// The tier.
pub struct Tier {
    model: PageHash,
    page_bytes: usize,
    segments: BTreeMap<SegmentId, Segment>,
    pages: BTreeMap<PageHash, SegmentId>,
    chains: BTreeMap<u64, Chain>,
    loads: BTreeMap<u64, Loading>,
    next_load: u64,
    /// Pages that the disk was asked for and has not answered.
    n_asked: usize,
    orders: Vec<Order>,
    /// What computing and reading take.
    pub rates: Rates,
    /// New pages that are worth a file: of a prompt, of an answer.
    pub(crate) least: (usize, usize),
    /// Tokens of prompts that came from the disk.
    pub n_tokens: u64,
}

impl Tier {
    /// What a folder has of a model.
    pub fn new(model: PageHash, page_bytes: usize, held: Vec<Held>) -> Self {
        let mut tier = Self {
            model,
            page_bytes,
            segments: BTreeMap::new(),
            pages: BTreeMap::new(),
            chains: BTreeMap::new(),
            loads: BTreeMap::new(),
            next_load: 0,
            n_asked: 0,
            orders: Vec::new(),
            rates: Rates::default(),
            least: (LEAST_OF_PROMPT, LEAST_OF_ANSWER),
            n_tokens: 0,
        };
        for (id, hashes) in held {
            tier.add(id, Segment { hashes, is_written: true, touched: None });
        }
        tier
    }

    /// Pages on the disk, or on their way there.
    pub fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// What the disk is to do now.
    pub fn orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Pages of a sequence after the first `n_found` that the disk has and reads quicker than they
    /// are computed, unless it was waited for already.
    pub fn n_kept(&mut self, sequence: &Sequence, n_found: usize) -> usize {
        let n_pages = sequence.n_shareable() / PAGE_LEN;
        if self.chain(sequence, n_pages).progress == Progress::Over {
            return 0;
        }
        let parts = self.parts(sequence.key, n_found..n_pages);
        let n: usize = parts.iter().map(|part| part.pages.len()).sum();
        if self.rates.is_worth(n * PAGE_LEN, n * self.page_bytes) { n } else { 0 }
    }

    /// Notes that a sequence was admitted with so many whole pages of the tree.
    pub fn started(&mut self, sequence: &Sequence, n_found: usize, now: Duration) {
        let chain = self.chain(sequence, n_found);
        if let Progress::Queued(_) = chain.progress {
            chain.progress = Progress::Over;
        }
        let loaded = chain.loaded.start.min(n_found)..chain.loaded.end.min(n_found);
        let due = |segment: &Segment| segment.touched.is_none_or(|at| at + TOUCH_EVERY <= now);
        let used = self.segments_of(sequence.key, n_found);
        let used = used.into_iter().filter(|id| due(&self.segments[id])).collect();
        self.touch(used, now);
        self.n_tokens += (loaded.len() * PAGE_LEN) as u64;
    }

    /// Writes what a sequence has computed of its prompt, if it is enough.
    pub fn save_prompt(&mut self, sequence: &Sequence, now: Duration) {
        let is_read = sequence.n_computed >= sequence.n_prompt;
        let least = if is_read { self.least.0 } else { self.segment_pages().max(self.least.0) };
        self.save(sequence, least, now);
    }

    /// Writes what an answer and its prompt have computed, if it is enough.
    pub fn save_answer(&mut self, sequence: &Sequence, now: Duration) {
        self.save(sequence, self.least.1, now);
    }

    /// Forgets a sequence that ended.
    pub fn forget(&mut self, key: u64) {
        if let Some(Chain { progress: Progress::Loading(number), .. }) = self.chains.get(&key) {
            self.leave(key, *number);
        }
        self.chains.remove(&key);
    }

    /// Forgets all segments, and has their files removed; how many there were.
    pub fn clear(&mut self) -> usize {
        let n = self.segments.len();
        while let Some((&number, _)) = self.loads.first_key_value() {
            self.end(number);
        }
        self.segments.clear();
        self.pages.clear();
        self.orders.push(Order::Clear);
        n
    }

    /// Takes note of an event; the pages that it brought for somebody who still waits.
    pub fn heard(&mut self, event: Event) -> Option<Arrived> {
        match event {
            Event::Saved(id) => {
                if let Some(segment) = self.segments.get_mut(&id) {
                    segment.is_written = true;
                }
                None
            }
            Event::Gone(id) => {
                self.remove(id);
                None
            }
            Event::Loaded { number, first, n_wanted, pages, took } => {
                self.rates.learn_bytes(pages.len() * self.page_bytes, took);
                self.n_asked = self.n_asked.saturating_sub(n_wanted);
                let arrived = self.arrived(number, first, n_wanted, pages);
                self.ask();
                arrived
            }
        }
    }

    fn segment_pages(&self) -> usize {
        SEGMENT_PAGES.min(SEGMENT_BYTES / self.page_bytes.max(1)).max(1)
    }

    /// A sequence's chain with at least so many addresses.
    fn chain(&mut self, sequence: &Sequence, n_pages: usize) -> &mut Chain {
        let model = self.model;
        let chain = self.chains.entry(sequence.key).or_insert_with(|| {
            let private = model.with_salt(sequence.request.cache_salt.as_deref());
            Chain {
                open: model.with_salt(None),
                n_public: sequence.salt().n_public(),
                private: [private; 2],
                hashes: Vec::new(),
                progress: Progress::Untried,
                loaded: 0..0,
            }
        });
        let known = chain.hashes.len();
        let pages = sequence.tokens.chunks_exact(PAGE_LEN).take(n_pages).skip(known);
        pages.for_each(|tokens| chain.push(tokens));
        chain
    }

    /// Orders the pages that a sequence has computed and the disk does not have to be written.
    fn save(&mut self, sequence: &Sequence, least: usize, now: Duration) {
        let n_pages = sequence.n_computed / PAGE_LEN;
        self.chain(sequence, n_pages);
        let chain = &self.chains[&sequence.key];
        let Chain { hashes, n_public, .. } = chain;
        let missing = (0..n_pages).filter(|&page| !self.pages.contains_key(&hashes[page]));
        let missing: Vec<usize> = missing.collect();
        if missing.len() < least {
            return;
        }
        let mut added = Vec::new();
        let runs = missing.chunk_by(|before, after| before + 1 == *after && after != n_public);
        let most = self.segment_pages();
        for run in runs.flat_map(|run| run.chunks(most)) {
            let pages = run[0]..run[0] + run.len();
            let id = SegmentId { depth: pages.start as u32, last: hashes[pages.end - 1] };
            let tokens = sequence.tokens[..pages.end * PAGE_LEN].to_vec();
            let save = Save { id, start: chain.start(pages.start), tokens, depth: pages.start };
            self.orders.push(Order::Save(save, sequence.pages[pages.clone()].to_vec()));
            let hashes = hashes[pages].to_vec();
            added.push((id, Segment { hashes, is_written: false, touched: Some(now) }));
        }
        for (id, segment) in added {
            self.add(id, segment);
        }
        // What comes before is used with it, and goes after it.
        let used = self.segments_of(sequence.key, n_pages);
        self.touch(used, now);
    }

    /// The segments of a chain's first pages, the deepest first.
    fn segments_of(&self, key: u64, n_pages: usize) -> Vec<SegmentId> {
        let hashes = self.chains[&key].hashes.iter().take(n_pages).rev();
        let mut segments: Vec<_> =
            hashes.filter_map(|hash| self.pages.get(hash).copied()).collect();
        segments.dedup();
        segments
    }

    fn touch(&mut self, segments: Vec<SegmentId>, now: Duration) {
        for id in &segments {
            self.segments.get_mut(id).expect("its pages are known").touched = Some(now);
        }
        if !segments.is_empty() {
            self.orders.push(Order::Touch(segments));
        }
    }

    fn add(&mut self, id: SegmentId, segment: Segment) {
        self.pages.extend(segment.hashes.iter().map(|&hash| (hash, id)));
        self.segments.insert(id, segment);
    }

    fn remove(&mut self, id: SegmentId) {
        let Some(segment) = self.segments.remove(&id) else { return };
        for hash in segment.hashes {
            if self.pages.get(&hash) == Some(&id) {
                self.pages.remove(&hash);
            }
        }
    }
}
