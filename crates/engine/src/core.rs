//! From events to outputs: the engine without its thread.
//!
//! In: requests, cancellations, the time, and the logits of each batch. Out: batches to compute and
//! pieces of answers. The same events at the same times give the same batches, and a request's
//! answer depends on neither: it is the request's alone. `core/outcome.rs` is what follows a
//! computed batch.

mod outcome;
mod sessions;
mod speculating;

use crate::EngineError;
use crate::agents::Agents;
use crate::answer_key::AnswerKey;
use crate::answers::Answers;
use crate::batch::{Batch, Part};
use crate::constraint::Held;
use crate::deadlines;
use crate::disk::tier::Tier;
use crate::forecast::Forecast;
use crate::guess::Guessed;
use crate::limits::Limits;
use crate::request::{FinishReason, Finished, Output, Request, RequestId};
use crate::schedule::Schedule;
use crate::sequence::{Listener, Sequence};
use crate::stats::Stats;
use std::sync::Arc;
use std::time::Duration;
use sterna_model::Tokenizer;
use sterna_runtime::{Logits, PagedChunk, SamplerMemory};

/// What was forgotten because somebody asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Answers that were kept.
    pub answers: usize,
    /// Pages of the prefix tree.
    pub pages: usize,
    /// Files of pages on the disk.
    pub disk_files: usize,
}

/// A piece of an answer, and whose.
pub type Said = (RequestId, Output);

/// The engine's state.
pub struct Core {
    pub(crate) schedule: Schedule,
    tokenizer: Arc<Tokenizer>,
    next_key: u64,
    agents: Agents,
    answers: Answers,
    forecast: Forecast,
    /// What the draft model took since the last batch.
    drafting: Duration,
    sampling: SamplerMemory,
    counters: Stats,
}

impl Core {
    /// Nothing in work yet.
    pub fn new(limits: Limits, tokenizer: Arc<Tokenizer>) -> Self {
        let (agents, counters, forecast, drafting, sampling) = Default::default();
        let (schedule, answers, next_key) =
            (Schedule::new(limits), Answers::new(limits.answers), 0);
        Self {
            schedule,
            tokenizer,
            next_key,
            agents,
            answers,
            forecast,
            drafting,
            sampling,
            counters,
        }
    }

    /// Takes a request that [`Limits::check`] found good. Where its answer is kept, it is told at
    /// once; where one that is in work has the same, this one listens to it, and is told what was
    /// said so far.
    pub fn submit(&mut self, now: Duration, id: RequestId, request: Request) -> Vec<Said> {
        let n_prompt = request.prompt.len() as u64;
        self.counters.prompt_tokens += n_prompt;
        let counted = self.agents.of(&request.agent);
        counted.requests += 1;
        counted.prompt_tokens += n_prompt;
        let key = AnswerKey::of(&request);
        if let Some(key) = &key {
            if let Some(said) = self.replay(now, id, &request, key) {
                return said;
            }
            if let Some(said) = self.join(now, id, &request, key) {
                return said;
            }
        }
        let mut sequence = self.sequence(now, id, request, key);
        let Self { schedule, forecast, .. } = self;
        deadlines::estimate(schedule, &mut sequence);
        if let Err(why) = deadlines::check(now, schedule, forecast, &sequence) {
            schedule.forget(sequence.key);
            self.counters.deadlines[0] += 1;
            self.counters.finished[3] += 1;
            return vec![(id, Output::Failed(why))];
        }
        self.agents.of(&sequence.request.agent).open += 1;
        self.schedule.shares.enter(&sequence.request.agent);
        self.schedule.queue.push(sequence);
        Vec::new()
    }

    fn sequence(
        &mut self,
        now: Duration,
        id: RequestId,
        request: Request,
        answer_key: Option<AnswerKey>,
    ) -> Sequence {
        let key = self.next_key;
        self.next_key += 1;
        let listener = Listener::new(now, id, &request, false);
        let tokenizer = self.tokenizer.clone();
        let mut sequence = Sequence::new(key, request, answer_key, listener, tokenizer);
        sequence.reads_whole = self.schedule.limits.reads_whole;
        sequence
    }

