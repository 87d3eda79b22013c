//! What the core knows of the disk: which pages are there, who waits for which, what to write.
//!
//! In: sequences that wait, advance and end; events of the disk. Out: orders. It has no thread and
//! no file, so that it runs under the simulator as it runs on a machine.
//!
//! A sequence waits for the disk once, at most as long as computing would take: then it computes
//! what has not come.

use super::hash::{PageHash, SegmentId};
use super::rates::Rates;
use super::store::Held;
use super::{Event, Load, Order, Save};
use crate::sequence::Sequence;
use std::collections::{BTreeMap, VecDeque};
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

/// Bytes of loads that the disk is asked for at once: what comes is kept twice for a moment.
const MOST_ASKED: usize = 256 << 20;
/// Sequences with loads of their own at once; more would push each other's pages out.
const MOST_LOADS: usize = 4;
/// How long a load may take where nothing is known about computing.
const LONGEST: Duration = Duration::from_secs(10);
/// How long it always may: a disk takes a moment to wake, and a busy machine to listen.
const SHORTEST: Duration = Duration::from_millis(250);
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
    start: PageHash,
    hashes: Vec<PageHash>,
    progress: Progress,
    /// Its pages that were loaded while it waited.
    loaded: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Untried,
    Loading(u64),
    Over,
}

/// Pages that follow each other in one segment.
struct Part {
    segment: SegmentId,
    /// Counted from the beginning of the chain.
    pages: Range<usize>,
}

/// Pages that sequences wait for.
struct Loading {
    /// Who waits.
    keys: Vec<u64>,
    start: PageHash,
    tokens: Vec<u32>,
    hashes: Vec<PageHash>,
    /// What was not asked for yet.
    parts: VecDeque<Part>,
    n_asked: usize,
    /// When whoever waits goes on without.
    deadline: Duration,
}

/// Pages that came, and for whom.
pub struct Arrived {
    /// The load.
    pub number: u64,
    /// Who waits for it.
    pub keys: Vec<u64>,
    /// All tokens from the first to the end of the last page.
    pub tokens: Vec<u32>,
    /// The first page, counted from the beginning of the chain.
    pub first: usize,
    /// The pages' bytes.
    pub pages: Vec<Vec<u8>>,
    /// Whether there should have been more.
    pub is_short: bool,
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

