//! What a computed batch comes to: tokens are chosen, pieces told, answers ended.

use super::{Core, Said};
use crate::batch::{Batch, Part};
use crate::constraint::Held;
use crate::request::{FinishReason, Output};
use crate::schedule::Schedule;
use crate::sequence::{Listener, Sequence};
use crate::{EngineError, logprobs};
use std::time::Duration;
use sterna_runtime::Logits;

impl Core {
    /// Takes the logits of a batch, `[rows, vocabulary]` for the rows whose logits it wanted, and
    /// what it took to compute them; chooses the next tokens.
    pub fn complete(
        &mut self,
        now: Duration,
        took: Duration,
        batch: &Batch,
        logits: &[f32],
    ) -> Vec<Said> {
        self.counters.batches += 1;
        self.counters.rows += batch.n_rows() as u64;
        self.counters.sequences += batch.parts.len() as u64;
        self.counters.batch_rows.add(batch.n_rows() as f64);
        if let Some(disk) = &mut self.schedule.disk {
            disk.rates.learn_rows(batch.n_rows(), took);
        }
        self.schedule.speculation.learn(batch, took);
        let wanted = |part: &Part| part.logits.count(part.n_tokens);
        let n_rows: usize = batch.parts.iter().map(wanted).sum();
        let n_before = self.counters.new_tokens;
        let vocab = logits.len() / n_rows.max(1);
        let (mut said, mut rest) = (Vec::new(), logits);
        for part in &batch.parts {
            let (own, after) = rest.split_at(wanted(part) * vocab);
            self.advance(now, part, own, &mut said);
            rest = after;
        }
        let n_new = self.counters.new_tokens - n_before;
        let took = took + std::mem::take(&mut self.drafting);
        self.forecast.learn_batch(batch, n_new as usize, took);
        if let Some(error) = self.forecast.error() {
            self.counters.forecast_error.add(error);
        }
        if let Some(fit) = self.forecast.coefficients() {
            let n_decoding = batch.parts.iter().filter(|part| part.is_decode).count();
            self.schedule.pacing.follow(fit, n_decoding);
        }
        said
    }

    /// Ends all sequences of a batch that could not be computed.
    pub fn fail(&mut self, batch: &Batch, why: &EngineError) -> Vec<Said> {
        let mut said = Vec::new();
        for part in &batch.parts {
            self.fail_one(part.key, why, &mut said);
        }
        said
    }

    /// Takes the states before the head, `[rows, features]`, of a batch's rows that wanted them;
    /// before [`Core::complete`].
    pub fn pool(&mut self, batch: &Batch, hidden: &[f32]) {
        let wanted = |part: &Part| part.logits.count_hidden(part.n_tokens);
        let n_rows: usize = batch.parts.iter().map(wanted).sum();
        let mut rows = hidden.chunks_exact((hidden.len() / n_rows.max(1)).max(1));
        for part in &batch.parts {
            let own = rows.by_ref().take(wanted(part));
            match self.schedule.running.iter_mut().find(|s| s.key == part.key) {
                Some(sequence) => own.for_each(|row| sequence.take_state(row)),
                // Cancelled while the batch was computed.
                None => own.for_each(|_| ()),
            }
        }
    }

    /// Notes what was computed of a sequence, and goes on with it: with a token, and with one more
    /// for each of a guess that was right. What was computed of a guess that was wrong lies beyond
    /// `n_computed`, where it is written over.
    fn advance(&mut self, now: Duration, part: &Part, logits: &[f32], said: &mut Vec<Said>) {
        let Schedule { running, tree, pool, disk, .. } = &mut self.schedule;
        // Cancelled while the batch was computed.
        let Some(sequence) = running.iter_mut().find(|s| s.key == part.key) else { return };
        let first = sequence.n_computed;
        sequence.n_computed += part.n_tokens - part.n_drafted;
        if part.n_drafted > 0 {
            sequence.guess.count_computed(part.n_drafted);
            self.counters.spec.count_computed(sequence.guess.source(), part.n_drafted);
        }
        let n_prompt = sequence.n_computed.min(sequence.n_prompt).saturating_sub(first);
        self.counters.prefilled_tokens += n_prompt as u64;
        sequence.note(tree, pool, false);
        if let Some(disk) = disk.as_mut().filter(|_| n_prompt > 0) {
            disk.save_prompt(sequence, now);
        }
        let prompt = sequence.prompt_logprobs(logits, first);
        if !prompt.is_empty() {
            tell(sequence, Output::Prompt(prompt), said);
        }
        if sequence.n_left() > 0 {
            return;
        }
        if sequence.request.max_tokens == 0 {
            return self.finish(now, part.key, FinishReason::Length, said);
        }
        let n_rows = rows_of(part);
        let rows = logits.chunks_exact(logits.len() / n_rows).skip(n_rows - 1 - part.n_drafted);
        for (n, row) in rows.enumerate() {
            if n > 0 && !self.accept(part.key, n) {
                return;
            }
            self.choose(now, part, row, said);
        }
    }

