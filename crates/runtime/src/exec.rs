//! Executing a program: chunks of tokens of several sequences in, logits of the wanted rows out.
//!
//! A call's rows are cut into batches of at most `max_batch_rows`; a batch is one walk of the team
//! through all steps. After the first calls have grown the logits as far as a caller asks, a call
//! allocates nothing.

use crate::cache::Image;
use crate::kv::{KvCache, SequenceId};
use crate::profile::{ClockFn, Detail, Profile, Recorder};
use crate::steps::{Batch, Part, Planned, Rows, Run};
use crate::team::{Io, Items, Job, Memory, Region, Team, cpus};
use crate::{Lines, Program, RuntimeError, program};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use sterna_kernels::Line;

/// Which rows of a chunk the caller wants logits of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: the tokens only fill the cache.
    None,
    /// Those after the last token.
    Last,
    /// Those after every token.
    All,
}

/// The next tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The sequence they belong to.
    pub sequence: SequenceId,
    /// The tokens.
    pub tokens: &'a [u32],
    /// Whose logits are wanted.
    pub logits: Logits,
}

impl Chunk<'_> {
    fn n_wanted(&self) -> usize {
        match self.logits {
            Logits::None => 0,
            Logits::Last => self.tokens.len().min(1),
            Logits::All => self.tokens.len(),
        }
    }

    fn wants(&self, token: usize) -> bool {
        match self.logits {
            Logits::None => false,
            Logits::Last => token + 1 == self.tokens.len(),
            Logits::All => true,
        }
    }
}

/// A program being run: its values, KV cache and threads.
pub struct Runner {
    program: Arc<Program>,
    team: Team,
    kv: KvCache,
    arena: Lines,
    scratch: Lines,
    logits: Lines,
    batch: Batch,
    /// The place in the cache's list of each chunk's sequence.
    places: Vec<usize>,
    recorder: Option<Recorder>,
    /// Whether weights may still have to come from the disk.
    is_cold: bool,
}

/// Bytes of weights that are asked for ahead of the step that computes.
const AHEAD_BYTES: usize = 64 << 20;

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
        let logits = Lines::zeroed(program.n_outputs.div_ceil(16), "logits")?;
        let batch = Batch {
            tokens: Vec::with_capacity(rows),
            part_of: Vec::with_capacity(rows),
            parts: Vec::with_capacity(rows),
            wanted: Vec::with_capacity(rows),
        };
        let places = Vec::with_capacity(rows);
        let is_cold = settings.overlap && program.is_shared();
        Ok(Self {
            program,
            team,
            kv,
            arena,
            scratch,
            logits,
            batch,
            places,
            recorder: None,
            is_cold,
        })
    }

    /// The program it runs.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The bytes it and its program take; logits as far as calls have grown them.
    pub fn memory(&self) -> program::Memory {
        let (logits, scratch) = (self.logits.bytes(), self.scratch.bytes());
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
        let n_outputs = self.program.n_outputs;
        let n_wanted: usize = chunks.iter().map(Chunk::n_wanted).sum();
        let n_lines = (n_wanted * n_outputs).div_ceil(16);
        if n_lines > self.logits.lines().len() {
            self.logits = Lines::zeroed(n_lines, "logits")?;
        }
        for (at, chunk) in self.places.iter().zip(chunks) {
            self.kv.reserve(*at, chunk.tokens.len());
        }
        let mut at = Cursor { chunk: 0, token: 0 };
        let mut done = 0;
        while self.fill(chunks, &mut at) {
            let start = self.recorder.as_ref().map(Recorder::time);
            self.run_batch(done);
            if let (Some(recorder), Some(start)) = (&mut self.recorder, start) {
                let wall = recorder.time().saturating_sub(start);
                recorder.end(&self.program.lowered.steps, &self.batch, wall);
            }
            done += self.batch.wanted.len();
            for part in &self.batch.parts {
                self.kv.advance(part.sequence, part.n_rows);
            }
        }
        let logits: &[f32] = bytemuck::cast_slice(self.logits.lines());
        Ok(&logits[..n_wanted * n_outputs])
    }

    /// Checks that a call can be done, and finds its sequences.
    fn admit(&mut self, chunks: &[Chunk<'_>]) -> Result<(), RuntimeError> {
        self.places.clear();
        for chunk in chunks {
            let at = self.kv.find(chunk.sequence)?;
            if self.places.contains(&at) {
                return Err(RuntimeError::SequenceTwice(chunk.sequence.0));
            }
            self.places.push(at);
            let vocabulary = self.program.lowered.vocabulary;
            let unknown = chunk.tokens.iter().find(|&&token| token as usize >= vocabulary);
            if let Some(&token) = unknown {
                return Err(RuntimeError::Token { token, vocabulary });
            }
        }
        let lens = chunks.iter().map(|chunk| chunk.tokens.len());
        self.kv.check_growth(self.places.iter().copied().zip(lens))
    }

    /// Fills the next batch; whether there was anything left.
    fn fill(&mut self, chunks: &[Chunk<'_>], at: &mut Cursor) -> bool {
        let batch = &mut self.batch;
        batch.tokens.clear();
        batch.part_of.clear();
        batch.parts.clear();
        batch.wanted.clear();
        while let Some(chunk) = chunks.get(at.chunk) {
            let room = self.program.settings.max_batch_rows - batch.tokens.len();
            let n_rows = room.min(chunk.tokens.len() - at.token);
            if n_rows > 0 {
                let sequence = self.places[at.chunk];
                let first_row = batch.tokens.len();
                let first_position = self.kv.len_at(sequence);
                batch.parts.push(Part { first_row, n_rows, first_position, sequence });
                for token in at.token..at.token + n_rows {
                    if chunk.wants(token) {
                        batch.wanted.push(batch.tokens.len() as u32);
                    }
                    batch.tokens.push(chunk.tokens[token]);
                    batch.part_of.push(batch.parts.len() as u32 - 1);
                }
                at.token += n_rows;
            }
            if at.token < chunk.tokens.len() {
                break;
            }
            *at = Cursor { chunk: at.chunk + 1, token: 0 };
            if !self.program.settings.batch && !batch.tokens.is_empty() {
                break;
            }
        }
        !batch.tokens.is_empty()
    }

    /// Walks through all steps; the wanted logits go to row `first_logits` and on.
    fn run_batch(&mut self, first_logits: usize) {
        let program = &*self.program;
        let lowered = &program.lowered;
        let (kv, pages) = self.kv.parts();
        let logits = &mut self.logits.floats_mut()[first_logits * program.n_outputs..];
        let run = Run {
            level: program.level,
            weights: program.weights(),
            tables: &lowered.tables,
            batch: &self.batch,
            pages,
        };
        let mut memory = Memory::new(&lowered.accesses, self.batch.tokens.len())
            .with(Region::Arena, self.arena.floats_mut())
            .with(Region::Logits, logits)
            .with(Region::Kv, kv)
            .with_scratch(self.scratch.lines_mut());
        let recorder = self.recorder.as_ref();
        if let Some(recorder) = recorder {
            recorder.start();
        }
        let ahead = self.is_cold.then(|| Ahead::start(program.image(), &lowered.steps));
        let n_workers = self.team.n_workers();
        let job = Walk { steps: &lowered.steps, run, n_workers, recorder, ahead };
        self.team.run(lowered.steps.len(), &job, &mut memory);
        self.is_cold = false;
    }
}

/// Where in the call's tokens the next batch begins.
struct Cursor {
    chunk: usize,
    token: usize,
}

/// One batch through all steps.
struct Walk<'a> {
    steps: &'a [Planned],
    run: Run<'a>,
    n_workers: usize,
    recorder: Option<&'a Recorder>,
    ahead: Option<Ahead<'a>>,
}

