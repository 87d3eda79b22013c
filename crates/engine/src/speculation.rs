//! Speculative decoding: whose guessed tokens the next batch computes beside the last one.
//!
//! In: what steps took by their rows, and which guesses were right. Out: how many tokens of each
//! guess are computed. The sampler of a request chooses after each of them as it would have without
//! (see [`crate::core`]), so that answers are the same, token by token, whatever is decided here:
//! this is about time alone.
//!
//! Measured, not assumed: a further row is computed where it is expected to raise the tokens per
//! second of the whole batch. A CPU that is held up by memory computes a few rows in the time of
//! one; a batch that has many rows already gains nothing, and so nothing is guessed then.

use crate::batch::Batch;
use crate::costs::{Cost, Costs, MOST_ROWS};
use crate::guess::Source;
use crate::lookup;
use crate::pages::PagePool;
use crate::prefix::PrefixTree;
use crate::sequence::Sequence;
use std::time::Duration;
use sterna_runtime::Logits;
use sterna_runtime::settings::PAGE_LEN;

/// Tokens of a guess at most.
pub const MOST_DRAFTED: usize = 16;

/// Sequences that a draft model may go on with at once.
pub const MOST_MODELLED: usize = 4;

/// When guesses are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Never.
    #[default]
    Never,
    /// Where measurements say that it pays.
    Measured,
    /// Always where there is a guess and room for it.
    Always,
}

/// How to speculate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speculate {
    /// With guesses from a sequence's own tokens, and from what its client expects.
    pub lookup: When,
    /// With guesses of a draft model, where there is one.
    pub model: When,
    /// Tokens of a guess at most; no more than [`MOST_DRAFTED`].
    pub most: usize,
}

impl Default for Speculate {
    fn default() -> Self {
        Self { lookup: When::Never, model: When::Never, most: 8 }
    }
}

/// Whether guesses are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nobody wants them.
    #[default]
    Off,
    /// As long as measurements say that they pay.
    On,
    /// Of the last guesses nothing was computed, since that would not have paid; it is tried again
    /// when what was measured is old.
    Resting,
}

/// A sequence that a draft model is asked to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The sequence.
    pub key: u64,
    /// Its tokens.
    pub tokens: &'a [u32],
    /// Tokens to guess.
    pub most: usize,
}

/// What a draft model guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drafted {
    /// The guess for each sequence.
    pub guesses: Vec<(u64, Vec<u32>)>,
    /// What it took to read sequences that were new.
    pub reading: Duration,
    /// What the rounds took: each guesses one token of every sequence.
    pub took: Duration,
    /// Rounds.
    pub n_rounds: u32,
}

/// Decides what is guessed and computed.
#[derive(Clone, Debug, Default)]
pub struct Speculation {
    how: Speculate,
    /// What steps without prompts took.
    costs: Costs,
    /// What a round of the draft model takes.
    round: Cost,
    /// Whether nothing was computed of the last guesses.
    is_resting: bool,
}

impl Speculation {
    /// Nothing learned yet.
    pub fn new(how: Speculate) -> Self {
        let how = Speculate { most: how.most.min(MOST_DRAFTED), ..how };
        Self { how, ..Self::default() }
    }

    fn is_off(&self) -> bool {
        self.how.lookup == When::Never && self.how.model == When::Never || self.how.most == 0
    }

    /// Learns from a batch.
    pub fn learn(&mut self, batch: &Batch, took: Duration) {
        if !self.is_off() && batch.parts.iter().all(|part| part.is_decode) {
            self.costs.learn(batch.n_rows(), took);
        }
    }

    /// What is done now.
    pub fn state(&self) -> State {
        match (self.is_off(), self.is_resting) {
            (true, _) => State::Off,
            (false, true) => State::Resting,
            (false, false) => State::On,
        }
    }

    /// Guesses for sequences in work, and decides how many tokens of each guess the next batch
    /// computes. None beside prompts, which fill a batch by themselves.
    pub fn guess(&mut self, running: &mut [Sequence], max_rows: usize) {
        if self.is_off() {
            return running.iter_mut().for_each(|sequence| sequence.guess.forget());
        }
        let room = max_rows.min(MOST_ROWS).saturating_sub(running.len());
        let has_lookup = self.how.lookup != When::Never;
        for sequence in running.iter_mut() {
            let most = if room > 0 { sequence.n_guessable().min(self.how.most) } else { 0 };
            let n_new = sequence.n_new();
            let Sequence { guess, tokens, request, .. } = sequence;
            guess.renew(tokens.len(), most, || match most {
                0 => Default::default(),
                _ => lookup::guess(tokens, n_new, &request.prediction, has_lookup, most),
            });
        }
        if room == 0 || !running.iter().all(Sequence::is_decoding) {
            return;
        }
        let counts = self.choose(running, room);
        let is_measured = self.costs.known(running.len()).is_some();
        if is_measured && running.iter().any(|s| !s.guess.is_empty()) {
            self.is_resting = counts.iter().all(|&n| n == 0);
        }
        for (sequence, &n) in running.iter_mut().zip(&counts) {
            let last = *sequence.tokens.last().expect("a sequence has a token");
            sequence.guess.compute(last, n);
        }
    }

