//! The search: which encoding each group of tensors gets, under a size or a quality budget.
//!
//! In: groups with their candidates, and a [`Judge`] that measures a choice. Out: [`Found`], with
//! every measurement made on the way. First each group is encoded alone and measured; if losses
//! added up, a knapsack over them would be the answer. They do not quite, so what a strategy
//! ([`strategies`]) answers is a proposal: whole plans are measured, and mended by measured steps
//! ([`refine`]).

pub mod costs;
mod estimate;
pub mod goal;
pub mod groups;
pub mod knapsack;
pub mod memory;
pub mod packed;
pub mod preset;
pub mod refine;
pub mod screen;
pub mod sensitivity;
pub mod strategies;

use crate::draft::Draft;
use crate::error::Result;
use crate::progress::Watch;
use sensitivity::Measured;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use sterna_formats::EncodingRef;
use sterna_measure::Clock;
use sterna_model::WeightId;

pub use costs::Costs;
pub use goal::{Goal, Least};
pub use groups::{Candidate, Group, Load};
pub use packed::Packed;
pub use preset::{Preset, UseCase, preset};
pub use strategies::{STRATEGIES, Standing, Strategy};

/// What a choice of encodings costs in quality, on calibration text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Mean KL divergence from the baseline, nats per token.
    pub kl: f64,
    /// Rise of the perplexity, percent of the baseline's.
    pub drop_percent: f64,
    /// Upper end of its 95% interval.
    pub drop_percent_high: f64,
}

impl Loss {
    /// Nothing is changed.
    pub const NONE: Loss = Loss { kl: 0.0, drop_percent: 0.0, drop_percent_high: 0.0 };
}

/// How much text a measurement takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Some of the calibration text: enough to rank tensors.
    Quick,
    /// All of it: to judge whole plans.
    Full,
}

/// Measures a choice of encodings.
pub trait Judge {
    /// The loss with these weights in these encodings, and all others as they are.
    ///
    /// # Errors
    /// When the model cannot be run.
    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], depth: Depth) -> Result<Loss>;
    /// The loss with every weight as it is: none, unless plans start from something else than what
    /// they are held against.
    ///
    /// # Errors
    /// When the model cannot be run.
    fn base(&mut self, depth: Depth) -> Result<Loss> {
        let _ = depth;
        Ok(Loss::NONE)
    }
    /// The loss of a draft as it is, on all text, with keys and values kept otherwise if `kv` says
    /// how.
    ///
    /// # Errors
    /// When the model cannot be run.
    fn judge_draft(&mut self, draft: &Draft<'_>, kv: Option<&str>) -> Result<Loss>;
}

/// How to search.
#[derive(Clone)]
pub struct Settings {
    /// What is wanted.
    pub goal: Goal,
    /// Encodings that may be used; what a tensor is stored in now always may.
    pub allow: Vec<EncodingRef>,
    /// Whole plans measured at most, after the reference ones.
    pub max_checks: usize,
    /// Encodings measured of each tensor group at most; what the others lose is estimated.
    pub max_rounds: usize,
    /// When to stop looking further; what was not measured by then is estimated.
    pub time_budget: Option<Duration>,
    /// Layers that are grouped into so many bands; `None` is one band per layer, unless the time
    /// budget asks for fewer.
    pub n_bands: Option<usize>,
    /// What proposes whole plans from summed losses.
    pub strategy: &'static dyn Strategy,
    /// The seed of everything random in it.
    pub seed: u64,
    /// What tokens take here, where the goal is about time.
    pub costs: Option<Costs>,
    /// A plan to start from besides those that are screened.
    pub preset: Option<Preset>,
    /// What matrices take of memory, where the goal is about it.
    pub packed: Option<Packed>,
}

/// A whole plan that was measured on all text that plans are judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Where it came from, e.g. `knapsack` or `uniform Q8_0`.
    pub label: String,
    /// The candidate of each group.
    pub choices: Vec<usize>,
    /// What the grouped tensors take.
    pub takes: Load,
    /// Measured.
    pub loss: Loss,
}

/// What the search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The groups.
    pub groups: Vec<Group>,
    /// Per group and candidate, the loss when it alone is chosen; `None` where not measured.
    pub sensitivities: Vec<Vec<Option<Loss>>>,
    /// What each strategy proposes within the bytes of the goal, or of the plan chosen.
    pub strategies: Vec<Standing>,
    /// Every plan measured, in order.
    pub trials: Vec<Trial>,
    /// The best of them.
    pub chosen: usize,
    /// Whether it reaches the goal on calibration text.
    pub is_met: bool,
    /// Remarks for the report.
    pub notes: Vec<String>,
}

impl Found {
    /// The best plan.
    pub fn best(&self) -> &Trial {
        &self.trials[self.chosen]
    }

    /// The best plan as encodings of weights, those that stay left out.
    pub fn plan(&self) -> Vec<(WeightId, EncodingRef)> {
        groups::plan(&self.groups, &self.best().choices)
    }
}

/// Finds a choice of encodings for a draft.
pub trait Chooser {
    /// Searches.
    ///
    /// # Errors
    /// When nothing can reach the goal's size, the model cannot be run, or the user stops it.
    fn choose(&mut self, draft: &Draft<'_>) -> Result<Found>;
}

/// The search over a judge.
pub struct Search<'a> {
    /// How to search.
    pub settings: Settings,
    /// Measures; usually a [`memory::Remembered`] one.
    pub judge: &'a mut dyn Judge,
    /// Tells the time for the time budget.
    pub clock: &'a dyn Clock,
    /// Whom to tell.
    pub watch: Watch<'a>,
}

