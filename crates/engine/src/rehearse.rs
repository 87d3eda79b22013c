//! The core in virtual time: what a machine of known speed would answer, and when.
//!
//! In: requests that come when they are due, and what a batch costs. Out: when each token comes,
//! and what each request waited for. The core is the one that serves, so that queueing, batching,
//! sharing of prefixes and giving way are those of a server; only the numbers are not computed, and
//! every answer is made of one token. Nothing is guessed: what guesses would save depends on texts,
//! of which a rehearsal has none.

use crate::batch::Batch;
use crate::core::{Core, Said};
use crate::limits::Limits;
use crate::request::{Finished, Output, Request, RequestId};
use crate::turn::Short;
use crate::{EngineError, sequence::Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use sterna_model::Tokenizer;

/// What a batch asks of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows of prompts.
    pub prompt_rows: usize,
    /// Rows of tokens being generated.
    pub decode_rows: usize,
    /// Positions that the rows of prompts read, their own included.
    pub prompt_positions: usize,
    /// The same for the rows being generated.
    pub decode_positions: usize,
    /// Different pages that the rows of prompts read: those that sequences share count once.
    pub prompt_pages: usize,
    /// The same for the rows being generated.
    pub decode_pages: usize,
    /// Rows whose logits are wanted.
    pub logit_rows: usize,
    /// Pages copied first.
    pub copies: usize,
}

/// A request and when it comes.
#[derive(Clone, Debug)]
pub struct Due {
    /// Since the start; `None` as soon as the one before it in its lane is over.
    pub at: Option<Duration>,
    /// What is asked.
    pub request: Request,
}

/// What came of a request; times are since the start.
#[derive(Clone, Debug)]
pub struct Played {
    /// When it came.
    pub sent: Duration,
    /// When each of its tokens came.
    pub tokens: Vec<Duration>,
    /// When it was over.
    pub end: Duration,
    /// How, or why it was refused.
    pub answer: Result<Finished, EngineError>,
    /// What the machine did until its first token.
    pub before_first: Spent,
    /// What it did from there to the end.
    pub after_first: Spent,
}

/// What time went to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Reading prompts.
    pub prompts: Duration,
    /// Generating.
    pub generation: Duration,
    /// Anything, while somebody found no pages.
    pub no_pages: Duration,
    /// Anything, while whoever was next found no place among those in work.
    pub no_places: Duration,
    /// Anything, while one more to generate would have made steps too long.
    pub no_pace: Duration,
}

/// All requests and what they took.
#[derive(Clone, Debug)]
pub struct Run {
    /// By lane, in order.
    pub lanes: Vec<Vec<Played>>,
    /// From the start to the last answer.
    pub wall: Duration,
    /// Of it, what batches took.
    pub busy: Duration,
    /// The most pages that sequences in work held at once.
    pub pages_peak: usize,
    /// Times that a request lost its place.
    pub preemptions: u64,
}

/// A core, a time, and a price list.
pub struct Rehearsal<'c> {
    core: Core,
    limits: Limits,
    cost: &'c dyn Fn(&Work) -> Duration,
    /// Between the end of an answer and the next request of its lane.
    turnaround: Duration,
    now: Duration,
    next_id: u64,
}

impl<'c> Rehearsal<'c> {
    /// Nothing in work yet, at time 0. `turnaround` is what a client takes to ask again.
    pub fn new(
        limits: Limits,
        tokenizer: Arc<Tokenizer>,
        cost: &'c dyn Fn(&Work) -> Duration,
        turnaround: Duration,
    ) -> Self {
        let core = Core::new(limits, tokenizer);
        Self { core, limits, cost, turnaround, now: Duration::ZERO, next_id: 0 }
    }