/// Asks for the weights of the next steps while a step computes.
struct Ahead<'a> {
    image: &'a Image,
    n_lines: usize,
    /// Lines asked for so far; worker 0 alone moves it.
    asked: AtomicUsize,
}

impl<'a> Ahead<'a> {
    /// Asks for the first weights. Of a table of embeddings few rows are read, so it is left out.
    fn start(image: &'a Image, steps: &[Planned]) -> Self {
        let table = steps.first().filter(|first| first.step.kind() == "embed");
        let first = table.map_or(0, |table| table.weights_end);
        let n_lines = image.lines().len();
        let ahead = Self { image, n_lines, asked: AtomicUsize::new(first) };
        ahead.reach(first);
        ahead
    }

    /// Asks for what follows the first `done` lines.
    fn reach(&self, done: usize) {
        let end = (done + AHEAD_BYTES / size_of::<Line>()).min(self.n_lines);
        let asked = self.asked.load(Ordering::Relaxed);
        if asked < end {
            self.asked.store(end, Ordering::Relaxed);
            self.image.will_need(asked..end);
        }
    }
}

impl Walk<'_> {
    fn n_rows(&self, rows: Rows) -> usize {
        self.run.batch.n_rows(rows)
    }
}

impl Job for Walk<'_> {
    fn items(&self, step: usize) -> Items {
        let planned = &self.steps[step];
        planned.step.items(self.n_rows(planned.rows), self.n_workers)
    }

    fn work(&self, io: Io<'_>) {
        let planned = &self.steps[io.step()];
        let work = || planned.step.work(&io, &self.run, self.n_rows(planned.rows));
        match self.recorder {
            None => work(),
            Some(recorder) => recorder.claim(io.step(), io.worker(), work),
        }
    }

    fn finished(&self, step: usize) {
        if let Some(recorder) = self.recorder {
            recorder.finished(step);
        }
        if let Some(ahead) = &self.ahead {
            ahead.reach(self.steps[step].weights_end);
        }
    }
}
