//! Executing a program: chunks of tokens of several sequences in, logits of the wanted rows out.
//!
//! A call's rows are cut into batches of at most `max_batch_rows`; a batch is one walk of the team
//! through all steps. After the first calls have grown the logits as far as a caller asks, a call
//! allocates nothing. `exec/admit.rs` checks a call, `exec/results.rs` has what it leaves,
//! `exec/pages.rs` pages as bytes.

mod admit;
mod pages;
mod results;

use crate::ahead::Ahead;
use crate::chunk::{Chunk, PagedChunk, Tokens};
use crate::kv::{KvCache, SequenceId};
use crate::profile::{ClockFn, Detail, Profile, Recorder};
use crate::steps::{Batch, Part, Run};
use crate::team::{Memory, Region, Team, cpus};
use crate::walk::Walk;
use crate::{Lines, Program, RuntimeError, program};
use std::sync::Arc;

/// Where a chunk's sequence is: positions before it, and its page table in the batch's list.
struct Start {
    position: usize,
    first_page: usize,
    n_pages: usize,
}

/// A program being run: its values, KV cache and threads.
pub struct Runner {
    program: Arc<Program>,
    team: Team,
    kv: KvCache,
    arena: Lines,
    scratch: Lines,
    logits: Lines,
    hidden: Lines,
    /// Rows of both that the last call computed.
    n_wanted: (usize, usize),
    batch: Batch,
    /// The place in the cache's list of each chunk's sequence.
    places: Vec<usize>,
    /// Where each chunk begins.
    starts: Vec<Start>,
    recorder: Option<Recorder>,
    /// Whether weights may still have to come from the disk.
    is_cold: bool,
}

impl Runner {
    /// Memory and threads for a program.
    ///
    /// # Errors
    /// When the system gives no memory or threads.
    pub fn new(program: Arc<Program>) -> Result<Self, RuntimeError> {
        let n_workers = program.n_workers;
        Self::with_workers(program, n_workers)
    }

    /// A runner on a team of another size than the program's: several runners of one worker each
    /// do more than one of several where sequences are independent and a step is short. Results do
    /// not depend on it.
    ///
    /// # Errors
    /// As [`Runner::new`].
    ///
    /// # Panics
    /// Without a worker.
    pub fn with_workers(program: Arc<Program>, n_workers: usize) -> Result<Self, RuntimeError> {
        let team = Team::new(n_workers, &cpus::given())?;
        let (settings, lowered) = (&program.settings, &program.lowered);
        let rows = settings.max_batch_rows;
        let kv = KvCache::new(&lowered.kv, settings.n_pages(), settings.context_len)?;
        let arena = Lines::zeroed(lowered.arena_len.div_ceil(16), "activations")?;
        let scratch = Lines::zeroed(program.scratch_lines * n_workers, "scratch")?;
        let logits = Lines::zeroed(program.logits_lines(), "logits")?;
        let hidden = Lines::zeroed(program.hidden_lines(), "states")?;
        let batch = Batch::with_capacity(rows, settings.n_pages());
        let (places, starts) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let may_be_cold = settings.overlap && program.is_shared();
        let is_cold = may_be_cold || program.is_passing();
        Ok(Self {
            program,
            team,
            kv,
            arena,
            scratch,
            logits,
            hidden,
            n_wanted: (0, 0),
            batch,
            places,
            starts,
            recorder: None,
            is_cold,
        })
    }

    /// The program it runs.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The bytes it and its program take; logits as far as calls have grown them beyond the plan.
    pub fn memory(&self) -> program::Memory {
        let logits = self.logits.bytes() + self.hidden.bytes();
        let scratch = self.scratch.bytes();
        program::Memory { logits, scratch, ..self.program.memory() }
    }