    /// Plays requests to the last one's end. The requests of a lane come one after another, lanes
    /// at once; what earlier plays left in the prefix tree is there.
    ///
    /// # Panics
    /// When the core plans nothing although requests wait, which is a bug.
    pub fn play(&mut self, lanes: Vec<Vec<Due>>) -> Run {
        let start = self.now;
        let first = |(lane, dues): (usize, &Vec<Due>)| {
            dues.first().map(|due| (start + due.at.unwrap_or_default(), lane))
        };
        let mut play = Play {
            start,
            arriving: lanes.iter().enumerate().filter_map(first).collect(),
            waiting: lanes.into_iter().map(Vec::into_iter).collect(),
            open: BTreeMap::new(),
            over: Vec::new(),
            timeline: vec![(start, Spent::default())],
            busy: Duration::ZERO,
            pages_peak: 0,
        };
        play.over.resize_with(play.waiting.len(), Vec::new);
        let preemptions = self.core.schedule().n_preempted;
        loop {
            self.arrivals(&mut play);
            let batch = self.core.plan(self.now);
            if !batch.parts.is_empty() {
                self.compute(&batch, &mut play);
            } else if let Some(&(at, _)) = play.arriving.first() {
                self.now = self.now.max(at);
            } else {
                assert!(self.core.is_idle(), "who waits is served sooner or later");
                break;
            }
        }
        Run {
            lanes: play.over,
            wall: self.now - start,
            busy: play.busy,
            pages_peak: play.pages_peak,
            preemptions: self.core.schedule().n_preempted - preemptions,
        }
    }

    /// Submits what is due.
    fn arrivals(&mut self, play: &mut Play) {
        while let Some(&(at, lane)) = play.arriving.first().filter(|(at, _)| *at <= self.now) {
            play.arriving.remove(&(at, lane));
            let due = play.waiting[lane].next().expect("it was to come");
            let id = RequestId(self.next_id);
            self.next_id += 1;
            let is_full = play.open.len() >= self.limits.most_open();
            let full = EngineError::QueueFull { waiting: self.limits.max_queue };
            let checked = self.limits.check(&due.request);
            let sent = Open { lane, sent: at, tokens: Vec::new() };
            match checked.and(if is_full { Err(full) } else { Ok(()) }) {
                Ok(()) => {
                    play.open.insert(id, sent);
                    let said = self.core.submit(at, id, due.request);
                    self.hear(said, play);
                }
                Err(why) => play.end(sent, self.now, Err(why), self.turnaround),
            }
        }
    }

    /// Computes a batch: its time passes, and everybody in it gets a token.
    fn compute(&mut self, batch: &Batch, play: &mut Play) {
        let work = Work::of(&self.core, batch);
        let took = (self.cost)(&work);
        let generation = (self.cost)(&work.without_prompts()).min(took);
        let (_, mut spent) = *play.timeline.last().expect("it begins with the start");
        spent.prompts += took - generation;
        spent.generation += generation;
        match self.core.schedule().short {
            Some(Short::Pages) => spent.no_pages += took,
            Some(Short::Places) => spent.no_places += took,
            Some(Short::Pace) => spent.no_pace += took,
            None => {}
        }
        let pool = &self.core.schedule().pool;
        let held = pool.len() - pool.n_free() - pool.n_cached();
        play.pages_peak = play.pages_peak.max(held);
        play.busy += took;
        self.now += took;
        play.timeline.push((self.now, spent));
        // One logit each, so that token 0 is the likeliest.
        let logits = vec![0.0; work.logit_rows];
        let said = self.core.complete(self.now, took, batch, &logits);
        self.hear(said, play);
    }

    fn hear(&self, said: Vec<Said>, play: &mut Play) {
        for (id, output) in said {
            match output {
                Output::Prompt(_) => {}
                Output::Token { .. } => {
                    let open = play.open.get_mut(&id).expect("nothing follows the end");
                    open.tokens.push(self.now - play.start);
                }
                Output::Finished(finished) => {
                    let open = play.open.remove(&id).expect("it ends once");
                    play.end(open, self.now, Ok(finished), self.turnaround);
                }
                Output::Failed(why) => {
                    let open = play.open.remove(&id).expect("it ends once");
                    play.end(open, self.now, Err(why), self.turnaround);
                }
            }
        }
    }
}