impl Chooser for Search<'_> {
    fn choose(&mut self, draft: &Draft<'_>) -> Result<Found> {
        let start = self.clock.now();
        let (graph, mut notes) = (draft.graph(), Vec::new());
        let base = self.judge.base(Depth::Quick)?;
        let uniforms = self.screen(draft)?;
        let n_measured = uniforms.len();
        self.settings.allow = screen::unbeaten(&self.settings.allow, &uniforms, &mut notes);
        let each = (n_measured > 0).then(|| (self.clock.now() - start) / n_measured as u32);
        let n_bands = self.n_bands(draft, start, each, &mut notes)?;
        let groups = self.groups(draft, n_bands);
        let time = self.settings.time_budget;
        let mut sensitivity = sensitivity::Sensitivity {
            goal: self.settings.goal,
            base,
            judge: &mut *self.judge,
            clock: self.clock,
            watch: self.watch,
            max_rounds: self.settings.max_rounds,
            // The other half is for measuring whole plans.
            deadline: time.map(|budget| start + budget / 2),
        };
        let Measured { losses, late } = sensitivity.measure(&groups, &mut notes)?;
        let mut expected = estimate::measured(&losses);
        if !late.is_empty() {
            let mut added = uniforms.clone();
            added.iter_mut().for_each(|uniform| uniform.kl = (uniform.kl - base.kl).max(0.0));
            estimate::fill(&mut expected, &late, &groups, &added, draft, self.watch)?;
        }
        let preset = self.settings.preset;
        let mut refine = refine::Refine {
            preset: preset.and_then(|preset| preset.start(&self.settings.allow, &groups, graph)),
            groups: &groups,
            expected: &expected,
            goal: self.settings.goal,
            starts: screen::starts(&uniforms, &groups, graph, self.settings.goal),
            max_checks: self.settings.max_checks,
            judge: &mut *self.judge,
            clock: self.clock,
            watch: self.watch,
            deadline: time.map(|budget| start + budget),
            strategy: self.settings.strategy,
            seed: self.settings.seed,
            trials: Vec::new(),
            slowest: Duration::ZERO,
        };
        let refine::Refined { chosen, is_met, strategies } = refine.run()?;
        let trials = refine.trials;
        let sensitivities = losses;
        Ok(Found { groups, sensitivities, strategies, trials, chosen, is_met, notes })
    }
}

impl Search<'_> {
    fn groups(&self, draft: &Draft<'_>, n_bands: usize) -> Vec<Group> {
        let mut groups = groups::of(draft, &self.settings.allow, n_bands);
        if let Some(costs) = &self.settings.costs {
            groups::time(&mut groups, draft.graph(), costs);
        }
        if let Some(packed) = &self.settings.packed {
            groups::reside(&mut groups, draft.graph(), packed);
        }
        groups
    }

    /// What each encoding costs the whole model, as far as a quarter of the time allows. Bands make
    /// no difference to it.
    fn screen(&mut self, draft: &Draft<'_>) -> Result<Vec<screen::Uniform>> {
        let end = self.settings.time_budget.map(|budget| self.clock.now() + budget / 4);
        let is_late = || end.is_some_and(|end| self.clock.now() > end);
        let groups = self.groups(draft, 1);
        screen::measure(
            &groups,
            draft.graph(),
            self.settings.goal,
            self.judge,
            self.watch,
            &is_late,
        )
    }

    /// As many bands as the time budget allows, where a measurement takes `each`.
    fn n_bands(
        &mut self,
        draft: &Draft<'_>,
        start: Duration,
        each: Option<Duration>,
        notes: &mut Vec<String>,
    ) -> Result<usize> {
        let n_layers = groups::n_layers(draft.graph());
        if let Some(n_bands) = self.settings.n_bands {
            return Ok(n_bands.clamp(1, n_layers));
        }
        let Some(budget) = self.settings.time_budget else { return Ok(n_layers) };
        let each = match each {
            Some(each) => each,
            None => self.time_one(draft)?,
        };
        let each = each.as_secs_f64();
        // The other half is for measuring whole plans.
        let left = (budget / 2).saturating_sub(self.clock.now() - start);
        let affordable = left.as_secs_f64() / each.max(1e-6);
        let n_pairs = |n_bands| {
            let groups = self.groups(draft, n_bands);
            groups.iter().map(|group| group.candidates.len() - 1).sum::<usize>() as f64
        };
        let mut n_bands = n_layers;
        while n_bands > 1 && n_pairs(n_bands) > affordable {
            n_bands = n_bands.div_ceil(2);
        }
        if n_bands < n_layers {
            notes.push(format!(
                "the time budget allows {affordable:.0} measurements of {each:.2} s each, so the \
                 {n_layers} layers are searched in {n_bands} bands"
            ));
        }
        Ok(n_bands)
    }

    /// How long a measurement takes, by the plan of fewest bytes.
    fn time_one(&mut self, draft: &Draft<'_>) -> Result<Duration> {
        let probe = self.groups(draft, 1);
        let Some(lowest) = groups::lowest(&probe) else { return Ok(Duration::ZERO) };
        let start = self.clock.now();
        self.judge.judge(&groups::plan(&probe, &lowest), Depth::Quick)?;
        Ok(self.clock.now() - start)
    }
}

#[cfg(test)]
mod tests;