    /// Whether the first `n` tokens of a sequence's guess were chosen, and it goes on: then the row
    /// of the `n`-th is one of it.
    fn accept(&mut self, key: u64, n: usize) -> bool {
        let Schedule { running, tree, pool, .. } = &mut self.schedule;
        let Some(sequence) = running.iter_mut().find(|s| s.key == key) else { return false };
        if sequence.guess.n_right() < n {
            return false;
        }
        sequence.n_computed += 1;
        sequence.note(tree, pool, false);
        true
    }

    /// Chooses the token that follows a row of a sequence, as it would without a guess: by its own
    /// sampler, out of what its grammar allows.
    fn choose(&mut self, now: Duration, part: &Part, row: &[f32], said: &mut Vec<Said>) {
        let at = self.schedule.at(part.key).expect("it was just computed");
        let sequence = &mut self.schedule.running[at];
        match sequence.choose(row, &mut self.sampling) {
            Ok(token) => {
                if let Some(position) = sequence.guess.check(token, part.n_drafted) {
                    self.counters.spec.count_accepted(sequence.guess.source(), position);
                }
                self.say(now, part.key, token, row, said);
            }
            Err(why) => self.fail_one(part.key, &why, said),
        }
    }

    /// Adds a chosen token to a sequence's answer.
    fn say(&mut self, now: Duration, key: u64, token: u32, row: &[f32], said: &mut Vec<Said>) {
        let at = self.schedule.at(key).expect("it was just computed");
        let sequence = &mut self.schedule.running[at];
        if self.tokenizer.is_end(token) && !sequence.request.stop.ignore_eos {
            return self.finish(now, key, FinishReason::Stop, said);
        }
        for listener in &mut sequence.listeners {
            match listener.last_token {
                Some(last) => self.counters.itl.add(now.saturating_sub(last).as_secs_f64()),
                None => {
                    let waited = now.saturating_sub(listener.arrived);
                    self.counters.ttft.add(waited.as_secs_f64());
                    listener.first_token = Some(now);
                }
            }
            listener.last_token = Some(now);
            self.agents.of(&listener.agent).new_tokens += 1;
        }
        sequence.tokens.push(token);
        let accepted = sequence.held.as_mut().map_or(Ok(()), |held| held.accept(token));
        self.counters.new_tokens += 1;
        let piece = sequence.text.push(token);
        let logprob = sequence.request.logprobs.map(|n_top| logprobs::of(row, token, n_top));
        tell(sequence, Output::Token { id: token, text: piece.text, logprob }, said);
        let is_over = sequence.held.as_ref().is_some_and(Held::is_over);
        if let Err(why) = accepted {
            self.fail_one(key, &why, said);
        } else if piece.is_stopped || is_over {
            self.finish(now, key, FinishReason::Stop, said);
        } else if sequence.n_new() >= sequence.request.max_tokens {
            self.finish(now, key, FinishReason::Length, said);
        }
    }

    /// Ends a sequence that came to its end.
    fn finish(&mut self, now: Duration, key: u64, reason: FinishReason, said: &mut Vec<Said>) {
        self.schedule.save_answer(key, now);
        let Some(mut sequence) = self.end(key) else { return };
        let text = sequence.text.finish();
        if let Some(key) = sequence.answer_key.take() {
            let own = &sequence.listeners[0];
            let end = sequence.finished(own, now, reason, text.clone());
            let said = std::mem::take(&mut sequence.said);
            self.answers.insert(now, &key, &sequence.request.cache, said, end);
        }
        for listener in &sequence.listeners {
            self.agents.of(&listener.agent).open -= 1;
            let seconds = |from: Duration| now.saturating_sub(from).as_secs_f64();
            self.counters.e2e.add(seconds(listener.arrived));
            self.counters.finished[usize::from(reason == FinishReason::Length)] += 1;
            let finished = sequence.finished(listener, now, reason, text.clone());
            self.counters.count(listener.class, sequence.request.max_tokens, &finished);
            said.push((listener.id, Output::Finished(finished)));
        }
    }

    fn fail_one(&mut self, key: u64, why: &EngineError, said: &mut Vec<Said>) {
        let Some(sequence) = self.end(key) else { return };
        self.counters.finished[3] += sequence.listeners.len() as u64;
        for listener in &sequence.listeners {
            self.agents.of(&listener.agent).open -= 1;
        }
        let failed = |listener: &Listener| (listener.id, Output::Failed(why.clone()));
        said.extend(sequence.listeners.iter().map(failed));
    }
}

fn rows_of(part: &Part) -> usize {
    if part.logits == Logits::All { part.n_tokens } else { 1 }
}

/// Gives a piece to all who listen, and keeps it for those who come late.
fn tell(sequence: &mut Sequence, output: Output, said: &mut Vec<Said>) {
    said.extend(sequence.listeners.iter().map(|listener| (listener.id, output.clone())));
    if sequence.answer_key.is_some() {
        sequence.said.push(output);
    }
}
