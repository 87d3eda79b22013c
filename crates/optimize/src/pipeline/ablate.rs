//! Whether each optimization of the runtime pays for the artifact on this machine (A6): with it
//! against without it, interleaved. What costs more than it brings is switched off.
//!
//! In: the draft that will be written. Out: the runs of each switch; `times.rs` says what follows.

use super::speed::{self, Effort};
use crate::draft::Draft;
use crate::engine::{Engine, Loaded};
use crate::error::Result;
use crate::evidence::times::Switched;
use crate::progress::{Stage, Watch};
use std::time::Duration;
use sterna_measure::ablation::{Effect, Switch, effect};
use sterna_measure::compare::{Settings, timed};
use sterna_measure::quality::Passages;
use sterna_measure::{Clock, MeasureError};

/// Tokens of the prompt of a run, and tokens generated after it.
const WORK: (usize, usize) = (32, 16);
/// The same for models whose runs would take longer than [`LONG`].
const SHORT_WORK: (usize, usize) = (8, 4);
const LONG: Duration = Duration::from_millis(250);
/// Rounds of a comparison at most, or what the effort asks for if that is more.
const N_ROUNDS: usize = 40;
/// How long the runs of a switch may take, about.
const MAX_TIME: Duration = Duration::from_secs(10);

/// A model with an optimization, and the same without.
struct Pair<'a> {
    name: &'a str,
    on: &'a mut dyn Loaded,
    off: Box<dyn Loaded>,
    prompt: &'a [u32],
    n_generate: usize,
    clock: &'a dyn Clock,
    watch: Watch<'a>,
}

impl Switch for Pair<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self, on: bool) -> std::result::Result<f64, String> {
        let model = if on { &mut *self.on } else { &mut *self.off };
        let (prompt, n, watch) = (self.prompt, self.n_generate, self.watch);
        timed(self.clock, || speed::cost(model, prompt, n, watch))()
    }
}

/// Measures every optimization that the engine has on.
pub fn ablate(
    draft: &Draft<'_>,
    text: &Passages,
    effort: Effort,
    (engine, clock): (&dyn Engine, &dyn Clock),
    watch: Watch<'_>,
) -> Result<Vec<Switched>> {
    if effort.max_rounds == 0 {
        return Ok(Vec::new());
    }
    let names = engine.optimizations();
    let mut switched = Vec::new();
    watch.step(Stage::Ablate, 0, names.len(), "preparing the plan")?;
    let load = |engine: &dyn Engine| engine.load(draft.graph(), draft);
    let mut on = load(engine)?;
    let (prompt, n_generate) = work(&mut *on, speed::tokens(text), clock)?;
    for (index, name) in names.iter().enumerate() {
        watch.step(Stage::Ablate, index, names.len(), &format!("with and without {name}"))?;
        let off = load(&*engine.without(std::slice::from_ref(name))?)?;
        let (on, prompt) = (&mut *on, &prompt[..]);
        let mut pair = Pair { name, on, off, prompt, n_generate, clock, watch };
        let effect = measured(&mut pair, effort, clock);
        // A stop inside of a run comes back as its failure.
        watch.check()?;
        let comparison = effect?.comparison;
        switched.push(Switched {
            name: name.clone(),
            n_prompt: prompt.len(),
            n_generate,
            on: comparison.a.raw().to_vec(),
            off: comparison.b.raw().to_vec(),
        });
    }
    watch.step(Stage::Ablate, names.len(), names.len(), "done")?;
    Ok(switched)
}

/// The prompt of a run, and how many tokens are generated after it.
fn work(
    model: &mut dyn Loaded,
    tokens: &[u32],
    clock: &dyn Clock,
) -> std::result::Result<(Vec<u32>, usize), MeasureError> {
    let room = model.context_len();
    let fitting = |(n_prompt, n_generate): (usize, usize)| {
        let prompt = speed::prompt(tokens, n_prompt.min(room / 2).max(1));
        let n_generate = n_generate.min(room.saturating_sub(prompt.len() + 1)).max(2);
        (prompt, n_generate)
    };
    let (prompt, n_generate) = fitting(SHORT_WORK);
    let start = clock.now();
    model.generate(&prompt, n_generate, &mut || {}).map_err(speed::failed)?;
    // Four times the work takes about as many times as long.
    let is_long = 4 * (clock.now() - start) > LONG;
    Ok(if is_long { (prompt, n_generate) } else { fitting(WORK) })
}

/// As many rounds as the time allows, within what the effort asks for.
fn measured(
    pair: &mut Pair<'_>,
    effort: Effort,
    clock: &dyn Clock,
) -> std::result::Result<Effect, MeasureError> {
    let start = clock.now();
    pair.run(true).and_then(|_| pair.run(false)).map_err(speed::failed)?;
    // Runs are short, so that there is time for many.
    let max_rounds = effort.max_rounds.max(N_ROUNDS);
    let effort = Effort { max_rounds, max_time: effort.max_time.min(MAX_TIME), ..effort };
    let max_rounds = effort.rounds(clock.now() - start);
    let min_rounds = max_rounds.min(10);
    effect(pair, &Settings { n_warmup: 1, max_rounds, min_rounds, ..Settings::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::times::Times;
    use crate::progress::Silent;
    use crate::runner::RuntimeEngine;
    use crate::testing::{Sleepy, tiny_model};
    use std::sync::atomic::AtomicBool;
    use sterna_measure::Workload;
    use sterna_measure::clock::RealClock;
    use sterna_measure::quality::Scoring;
    use sterna_runtime::Settings;

    // proves A6
    #[test]
    fn a_planted_slow_optimization_is_switched_off_with_its_cost() {
        let tiny = tiny_model(3);
        let draft = Draft::new(&tiny.graph, &tiny);
        let workload = Workload::new("test", vec![vec![1; 40]; 2], 80).unwrap();
        let scoring = Scoring::Documents { bos: None, n_unscored: 0 };
        let passages = Passages::new(&workload, scoring).unwrap();
        let settings = Settings { threads: Some(1), context_len: 64, ..Settings::default() };
        let engine = Sleepy { engine: RuntimeEngine::new(settings).unwrap(), is_on: true };
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &Silent, stop: &stop };
        let effort = Effort { max_rounds: 10, ..Effort::default() };
        let clock = RealClock::new();
        let switched = ablate(&draft, &passages, effort, (&engine, &clock), watch).unwrap();
        let names: Vec<&str> = switched.iter().map(|switched| &*switched.name).collect();
        assert_eq!(names, ["ultra_fusion", "memory_pooling", "sleepy"]);
        let speed = Times { switched, ..Times::default() }.derive().unwrap();
        assert!(speed.off().contains(&"sleepy".to_owned()), "{:?}", speed.ablations);
        assert!(speed.ablations[2].line.starts_with("costs "), "{:?}", speed.ablations);
        let effect = speed.ablations[2].without_percent;
        assert!(effect < -50.0, "a run of a tiny model is far shorter than 5 ms: {effect}%");
        let without = engine.without(&speed.off()).unwrap();
        assert!(!without.optimizations().contains(&"sleepy".to_owned()));
        let none = ablate(&draft, &passages, Effort::none(), (&engine, &clock), watch).unwrap();
        assert!(none.is_empty(), "nothing is timed where nobody asked for it");
    }
}