    /// How many tokens of each guess make the most of the next step: the likeliest of all, as long
    /// as one more raises the expected tokens per second.
    fn choose(&self, running: &[Sequence], room: usize) -> Vec<usize> {
        let mut counts = vec![0; running.len()];
        let mut gains: Vec<(f64, usize)> = Vec::new();
        for (which, guess) in running.iter().map(|s| &s.guess).enumerate() {
            let is_forced = self.when(guess.source()) == When::Always;
            let chance = if is_forced { f64::INFINITY } else { guess.chance(guess.source()) };
            // A token counts only if all before it are right too.
            gains.extend((1..=guess.len()).map(|n| (chance.powi(n as i32), which)));
        }
        gains.sort_by(|a, b| b.0.total_cmp(&a.0));
        gains.truncate(room);
        let n_forced = gains.iter().take_while(|(gain, _)| gain.is_infinite()).count();
        let n_best = self.best(running.len(), gains.iter().map(|(gain, _)| gain.min(1.0)));
        for &(_, which) in &gains[..n_best.max(n_forced)] {
            counts[which] += 1;
        }
        counts
    }

    /// How many rows more than `n` give the most tokens per second, where each adds so many tokens.
    /// None until a step without them is measured.
    fn best(&self, n: usize, gains: impl Iterator<Item = f64>) -> usize {
        let Some(plain) = self.costs.known(n) else { return 0 };
        let (mut best, mut most, mut tokens) = (0, n as f64 / plain, n as f64);
        for (more, gain) in (1..).zip(gains) {
            tokens += gain;
            let rate = tokens / self.costs.estimate(n + more).unwrap_or(plain);
            if rate > most {
                (best, most) = (more, rate);
            }
        }
        best
    }

    fn when(&self, source: Source) -> When {
        match source {
            Source::Lookup => self.how.lookup,
            Source::Model => self.how.model,
            // Whoever guesses at all takes the client's word too.
            Source::Prediction if self.how.lookup == When::Never => self.how.model,
            Source::Prediction => self.how.lookup,
        }
    }

    /// The sequences that a draft model should go on with now, and how far.
    pub fn wanted<'a>(&self, running: &'a [Sequence]) -> Vec<Wanted<'a>> {
        let is_few = running.len() < MOST_ROWS && running.iter().all(Sequence::is_decoding);
        if self.how.model == When::Never || !is_few {
            return Vec::new();
        }
        let has_lookup = self.how.lookup != When::Never;
        let asks = |s: &&Sequence| {
            let expected = &s.request.prediction;
            let (source, found) = lookup::guess(&s.tokens, s.n_new(), expected, has_lookup, 1);
            let is_likelier = s.guess.chance(source) >= s.guess.chance(Source::Model);
            s.n_guessable() > 0 && (found.is_empty() || !is_likelier)
        };
        let asking: Vec<&Sequence> = running.iter().filter(asks).take(MOST_MODELLED).collect();
        let depth = self.depth(running.len(), &asking);
        let wanted = |s: &&'a Sequence| {
            let most = s.n_guessable().min(depth);
            (most > 0).then_some(Wanted { key: s.key, tokens: &s.tokens, most })
        };
        asking.iter().filter_map(wanted).collect()
    }

    /// How many tokens the draft model should guess for each of these.
    fn depth(&self, n: usize, asking: &[&Sequence]) -> usize {
        if self.how.model == When::Always {
            return self.how.most;
        }
        let Some(plain) = self.costs.known(n) else { return 0 };
        let round = self.round.seconds(self.costs.step()).unwrap_or(0.0);
        let (mut best, mut most, mut tokens) = (0, n as f64 / plain, n as f64);
        for depth in 1..=self.how.most {
            let chance = |s: &&Sequence| s.guess.chance(Source::Model).powi(depth as i32);
            tokens += asking.iter().map(chance).sum::<f64>();
            let rows = n + depth * asking.len();
            let step = self.costs.estimate(rows).unwrap_or(plain);
            let rate = tokens / (step + round * depth as f64);
            if rate > most && rows <= MOST_ROWS {
                (best, most) = (depth, rate);
            }
        }
        best
    }

    /// Takes what a draft model guessed.
    pub fn propose(&mut self, running: &mut [Sequence], drafted: Drafted) {
        if drafted.n_rounds > 0 {
            self.round.learn(drafted.took / drafted.n_rounds, self.costs.step());
        }
        for (key, tokens) in drafted.guesses {
            if let Some(sequence) = running.iter_mut().find(|s| s.key == key) {
                let n_tokens = sequence.tokens.len();
                sequence.guess.propose(n_tokens, tokens);
            }
        }
    }

    /// Asks the draft model no more, since it failed.
    pub fn forget_model(&mut self) {
        self.how.model = When::Never;
    }
}

/// Adds guesses to a batch that is planned, as long as there are pages for which nobody in work has
/// to give way: rows without a page are left out, and those beyond so many.
pub fn extend(
    batch: &mut Batch,
    running: &mut [Sequence],
    tree: &mut PrefixTree,
    pool: &mut PagePool,
    mut n_left: usize,
) {
    for part in batch.parts.iter_mut().filter(|part| part.is_decode) {
        let sequence = running.iter_mut().find(|s| s.key == part.key).expect("planned ones run");
        let end = sequence.n_computed + sequence.guess.rows().len();
        while sequence.pages.len() * PAGE_LEN < end && tree.make_room(pool, 1) {
            sequence.pages.push(pool.take().expect("there is room"));
        }
        let n_fitting = sequence.pages.len() * PAGE_LEN - sequence.n_computed;
        sequence.guess.limit_rows(n_fitting.min(n_left + 1));
        part.n_drafted = sequence.guess.rows().len().saturating_sub(1);
        n_left -= part.n_drafted;
        if part.n_drafted > 0 {
            // Nobody asked for a guess, so nobody's share is charged for it.
            part.n_tokens += part.n_drafted;
            part.logits = Logits::All;
        }
    }
}

#[cfg(test)]
mod tests;
