//! Sequences of random tokens that grow together: what `bench` and `profile` run.
//!
//! Any tokens do, since the work does not depend on them; a fixed stride keeps runs alike.

use sterna_measure::latency::BenchTest;
use sterna_runtime::settings::PAGE_LEN;
use sterna_runtime::{Chunk, Logits, Runner, SequenceId};

/// KV positions that the sequences of a test take.
pub fn kv_positions(test: &BenchTest) -> usize {
    let each = test.n_depth + test.n_prompt + test.n_gen;
    test.n_sequences * each.next_multiple_of(PAGE_LEN)
}

/// The sequences of a test, each with its depth of tokens in the KV cache.
pub struct Sequences {
    ids: Vec<SequenceId>,
    test: BenchTest,
}

impl Sequences {
    /// Makes the sequences and fills them to the test's depth, each with tokens of its own.
    ///
    /// # Errors
    /// When the context or the KV cache is too small.
    pub fn fill(runner: &mut Runner, test: BenchTest) -> anyhow::Result<Self> {
        let vocabulary = runner.program().vocabulary();
        let ids = (0..test.n_sequences).map(|_| runner.new_sequence()).collect();
        let sequences = Self { ids, test };
        for (s, &sequence) in sequences.ids.iter().enumerate() {
            let tokens: Vec<u32> = (0..test.n_depth).map(|i| token(s, i, vocabulary)).collect();
            runner.forward(&[Chunk { sequence, tokens: &tokens, logits: Logits::None }])?;
        }
        Ok(sequences)
    }

    /// Runs the test once, or its beginning, to warm up.
    ///
    /// # Errors
    /// When the context or the KV cache is too small.
    pub fn run(&self, runner: &mut Runner, whole: bool) -> anyhow::Result<()> {
        let (most_prompt, most_gen) = if whole { (usize::MAX, usize::MAX) } else { (64, 4) };
        let n_prompt = self.test.n_prompt.min(most_prompt);
        if n_prompt > 0 {
            self.step(runner, 0, n_prompt)?;
        }
        for i in 0..self.test.n_gen.min(most_gen) {
            self.step(runner, n_prompt + i, 1)?;
        }
        Ok(())
    }

    /// Appends `n` tokens to every sequence, in one call.
    fn step(&self, runner: &mut Runner, first: usize, n: usize) -> anyhow::Result<()> {
        let vocabulary = runner.program().vocabulary();
        let tokens = |s: usize| (0..n).map(move |i| token(s, first + i, vocabulary));
        let tokens: Vec<u32> = (0..self.ids.len()).flat_map(tokens).collect();
        let chunk = |(&sequence, tokens)| Chunk { sequence, tokens, logits: Logits::Last };
        let chunks: Vec<Chunk<'_>> = self.ids.iter().zip(tokens.chunks(n)).map(chunk).collect();
        runner.forward(&chunks)?;
        Ok(())
    }

    /// Forgets what the test appended.
    ///
    /// # Errors
    /// Never for sequences of this runner.
    pub fn rewind(&self, runner: &mut Runner) -> anyhow::Result<()> {
        for &sequence in &self.ids {
            runner.truncate(sequence, self.test.n_depth)?;
        }
        Ok(())
    }

    /// Gives their pages back.
    ///
    /// # Errors
    /// Never for sequences of this runner.
    pub fn free(self, runner: &mut Runner) -> anyhow::Result<()> {
        for sequence in self.ids {
            runner.free(sequence)?;
        }
        Ok(())
    }
}

fn token(sequence: usize, i: usize, vocabulary: usize) -> u32 {
    ((i * 7919 + sequence * 31) % vocabulary) as u32
}