    /// When the first of those who wait goes on without the disk.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.loads.values().map(|load| load.deadline).min()
    }

    /// Whether a sequence, of which the tree has `n_found` pages, waits for the disk, which has
    /// more. There are `n_room` pages of the pool that can be had.
    pub fn waits(
        &mut self,
        sequence: &Sequence,
        n_found: usize,
        n_room: usize,
        now: Duration,
    ) -> bool {
        let key = sequence.key;
        let n_pages = sequence.n_shareable() / PAGE_LEN;
        let chain = self.chain(sequence, n_pages);
        match chain.progress {
            Progress::Over => return false,
            Progress::Loading(number) => {
                let is_late = self.loads[&number].deadline <= now;
                if is_late {
                    self.leave(key, number);
                }
                return !is_late;
            }
            Progress::Untried if n_found >= n_pages => return false,
            Progress::Untried => {}
        }
        let (first, start) = (chain.hashes[n_found], chain.start);
        if let Some((&number, load)) =
            self.loads.iter_mut().find(|(_, load)| load.hashes.contains(&first))
        {
            load.keys.push(key);
            self.chains.get_mut(&key).expect("it was just made").progress =
                Progress::Loading(number);
            return true;
        }
        let parts = self.parts(key, n_found..n_pages);
        let Some(end) = parts.back().map(|part| part.pages.end) else { return false };
        let n_loading: usize = self.loads.values().map(|load| load.hashes.len()).sum();
        let is_full = self.loads.len() >= MOST_LOADS || n_loading + end - n_found > n_room;
        if is_full && !self.loads.is_empty() {
            return true;
        }
        let n_tokens = (end - n_found) * PAGE_LEN;
        let n_bytes = (self.n_asked + end - n_found) * self.page_bytes;
        let is_worth = self.rates.is_worth(n_tokens, n_bytes);
        let number = self.next_load;
        let chain = self.chains.get_mut(&key).expect("it was just made");
        chain.progress = if is_worth { Progress::Loading(number) } else { Progress::Over };
        if !is_worth {
            return false;
        }
        let load = Loading {
            keys: vec![key],
            start,
            tokens: sequence.tokens[..end * PAGE_LEN].to_vec(),
            hashes: chain.hashes[n_found..end].to_vec(),
            parts,
            n_asked: 0,
            deadline: now + self.rates.compute_time(n_tokens).unwrap_or(LONGEST).max(SHORTEST),
        };
        self.loads.insert(number, load);
        self.next_load += 1;
        self.ask();
        true
    }

    /// Notes that a sequence was admitted with so many whole pages of the tree.
    pub fn started(&mut self, sequence: &Sequence, n_found: usize, now: Duration) {
        let chain = self.chain(sequence, n_found);
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

    /// Notes which pages of what arrived are in the tree now; `is_over` where no more can follow.
    pub fn placed(&mut self, number: u64, placed: Range<usize>, is_over: bool) {
        let Some(load) = self.loads.get(&number) else { return };
        for key in &load.keys {
            let chain = self.chains.get_mut(key).expect("who waits has a chain");
            if chain.loaded.is_empty() {
                chain.loaded = placed.clone();
            } else if !placed.is_empty() {
                chain.loaded.end = placed.end;
            }
        }
        if is_over || load.parts.is_empty() && load.n_asked == 0 {
            self.end(number);
        }
        self.ask();
    }

    fn arrived(
        &mut self,
        number: u64,
        first: usize,
        n_wanted: usize,
        pages: Vec<Vec<u8>>,
    ) -> Option<Arrived> {
        // Nobody may wait any more.
        let load = self.loads.get_mut(&number)?;
        load.n_asked = load.n_asked.saturating_sub(n_wanted);
        if pages.is_empty() {
            self.end(number);
            return None;
        }
        let (keys, is_short) = (load.keys.clone(), pages.len() < n_wanted);
        let tokens = load.tokens[..(first + pages.len()) * PAGE_LEN].to_vec();
        Some(Arrived { number, keys, tokens, first, pages, is_short })
    }

    fn segment_pages(&self) -> usize {
        SEGMENT_PAGES.min(SEGMENT_BYTES / self.page_bytes.max(1)).max(1)
    }

    /// A sequence's chain with at least so many addresses.
    fn chain(&mut self, sequence: &Sequence, n_pages: usize) -> &mut Chain {
        let model = self.model;
        let chain = self.chains.entry(sequence.key).or_insert_with(|| {
            let start = model.with_salt(sequence.request.cache_salt.as_deref());
            Chain { start, hashes: Vec::new(), progress: Progress::Untried, loaded: 0..0 }
        });
        let known = chain.hashes.len();
        for tokens in sequence.tokens.chunks_exact(PAGE_LEN).take(n_pages).skip(known) {
            let before = chain.hashes.last().copied().unwrap_or(chain.start);
            chain.hashes.push(before.then(tokens));
        }
        chain
    }

    /// Where the disk has the pages of a chain, up to the first that it does not have.
    fn parts(&self, key: u64, pages: Range<usize>) -> VecDeque<Part> {
        let hashes = &self.chains[&key].hashes;
        let mut parts: VecDeque<Part> = VecDeque::new();
        for page in pages {
            let Some(&segment) = self.pages.get(&hashes[page]) else { break };
            if !self.segments[&segment].is_written {
                break;
            }
            match parts.back_mut() {
                Some(part) if part.segment == segment => part.pages.end = page + 1,
                _ => parts.push_back(Part { segment, pages: page..page + 1 }),
            }
        }
        parts
    }

    /// Asks the disk for what is wanted, a bounded number of bytes at a time.
    fn ask(&mut self) {
        for (&number, load) in &mut self.loads {
            while let Some(part) = load.parts.front() {
                let n_pages = part.pages.len();
                if self.n_asked > 0 && (self.n_asked + n_pages) * self.page_bytes > MOST_ASKED {
                    return;
                }
                self.orders.push(Order::Load(Load {
                    number,
                    segment: part.segment,
                    start: load.start,
                    tokens: load.tokens[..part.pages.end * PAGE_LEN].to_vec(),
                    first: part.pages.start,
                    n_pages,
                }));
                load.parts.pop_front();
                load.n_asked += n_pages;
                self.n_asked += n_pages;
            }
        }
    }

    /// Ends a load: whoever waits goes on.
    fn end(&mut self, number: u64) {
        let Some(load) = self.loads.remove(&number) else { return };
        for key in load.keys {
            self.chains.get_mut(&key).expect("who waits has a chain").progress = Progress::Over;
        }
    }

    /// Takes a sequence from those who wait for a load, which ends with the last of them.
    fn leave(&mut self, key: u64, number: u64) {
        self.chains.get_mut(&key).expect("who waits has a chain").progress = Progress::Over;
        let load = self.loads.get_mut(&number).expect("who waits has a load");
        load.keys.retain(|&other| other != key);
        if load.keys.is_empty() {
            self.end(number);
            self.ask();
        }
    }

    /// Orders the pages that a sequence has computed and the disk does not have to be written.
    fn save(&mut self, sequence: &Sequence, least: usize, now: Duration) {
        let n_pages = sequence.n_computed / PAGE_LEN;
        self.chain(sequence, n_pages);
        let Chain { start, hashes, .. } = &self.chains[&sequence.key];
        let missing = (0..n_pages).filter(|&page| !self.pages.contains_key(&hashes[page]));
        let missing: Vec<usize> = missing.collect();
        if missing.len() < least {
            return;
        }
        let mut added = Vec::new();
        let runs = missing.chunk_by(|before, after| before + 1 == *after);
        let most = self.segment_pages();
        for run in runs.flat_map(|run| run.chunks(most)) {
            let pages = run[0]..run[0] + run.len();
            let id = SegmentId { depth: pages.start as u32, last: hashes[pages.end - 1] };
            let tokens = sequence.tokens[..pages.end * PAGE_LEN].to_vec();
            let save = Save { id, start: *start, tokens, depth: pages.start };
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