    /// Starts to collect a profile, with this clock.
    pub fn start_profile(&mut self, clock: ClockFn, detail: Detail) {
        let (n_steps, n_workers) = (self.program.lowered.steps.len(), self.team.n_workers());
        self.recorder = Some(Recorder::new(clock, detail, n_steps, n_workers));
    }

    /// Ends the profile and returns it; empty if none was started.
    pub fn end_profile(&mut self) -> Profile {
        let recorder = self.recorder.take();
        recorder.map(|r| r.profile(&self.program.lowered.steps)).unwrap_or_default()
    }

    /// A new, empty sequence.
    pub fn new_sequence(&mut self) -> SequenceId {
        self.kv.new_sequence()
    }

    /// Ends a sequence and gives its pages back.
    ///
    /// # Errors
    /// When there is no such sequence.
    pub fn free(&mut self, sequence: SequenceId) -> Result<(), RuntimeError> {
        self.kv.free(sequence)
    }

    /// Forgets a sequence's tokens from `len` on.
    ///
    /// # Errors
    /// When there is no such sequence, or it is shorter.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) -> Result<(), RuntimeError> {
        self.kv.truncate(sequence, len)
    }

    /// Tokens of a sequence.
    ///
    /// # Errors
    /// When there is no such sequence.
    pub fn len(&self, sequence: SequenceId) -> Result<usize, RuntimeError> {
        Ok(self.kv.len_at(self.kv.find(sequence)?))
    }

    /// Appends the chunks' tokens to their sequences; returns the wanted logits, `[rows,
    /// n_outputs]`, chunk by chunk in order.
    ///
    /// # Errors
    /// When a sequence or token is unknown, or a context or the cache would overflow. Nothing has
    /// changed then.
    pub fn forward(&mut self, chunks: &[Chunk<'_>]) -> Result<&[f32], RuntimeError> {
        self.admit(chunks)?;
        self.grow_logits(chunks)?;
        self.starts.clear();
        self.batch.pages.clear();
        for (&at, chunk) in self.places.iter().zip(chunks) {
            self.kv.reserve(at, chunk.tokens.len());
            push_start(&mut self.starts, &mut self.batch, self.kv.len_at(at), self.kv.pages_at(at));
        }
        self.run_all(chunks);
        for (&at, chunk) in self.places.iter().zip(chunks) {
            self.kv.advance(at, chunk.tokens.len());
        }
        Ok(self.logits())
    }

    /// The same for sequences whose pages the caller hands out: several may share pages that are
    /// full, and none may write to a page that another reads.
    ///
    /// # Errors
    /// When a token is unknown, or the pages or the context do not hold the tokens. Nothing has
    /// changed then.
    ///
    /// # Panics
    /// When this runner has sequences of its own, which would be written over.
    pub fn forward_paged(&mut self, chunks: &[PagedChunk<'_>]) -> Result<&[f32], RuntimeError> {
        assert!(self.kv.is_callers(), "pages are handed out by the caller or by the runner");
        self.starts.clear();
        self.batch.pages.clear();
        for chunk in chunks {
            self.check_tokens(chunk.tokens)?;
            self.check_whole(chunk.position, chunk.tokens.len())?;
            chunk.check(self.program.settings.context_len, self.kv.n_pages())?;
            push_start(&mut self.starts, &mut self.batch, chunk.position, chunk.pages);
        }
        self.grow_logits(chunks)?;
        self.run_all(chunks);
        Ok(self.logits())
    }

    /// Computes all batches of a call.
    fn run_all<C: Tokens>(&mut self, chunks: &[C]) {
        let mut at = Cursor { chunk: 0, token: 0 };
        self.n_wanted = (0, 0);
        while self.fill(chunks, &mut at) {
            let start = self.recorder.as_ref().map(Recorder::time);
            self.run_batch(self.n_wanted.0);
            if let (Some(recorder), Some(start)) = (&mut self.recorder, start) {
                let wall = recorder.time().saturating_sub(start);
                recorder.end(&self.program.lowered.steps, &self.batch, wall);
            }
            self.keep_hidden();
            self.n_wanted.0 += self.batch.n_logits;
        }
    }

    /// Fills the next batch, if there is anything left; otherwise the last one stays as it is.
    fn fill<C: Tokens>(&mut self, chunks: &[C], at: &mut Cursor) -> bool {
        while chunks.get(at.chunk).is_some_and(|chunk| chunk.tokens().len() == at.token) {
            *at = Cursor { chunk: at.chunk + 1, token: 0 };
        }
        if at.chunk == chunks.len() {
            return false;
        }
        let batch = &mut self.batch;
        batch.tokens.clear();
        batch.part_of.clear();
        batch.parts.clear();
        batch.wanted.clear();
        batch.hidden.clear();
        while let Some(chunk) = chunks.get(at.chunk) {
            let tokens = chunk.tokens();
            let room = self.program.settings.max_batch_rows - batch.tokens.len();
            let n_rows = room.min(tokens.len() - at.token);
            if self.program.is_encoder() && n_rows < tokens.len() {
                // It is read at once, in the next batch.
                break;
            }
            if n_rows > 0 {
                let Start { position, first_page, n_pages } = self.starts[at.chunk];
                let first_row = batch.tokens.len();
                let first_position = position + at.token;
                batch.parts.push(Part { first_row, n_rows, first_position, first_page, n_pages });
                for (token, &id) in tokens.iter().enumerate().skip(at.token).take(n_rows) {
                    if chunk.logits().wants(token, tokens.len()) {
                        batch.wanted.push(batch.tokens.len() as u32);
                    } else if chunk.logits().wants_hidden(token, tokens.len()) {
                        batch.hidden.push(batch.tokens.len() as u32);
                    }
                    batch.tokens.push(id);
                    batch.part_of.push(batch.parts.len() as u32 - 1);
                }
                at.token += n_rows;
            }
            if at.token < tokens.len() {
                break;
            }
            *at = Cursor { chunk: at.chunk + 1, token: 0 };
            if !self.program.settings.batch && !batch.tokens.is_empty() {
                break;
            }
        }
        batch.n_logits = batch.wanted.len();
        batch.wanted.append(&mut batch.hidden);
        true
    }

    /// Walks through all steps; the wanted logits go to row `first_logits` and on.
    fn run_batch(&mut self, first_logits: usize) {
        let program = &*self.program;
        let lowered = &program.lowered;
        let logits = &mut self.logits.floats_mut()[first_logits * program.n_outputs()..];
        let run = Run {
            level: program.level,
            weights: program.weights(),
            tables: &lowered.tables,
            batch: &self.batch,
        };
        let mut memory = Memory::new(&lowered.accesses, self.batch.tokens.len())
            .with(Region::Arena, self.arena.floats_mut())
            .with(Region::Logits, logits)
            .with(Region::Kv, self.kv.floats_mut())
            .with_scratch(self.scratch.lines_mut());
        let recorder = self.recorder.as_ref();
        if let Some(recorder) = recorder {
            recorder.start();
        }
        let ahead = self.is_cold.then(|| Ahead::start(program.image(), &lowered.steps));
        let n_workers = self.team.n_workers();
        let job = Walk { steps: &lowered.steps, run, n_workers, recorder, ahead };
        self.team.run(lowered.steps.len(), &job, &mut memory);
        // A tied head reads a table again that was let go of.
        program.image().let_go(0..program.weights().len());
        self.is_cold = self.program.is_passing();
    }
}

fn push_start(starts: &mut Vec<Start>, batch: &mut Batch, position: usize, pages: &[u32]) {
    let first_page = batch.pages.len();
    starts.push(Start { position, first_page, n_pages: pages.len() });
    batch.pages.extend_from_slice(pages);
}

/// Where in the call's tokens the next batch begins.
struct Cursor {
    chunk: usize,
    token: usize,
}
