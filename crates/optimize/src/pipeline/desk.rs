//! A desk: where a plan is made from one start.
//!
//! In: a [`Start`], a goal, a judge. Out: [`Made`], the best plan found. Encodings are searched
//! for; then rounding may make up for errors, and what that gains is spent: the search is asked
//! once more, for a plan that loses as much more.

use super::start::Start;
use super::{EVIDENCE_BYTES, Prepared, Settings, build, costs, feasible, rounding};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::footprint::RunAs;
use crate::passes::{Context, PASSES};
use crate::progress::Watch;
use crate::search::memory::Remembered;
use crate::search::{Costs, Depth, Found, Goal, Judge, Least, Loss, Packed, Search, preset};
use std::time::Duration;
use sterna_measure::Clock;
use sterna_model::rewrites::REWRITES;

/// The share of the allowed drop that the search aims at: what it chose on calibration text does a
/// little worse on text it has not seen.
pub const AIM: f64 = 0.7;
/// The share of the allowed time that the search aims at: predictions are off by a few percent.
pub const TIME_AIM: f64 = 0.97;
/// Encoded weights kept on the disk at most, so that no plan encodes them again.
const MAX_ENCODED_BYTES: u64 = 16 << 30;
/// Of the time left, the part that a quick plan may take.
const QUICK: u32 = 10;

/// The gain of rounding below which nothing is searched for again.
const MIN_GAIN: f64 = 1.15;
/// The search counts on no more than this share of it.
const GAIN_SHARE: f64 = 0.95;
/// And on no more than this, whatever was measured: losses near zero are mostly noise.
const MAX_GAIN: f64 = 4.0;

/// What plans are made of and with.
pub struct Desk<'p, 'r> {
    /// What is asked for.
    pub settings: &'r Settings,
    /// Model and text.
    pub prepared: &'p Prepared,
    /// Runs drafts.
    pub engine: &'p dyn Engine,
    /// Tells the time.
    pub clock: &'r dyn Clock,
    /// Whom to tell.
    pub watch: Watch<'r>,
    /// What its plans start from.
    pub start: Start<'p>,
    /// The draft that encodings are chosen for.
    pub base: Draft<'p>,
    /// What tokens take, where the budget is about time.
    pub costs: Option<Costs>,
    /// Where memory is capped, what it is taken by.
    memory: Option<Resident>,
    /// When the search has to end.
    pub deadline: Option<Duration>,
}

/// What takes memory.
struct Resident {
    /// Matrices.
    packed: Packed,
    /// All else.
    besides: u64,
    /// How much less that is with keys and values in [`SMALL_KV`]; `None` where that may not be.
    saved: Option<u64>,
}

/// Keys and values in half the memory.
const SMALL_KV: &str = "Q8_0";

/// How good a plan is, less being better: by how much it misses the goal, and what it costs.
pub type Rank = (f64, f64);

/// A plan made: its draft as rounded, and what that loses.
pub struct Made<'p> {
    /// The draft.
    pub draft: Draft<'p>,
    /// What was found on the way.
    pub found: Found,
    /// What the draft loses.
    pub loss: Loss,
    /// How keys and values are kept.
    pub kv: String,
}

/// Bytes by which plans turned out larger than was thought.
#[derive(Clone, Copy, Default)]
pub struct Excess {
    /// Of the file.
    pub size: u64,
    /// Of the process.
    pub memory: u64,
}

impl<'p, 'r> Desk<'p, 'r> {
    /// A desk for plans from one start.
    ///
    /// # Errors
    /// When no plan from there keeps the caps, or the user stops it.
    pub fn open(
        settings: &'r Settings,
        prepared: &'p Prepared,
        start: Start<'p>,
        (engine, clock): (&'p dyn Engine, &'r dyn Clock),
        watch: Watch<'r>,
        deadline: Option<Duration>,
    ) -> Result<Self> {
        let mut base = start.draft(settings, prepared)?;
        base.keep_encoded(&settings.output, MAX_ENCODED_BYTES);
        feasible::size(&settings.budget, &prepared.model.metadata, &base)?;
        feasible::bits(&settings.budget, prepared.model.graph.n_parameters(), &base)?;
        let memory = memory(settings, prepared, &base, engine)?;
        let costs = costs::costs(settings, prepared, &mut base, engine, clock, watch)?;
        if let Some(costs) = &costs {
            feasible::time(&settings.budget, costs, &base)?;
        }
        Ok(Self { settings, prepared, start, engine, clock, watch, base, costs, memory, deadline })
    }

