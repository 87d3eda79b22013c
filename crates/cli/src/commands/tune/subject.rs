//! What tuning runs: a prompt and some tokens, in any configuration of the knobs.

use std::sync::Arc;
use sterna_measure::clock::{Clock, RealClock};
use sterna_measure::compare;
use sterna_measure::search::{Knob, Tunable};
use sterna_model::{Graph, WeightSource};
use sterna_runtime::tuning::KNOBS;
use sterna_runtime::{Chunk, Logits, Means, Program, Runner, Settings};

/// Tokens of the longest prompt.
const MAX_PROMPT: usize = 1024;
/// Prompt tokens per generated one: both parts take about as long.
const PROMPT_PER_TOKEN: usize = 16;
/// Tokens of a short chunk, such as several sequences or a guess that is checked make; as many are
/// taken in such chunks as are generated.
const SHORT: usize = 8;
/// Positions that a run takes at most.
pub const MAX_CONTEXT: usize = MAX_PROMPT + 2 * MAX_PROMPT / PROMPT_PER_TOKEN;
/// Tokens of the shortest prompt, and of the first runs, from which the length is chosen.
const MIN_PROMPT: usize = 64;
/// First runs; the fastest counts, as other work can only slow one down.
const FIRST_RUNS: usize = 4;

/// A model to run.
pub struct Subject<'m> {
    graph: &'m Graph,
    source: &'m dyn WeightSource,
    name: String,
    settings: Settings,
    /// In the default configuration; the others share its weights.
    base: Program,
    n_prompt: usize,
}

impl<'m> Subject<'m> {
    /// Prepares a model, and chooses how much of it fills about `seconds` per run.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn new(
        graph: &'m Graph,
        source: &'m dyn WeightSource,
        name: String,
        settings: Settings,
        seconds: f64,
    ) -> anyhow::Result<Self> {
        let base = Program::compile(graph, source, &settings, None)?;
        let longest = settings.context_len * PROMPT_PER_TOKEN / (PROMPT_PER_TOKEN + 2);
        let n_prompt = MIN_PROMPT.min(longest).max(1);
        let mut subject = Self { graph, source, name, settings, base, n_prompt };
        let mut run = subject.runner(&[]).map(|runner| subject.run(runner))?;
        let mut once = f64::INFINITY;
        for _ in 0..FIRST_RUNS {
            once = once.min(run().map_err(anyhow::Error::msg)?);
        }
        drop(run);
        let wanted = n_prompt as f64 * seconds / once;
        subject.n_prompt = (wanted as usize).clamp(n_prompt, MAX_PROMPT).min(longest).max(1);
        Ok(subject)
    }

    /// What a run is, for people.
    pub fn workload(&self) -> String {
        let n_gen = self.n_gen();
        format!(
            "{}: a prompt of {} tokens, then {n_gen} one by one and {n_gen} by {SHORT}",
            self.name, self.n_prompt
        )
    }

    fn n_gen(&self) -> usize {
        (self.n_prompt / PROMPT_PER_TOKEN).max(1)
    }

    /// A knob without the candidates that this workload cannot tell from another.
    pub fn worth_measuring(&self, knob: &Knob) -> Knob {
        let is_rows = knob.name == "max_batch_rows";
        let differs = |value: &usize| {
            !is_rows || (*value).min(self.n_prompt) != knob.default.min(self.n_prompt)
        };
        let candidates = knob.candidates.iter().copied().filter(differs).collect();
        Knob { candidates, ..knob.clone() }
    }

    /// Whether two configurations give the same bits, as they must.
    ///
    /// # Errors
    /// Where they do not, as a sentence.
    pub fn check_bits(&self, a: &[usize], b: &[usize]) -> Result<(), String> {
        let logits = |values: &[usize]| -> anyhow::Result<Vec<f32>> {
            let mut runner = self.runner(values)?;
            let sequence = runner.new_sequence();
            let tokens = self.tokens(self.n_prompt.min(64));
            let chunk = Chunk { sequence, tokens: &tokens, logits: Logits::All };
            Ok(runner.forward(&[chunk])?.to_vec())
        };
        let failed = |error: anyhow::Error| format!("{error:#}");
        let (a_logits, b_logits) = (logits(a).map_err(failed)?, logits(b).map_err(failed)?);
        let same = a_logits.iter().zip(&b_logits).all(|(x, y)| x.to_bits() == y.to_bits());
        if same { Ok(()) } else { Err(format!("the knobs {a:?} and {b:?} give other logits")) }
    }

    fn tokens(&self, n: usize) -> Vec<u32> {
        // Any tokens do: the work does not depend on them. A fixed stride keeps runs alike.
        (0..n).map(|i| (i * 7919 % self.base.vocabulary()) as u32).collect()
    }

    fn runner(&self, values: &[usize]) -> anyhow::Result<Runner> {
        let mut settings = self.settings.clone();
        for (knob, &value) in KNOBS.iter().zip(values) {
            (knob.set)(&mut settings, value);
        }
        let means = Means { twin: Some(&self.base), ..Means::default() };
        let program = Program::compile_with(self.graph, self.source, &settings, means)?;
        Ok(Runner::new(Arc::new(program))?)
    }

    fn run(&self, mut runner: Runner) -> impl FnMut() -> Result<f64, String> + use<> {
        let (prompt, rest) = (self.tokens(self.n_prompt), self.tokens(self.n_gen()));
        let mut once = move || -> anyhow::Result<f64> {
            let sequence = runner.new_sequence();
            let clock = RealClock::new();
            let chunk = |tokens| Chunk { sequence, tokens, logits: Logits::Last };
            runner.forward(&[chunk(&prompt)])?;
            for tokens in rest.chunks(1).chain(rest.chunks(SHORT)) {
                runner.forward(&[chunk(tokens)])?;
            }
            let seconds = clock.now().as_secs_f64();
            runner.free(sequence)?;
            Ok(seconds)
        };
        move || once().map_err(|error| format!("{error:#}"))
    }
}

impl Tunable for Subject<'_> {
    fn prepare(&self, values: &[usize]) -> Result<Box<compare::Subject<'_>>, String> {
        let runner = self.runner(values).map_err(|error| format!("{error:#}"))?;
        Ok(Box::new(self.run(runner)))
    }
}