    /// Listens to a sequence that has the same answer.
    fn join(
        &mut self,
        now: Duration,
        id: RequestId,
        request: &Request,
        key: &AnswerKey,
    ) -> Option<Vec<Said>> {
        let Schedule { running, queue, .. } = &mut self.schedule;
        let mut all = running.iter_mut().chain(queue);
        let same = all.find(|s| s.answer_key.as_ref() == Some(key))?;
        self.counters.coalesced += 1;
        self.agents.of(&request.agent).open += 1;
        let mut listener = Listener::new(now, id, request, true);
        if same.n_new() > 0 {
            (listener.first_token, listener.last_token) = (Some(now), Some(now));
            self.counters.ttft.add(request.waited.as_secs_f64());
        }
        same.listeners.push(listener);
        if let Some(session) = request.session.as_ref().filter(|&s| !same.sessions.contains(s)) {
            same.sessions.push(session.clone());
        }
        Some(same.said.iter().map(|output| (id, output.clone())).collect())
    }

    /// An answer that was kept. Where its pages are wanted for a session and are gone, it is
    /// computed again.
    fn replay(
        &mut self,
        now: Duration,
        id: RequestId,
        request: &Request,
        key: &AnswerKey,
    ) -> Option<Vec<Said>> {
        if request.session.is_some() && !self.has_pages(request) {
            return None;
        }
        let (kept, age) = self.answers.find(now, key, &request.cache)?;
        self.keep_session(request, &kept.said);
        self.agents.of(&request.agent).new_tokens += kept.finished.new_tokens as u64;
        let waited = request.waited.as_secs_f64();
        if kept.finished.new_tokens > 0 {
            self.counters.ttft.add(waited);
        }
        self.counters.e2e.add(waited);
        self.counters.finished[usize::from(kept.finished.reason == FinishReason::Length)] += 1;
        let finished = Finished {
            cached_tokens: kept.finished.prompt_tokens,
            queue_seconds: waited,
            prefill_seconds: 0.0,
            decode_seconds: 0.0,
            is_coalesced: false,
            guessed: Guessed::default(),
            predicted: (!request.prediction.is_empty()).then(Guessed::default),
            age: Some(age),
            ..kept.finished
        };
        self.counters.count(request.class, request.max_tokens, &finished);
        let said = kept.said.iter().cloned().chain([Output::Finished(finished)]);
        Some(said.map(|output| (id, output)).collect())
    }

    /// Ends whoever is too late, or will be.
    pub fn expire(&mut self, now: Duration) -> Vec<Said> {
        let (gone, over) = deadlines::expire(now, &mut self.schedule, &self.forecast);
        let mut said = Vec::new();
        for (listener, failed) in gone {
            let is_missed = failed.1 == Output::Failed(EngineError::DeadlineMissed);
            self.counters.deadlines[usize::from(is_missed)] += 1;
            self.counters.finished[3] += 1;
            self.agents.of(&listener.agent).open -= 1;
            said.push(failed);
        }
        for key in over {
            self.end(key);
        }
        said
    }

    /// Forgets the answers that were kept, the prefixes that nobody uses, and those on the disk.
    /// The pages of sessions and of who is in work stay.
    pub fn flush(&mut self) -> Flushed {
        let Schedule { tree, pool, disk, .. } = &mut self.schedule;
        let n_free = pool.n_free();
        tree.clear(pool);
        Flushed {
            answers: self.answers.clear(),
            pages: pool.n_free() - n_free,
            disk_files: disk.as_mut().map_or(0, Tier::clear),
        }
    }