/// A play in progress; its times are the core's.
struct Play {
    start: Duration,
    /// When the next request of each lane comes.
    arriving: BTreeSet<(Duration, usize)>,
    waiting: Vec<std::vec::IntoIter<Due>>,
    open: BTreeMap<RequestId, Open>,
    over: Vec<Vec<Played>>,
    /// The sums of what time went to, at the end of each batch.
    timeline: Vec<(Duration, Spent)>,
    busy: Duration,
    pages_peak: usize,
}

/// A request that is not over; its tokens' times are since the start.
struct Open {
    lane: usize,
    sent: Duration,
    tokens: Vec<Duration>,
}

impl Play {
    /// Notes the end of a request, and when the next one of its lane comes.
    fn end(
        &mut self,
        open: Open,
        now: Duration,
        answer: Result<Finished, EngineError>,
        turnaround: Duration,
    ) {
        let Open { lane, sent, tokens } = open;
        let first = tokens.first().map_or(now, |&first| self.start + first);
        let queued = answer.as_ref().map_or(0.0, |finished| finished.queue_seconds);
        let started = (sent + Duration::from_secs_f64(queued)).min(first);
        // Pages can be missing in work too, places only before it.
        let Spent { no_places, no_pace, .. } = self.spent(sent, started);
        let before_first = Spent { no_places, no_pace, ..self.spent(sent, first) };
        let Spent { prompts, generation, .. } = self.spent(first, now);
        let after_first = Spent { prompts, generation, ..Spent::default() };
        self.over[lane].push(Played {
            sent: sent - self.start,
            tokens,
            end: now - self.start,
            answer,
            before_first,
            after_first,
        });
        if let Some(next) = self.waiting[lane].as_slice().first() {
            let at = self.start + next.at.unwrap_or_default();
            self.arriving.insert((at.max(now + turnaround), lane));
        }
    }

    /// What the batches did that ended between two times.
    fn spent(&self, from: Duration, to: Duration) -> Spent {
        let at = |time: Duration| {
            let n = self.timeline.partition_point(|(end, _)| *end <= time);
            self.timeline[n.saturating_sub(1)].1
        };
        let (from, to) = (at(from), at(to));
        Spent {
            prompts: to.prompts - from.prompts,
            generation: to.generation - from.generation,
            no_pages: to.no_pages - from.no_pages,
            no_places: to.no_places - from.no_places,
            no_pace: to.no_pace - from.no_pace,
        }
    }
}

impl Work {
    /// Of a planned batch.
    fn of(core: &Core, batch: &Batch) -> Self {
        let mut work = Self { copies: batch.copies.len(), ..Self::default() };
        let (mut prompt_pages, mut decode_pages) = (Vec::new(), Vec::new());
        for part in &batch.parts {
            let schedule = core.schedule();
            let at = schedule.at(part.key).expect("planned sequences run");
            let sequence = &schedule.running[at];
            let positions = read_by(sequence, part.n_tokens);
            let (rows, read, pages) = match part.is_decode {
                true => (&mut work.decode_rows, &mut work.decode_positions, &mut decode_pages),
                false => (&mut work.prompt_rows, &mut work.prompt_positions, &mut prompt_pages),
            };
            *rows += part.n_tokens;
            *read += positions;
            pages.extend_from_slice(&sequence.pages);
            work.logit_rows += part.logits.count(part.n_tokens);
        }
        (work.prompt_pages, work.decode_pages) = (distinct(prompt_pages), distinct(decode_pages));
        work
    }

    /// What is left of it without prompts.
    fn without_prompts(self) -> Self {
        let Self { decode_rows, decode_positions, decode_pages, .. } = self;
        let logit_rows = decode_rows;
        Self { decode_rows, decode_positions, decode_pages, logit_rows, ..Self::default() }
    }
}

fn distinct(mut pages: Vec<u32>) -> usize {
    pages.sort_unstable();
    pages.dedup();
    pages.len()
}

/// Positions that the next rows of a sequence read: each all before it, and its own.
fn read_by(sequence: &Sequence, n_rows: usize) -> usize {
    n_rows * sequence.n_computed + n_rows * (n_rows + 1) / 2
}

#[cfg(test)]
mod tests;