    /// The best plan; where memory is capped, also one that keeps keys and values in fewer bits and
    /// has the memory for its weights.
    ///
    /// # Errors
    /// When no plan keeps the caps, the model cannot be run, or the user stops it.
    pub fn search(&self, excess: Excess, judge: &mut Remembered<'_>) -> Result<Made<'p>> {
        let goal = self.goal(excess)?;
        let first = self.best(goal, judge);
        let is_bound = first.as_ref().map_or(true, |made| {
            let unchanged = made.found.trials[0].takes.resident;
            goal.max_resident.is_some_and(|max| unchanged > max)
        });
        let saved = self.memory.as_ref().and_then(|resident| resident.saved);
        let saved = saved.filter(|_| is_bound);
        let Some(saved) = saved.filter(|_| first.is_err() || !self.is_late()) else { return first };
        if matches!(first, Err(OptimizeError::Cancelled)) {
            return first;
        }
        let max_resident = goal.max_resident.map(|max| max + saved);
        let second = self.best(Goal { max_resident, ..goal }, judge)?;
        let loss = judge.judge_draft(&second.draft, Some(SMALL_KV))?;
        let mut second = Made { loss, kv: SMALL_KV.into(), ..second };
        let Ok(mut first) = first else {
            second.draft.note(format!(
                "kv: keys and values are kept in {SMALL_KV}: with {} no plan keeps the memory",
                self.engine.kv()
            ));
            return Ok(second);
        };
        let is_better = match goal.drop_limit() {
            None => second.loss.kl < first.loss.kl,
            Some(limit) => {
                let price = |made: &Made<'_>| goal.price(made.found.best());
                second.loss.drop_percent_high <= limit && price(&second) < price(&first)
            }
        };
        let words = format!(
            "the plan with keys and values in {}: KL {:.5}, with them in {SMALL_KV} and {saved} \
             bytes more for weights: {:.5}",
            self.engine.kv(),
            first.loss.kl,
            second.loss.kl
        );
        let made = if is_better { &mut second } else { &mut first };
        made.draft.note(format!("kv: {words}; they are kept in {}", made.kv));
        Ok(if is_better { second } else { first })
    }

    /// The best plan as rounded. Where rounding gains, plans that lose as much more are looked at.
    fn best(&self, goal: Goal, judge: &mut Remembered<'_>) -> Result<Made<'p>> {
        let mut made = self.make(goal, judge)?;
        let (raw, rounded) =
            (made.found.best().loss.drop_percent_high, made.loss.drop_percent_high);
        let Some(limit) = goal.drop_limit().filter(|_| raw > 0.0) else { return Ok(made) };
        let gain = raw / rounded.max(raw / MAX_GAIN);
        if gain < MIN_GAIN || raw > limit || self.is_late() {
            return Ok(made);
        }
        let more = gain * GAIN_SHARE;
        let wider = Goal { max_drop_percent: Some(limit * more), ..goal };
        let second = self.make(wider, judge)?;
        let has_room = goal.has_room(second.found.best().takes);
        let is_kept = has_room && second.loss.drop_percent_high <= limit;
        let price = |made: &Made<'_>| goal.price(made.found.best());
        let words = format!(
            "rounding took the upper end of the drop from {raw:.3}% to {rounded:.3}%, so a plan \
             with {more:.2} times the drop before it was looked for: {:.3}% after it, of \
             {limit:.3}%",
            second.loss.drop_percent_high
        );
        let is_taken = is_kept && price(&second) < price(&made);
        made = if is_taken { second } else { made };
        let verdict = match (is_taken, is_kept) {
            (true, _) => "taken",
            (false, true) => "no better, so left",
            (false, false) => "too much, so left",
        };
        made.draft.note(format!("search: {words}: {verdict}"));
        Ok(made)
    }

    /// A plan for a goal, as rounded.
    fn make(&self, goal: Goal, judge: &mut Remembered<'_>) -> Result<Made<'p>> {
        let (draft, found) = self.plan(goal, Depth::Full, judge)?;
        let raw = (draft, found.best().loss);
        let how = (self.settings.rounding, self.prepared, &self.start);
        let (draft, loss) = rounding::compensate(how, self.engine, raw, judge, self.watch)?;
        Ok(Made { draft, found, loss, kv: self.engine.kv() })
    }

    /// Its start in words.
    pub fn said(&self) -> String {
        self.start.words(self.prepared).unwrap_or_else(|| "all channels".into())
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.clock.now() >= deadline)
    }

    /// A plan soon found, unrounded: what was found on the way to it.
    ///
    /// # Errors
    /// As [`Desk::search`].
    pub fn sketch(&self, judge: &mut dyn Judge) -> Result<Found> {
        Ok(self.plan(self.goal(Excess::default())?, Depth::Quick, judge)?.1)
    }

    /// How good what was found is, and what it loses as rounded.
    ///
    /// # Errors
    /// As [`Desk::search`].
    pub fn rank(&self, found: &Found, loss: Loss) -> Result<Rank> {
        let (goal, best) = (self.goal(Excess::default())?, found.best());
        let is_by_price = found.is_met && goal.drop_limit().is_some();
        let excess = if found.is_met { 0.0 } else { goal.excess(best) };
        Ok((excess, if is_by_price { goal.price(best) } else { loss.kl }))
    }

    /// A plan for a goal; a quick one is of few groups and measurements.
    fn plan(&self, goal: Goal, depth: Depth, judge: &mut dyn Judge) -> Result<(Draft<'p>, Found)> {
        let (settings, source_bytes) = (self.settings, self.prepared.source_bytes());
        let is_quick = depth == Depth::Quick;
        let left = self.deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
        let mut draft = self.base.clone();
        let preset = preset(source_bytes, settings.use_case);
        let (clock, watch) = (self.clock, self.watch);
        let search_settings = crate::search::Settings {
            goal,
            allow: settings.budget.allow.clone(),
            max_checks: if is_quick { 1 } else { settings.max_checks },
            max_rounds: if is_quick { 1 } else { usize::MAX },
            time_budget: left.map(|left| if is_quick { left / QUICK } else { left }),
            n_bands: if is_quick { Some(1) } else { settings.n_bands },
            strategy: settings.strategy,
            seed: settings.budget.seed,
            costs: self.costs.clone(),
            preset: Some(preset),
            packed: self.memory.as_ref().map(|resident| resident.packed.clone()),
        };
        let mut search = Search { settings: search_settings, judge, clock, watch };
        let rewrites: Vec<&str> = REWRITES.iter().map(|rewrite| rewrite.name()).collect();
        let mut context =
            Context { chooser: Some(&mut search), rewrites: &rewrites, ..Context::default() };
        PASSES.iter().try_for_each(|pass| pass.apply(&mut draft, &mut context))?;
        let found = context.found.expect("mixed was given a chooser");
        draft.note(preset.note(source_bytes, &found.trials));
        Ok((draft, found))
    }

    /// What the search is to reach: the least divergence in a size or a time if one is capped, else
    /// the fewest bytes within a drop; or what the user wants least within all caps.
    fn goal(&self, excess: Excess) -> Result<Goal> {
        let (budget, prepared, base) = (&self.settings.budget, self.prepared, &self.base);
        let besides = self.memory.as_ref().map_or(0, |resident| resident.besides);
        let besides = besides + excess.memory;
        let fixed = build::fixed_bytes(&prepared.model.metadata, base) + EVIDENCE_BYTES as u64;
        let fixed = fixed + excess.size;
        let by_size = budget.max_size.map(|max| max.saturating_sub(fixed));
        let by_bits = budget.tensor_bytes(prepared.model.graph.n_parameters());
        let by_bits = by_bits.map(|max| max.saturating_sub(feasible::vector_bytes(base)));
        let max_prompt_nanos = self.costs.as_ref().and_then(|costs| {
            let (_, table) = costs.prompt.as_ref()?;
            Some((budget.max_ttft_ms? * 1e6 * TIME_AIM - table.rest).max(0.0))
        });
        let max_resident = budget.max_memory.map(|max| max.saturating_sub(besides));
        let max_bytes = [by_size, by_bits].into_iter().flatten().min();
        let max_nanos = self.costs.as_ref().and_then(|costs| {
            let token = budget.token_nanos(costs.p95_ratio)?;
            Some((token * TIME_AIM - costs.token.rest).max(0.0))
        });
        let is_capped = max_bytes.is_some()
            || max_nanos.is_some()
            || max_prompt_nanos.is_some()
            || max_resident.is_some();
        let least = budget.least.unwrap_or(match is_capped {
            true => Least::Divergence,
            false => Least::Bytes,
        });
        let max_drop = budget.max_drop_percent.map(|drop| drop * AIM);
        let max_drop_percent = max_drop.filter(|_| least != Least::Divergence);
        Ok(Goal { max_bytes, max_nanos, max_prompt_nanos, max_resident, max_drop_percent, least })
    }
}

/// Where memory is capped, what it is taken by.
fn memory(
    settings: &Settings,
    prepared: &Prepared,
    base: &Draft<'_>,
    engine: &dyn Engine,
) -> Result<Option<Resident>> {
    if settings.budget.max_memory.is_none() {
        return Ok(None);
    }
    let pair = settings.footprint.as_deref().zip(prepared.memory.as_ref());
    let (footprint, baseline) = pair.ok_or_else(|| {
        OptimizeError::Input("--max-memory needs somebody who plans memory".into())
    })?;
    let how = RunAs::by(engine);
    let planned = |draft: &Draft<'_>| footprint.planned(draft.graph(), draft, &how);
    let packed = Packed::of(base, &settings.budget.allow, &planned)?;
    let before = planned(base)?;
    let besides = feasible::memory_besides(baseline, before, base);
    // Heads of some sizes cannot be kept so; then nobody plans for it.
    let small = RunAs { kv: SMALL_KV.into(), ..how.clone() };
    let small = || footprint.planned(base.graph(), base, &small).ok();
    let small = settings.may_choose_kv.then(small).flatten();
    let saved = small.map(|small| before.saturating_sub(small)).filter(|saved| *saved > 0);
    let least = besides.saturating_sub(saved.unwrap_or(0));
    feasible::memory(&settings.budget, &packed, least, base)?;
    Ok(Some(Resident { packed, besides, saved }))
}