    /// Ends a request whose client went away; nothing where it is over. Its sequence ends with its
    /// last listener.
    pub fn cancel(&mut self, now: Duration, id: RequestId) -> Option<Said> {
        let Schedule { running, queue, .. } = &mut self.schedule;
        let hears = |s: &&mut Sequence| s.listeners.iter().any(|listener| listener.id == id);
        let sequence = running.iter_mut().chain(queue).find(hears)?;
        let at = sequence.listeners.iter().position(|listener| listener.id == id)?;
        let gone = sequence.listeners.remove(at);
        let finished = sequence.finished(&gone, now, FinishReason::Cancelled, String::new());
        let key = sequence.listeners.is_empty().then_some(sequence.key);
        self.agents.of(&gone.agent).open -= 1;
        self.counters.finished[2] += 1;
        if let Some(key) = key {
            self.end(key);
        }
        Some((id, Output::Finished(finished)))
    }

    /// The next batch; empty when there is nothing to do.
    pub fn plan(&mut self, now: Duration) -> Batch {
        self.schedule.plan(now)
    }

    /// A planned batch's tokens and pages.
    pub fn chunks(&self, batch: &Batch) -> Vec<PagedChunk<'_>> {
        let chunk = |part: &Part| {
            let at = self.schedule.at(part.key).expect("planned sequences run");
            self.schedule.running[at].chunk(part)
        };
        batch.parts.iter().map(chunk).collect()
    }

    /// The places in their grammars of a batch's sequences that get a token, so that what may come
    /// next can be found while the batch is computed; [`Core::give_back`] takes them again. Without
    /// this it is found when the batch is complete, and is the same.
    pub fn take_held(&mut self, batch: &Batch) -> Vec<(u64, Held)> {
        let running = &mut self.schedule.running;
        let ends = |part: &&Part| part.logits != Logits::None;
        let take = |part: &Part| {
            let sequence = running.iter_mut().find(|s| s.key == part.key)?;
            Some((part.key, sequence.held.take()?))
        };
        batch.parts.iter().filter(ends).filter_map(take).collect()
    }

    /// Puts back what [`Core::take_held`] took.
    pub fn give_back(&mut self, held: Vec<(u64, Held)>) {
        for (key, held) in held {
            let at = self.schedule.at(key).expect("nobody leaves while a batch is computed");
            self.schedule.running[at].held = Some(held);
        }
    }

    /// Whether nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.schedule.running.is_empty() && self.schedule.queue.is_empty()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        let schedule = &self.schedule;
        let Schedule { queue, running, pool, sessions, disk, .. } = schedule;
        let speculation = &schedule.speculation;
        Stats {
            waiting: queue.len(),
            running: running.len(),
            pages: pool.len(),
            pages_used: pool.len() - pool.n_free(),
            pages_cached: pool.n_cached(),
            preemptions: schedule.n_preempted,
            looked_up_tokens: schedule.n_looked_up,
            cached_tokens: schedule.n_cached,
            disk_tokens: disk.as_ref().map_or(0, |disk| disk.n_tokens),
            answers: self.answers.stats(),
            sessions: sessions.len(),
            max_running: self.schedule.limits.max_running,
            paced_running: schedule.pacing.places(),
            paced_rows: schedule.pacing.rows(),
            speculation: speculation.state(),
            agents: self.agents.all(running.iter().flat_map(in_work)),
            ..self.counters.clone()
        }
    }

    /// The schedule: what a rehearsal measures, and tests check.
    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The same to be changed.
    #[cfg(test)]
    pub(crate) fn schedule_mut(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    fn end(&mut self, key: u64) -> Option<Sequence> {
        let sequence = self.schedule.remove(key)?;
        self.schedule.shares.leave(&sequence.request.agent);
        Some(sequence)
    }
}

/// The agents who listen to a sequence.
fn in_work(sequence: &Sequence) -> impl Iterator<Item = &str> {
    sequence.listeners.iter().map(|listener| listener.agent.as_str())
}
