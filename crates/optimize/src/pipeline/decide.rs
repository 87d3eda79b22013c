//! From caps to a draft that keeps them, as far as calibration text shows, and to its file.
//!
//! In: a model and text. Out: [`Decided`]. Encodings are searched for; then rounding may make up
//! for errors, and what that gains is spent: the search is asked once more, for a plan that loses
//! as much more. What turns out larger than it was thought to be is searched for again.

use super::start::{self, Start, Width};
use super::{Building, EVIDENCE_BYTES, Prepared, STATE_NAME, Settings};
use super::{ablate, build, costs, feasible, inputs, rounding};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::footprint::RunAs;
use crate::judge::ModelJudge;
use crate::passes::{Context, PASSES};
use crate::progress::{Stage, Watch};
use crate::search::memory::Remembered;
use crate::search::{Costs, Depth, Found, Goal, Judge, Least, Loss, Packed, Search, preset};
use crate::yardstick::Yardstick;
use std::time::Duration;
use sterna_measure::Clock;
use sterna_measure::quality::Passages;
use sterna_model::rewrites::REWRITES;

/// The share of the allowed drop that the search aims at: what it chose on calibration text does a
/// little worse on text it has not seen.
const AIM: f64 = 0.7;
/// The share of the allowed time that the search aims at: predictions are off by a few percent.
pub const TIME_AIM: f64 = 0.97;
/// Encoded weights kept on the disk at most, so that no plan encodes them again.
const MAX_ENCODED_BYTES: u64 = 16 << 30;

/// By how many times less a sketch of a pruned model has to lose (or take) than one of the whole.
/// With 1.3, tales-9m at 5 bits was pruned and lost more than llama.cpp's mix of that size.
const MIN_PRUNING_GAIN: f64 = 2.0;
/// So many widths may measure worse than the best one before no narrower one is looked at.
const MAX_WORSE: usize = 2;
/// Of the time left, the part that a quick plan may take.
const QUICK: u32 = 10;

/// The gain of rounding below which nothing is searched for again.
const MIN_GAIN: f64 = 1.15;
/// The search counts on no more than this share of it.
const GAIN_SHARE: f64 = 0.95;
/// And on no more than this, whatever was measured: losses near zero are mostly noise.
const MAX_GAIN: f64 = 4.0;

/// What was decided.
pub struct Decided<'p> {
    /// The file.
    pub building: Building<'p>,
    /// What the search found.
    pub found: Found,
    /// What tokens take here, where the budget is about time.
    pub costs: Option<Costs>,
}

/// What plans are made of and with.
struct Desk<'p, 'r> {
    settings: &'r Settings,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    clock: &'r dyn Clock,
    watch: Watch<'r>,
    /// What its plans start from.
    start: Start<'p>,
    /// The draft that encodings are chosen for.
    base: Draft<'p>,
    costs: Option<Costs>,
    /// Where memory is capped, what it is taken by.
    memory: Option<Resident>,
    /// When the search has to end.
    deadline: Option<Duration>,
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

/// A plan made: its draft as rounded, and what that loses.
struct Made<'p> {
    draft: Draft<'p>,
    found: Found,
    loss: Loss,
    /// How keys and values are kept.
    kv: String,
}

/// Bytes by which plans turned out larger than was thought.
#[derive(Default)]
struct Excess {
    size: u64,
    memory: u64,
}

/// Searches until what is built keeps the caps on bytes; `pruned` is room for models that plans may
/// start from besides the model itself.
pub fn decide<'p>(
    settings: &Settings,
    prepared: &'p Prepared,
    pruned: &'p [Width<'p>],
    (engine, clock): (&'p dyn Engine, &dyn Clock),
    watch: Watch<'_>,
) -> Result<Decided<'p>> {
    let deadline = settings.budget.time.map(|time| clock.now() + time);
    let open = |start| Desk::open(settings, prepared, start, (engine, clock), watch, deadline);
    let remembered = start::remembered(settings, prepared, pruned)?;
    let mut desk = match (remembered, pruned.is_empty()) {
        (Some(start), _) => {
            let mut desk = open(start)?;
            let taken = start.words(prepared).unwrap_or_else(|| "none leaves".into());
            desk.base.note(format!("prune: as the run that is resumed found; taken: {taken}"));
            desk
        }
        (None, true) => open(Start::whole(prepared))?,
        (None, false) => {
            let begun = clock.now();
            let half = deadline.map(|deadline| begun + deadline.saturating_sub(begun) / 2);
            let is_late = || half.is_some_and(|half| clock.now() > half);
            let desk = choose(open(Start::whole(prepared)), pruned, &open, &is_late)?;
            start::remember(settings, &desk.start)?;
            costs::keep(settings, desk.costs.as_ref())?;
            desk
        }
    };
    let texts = (&prepared.texts.calibration, &prepared.texts.quick);
    let mut judge = judge(settings, prepared, desk.base, texts, engine, watch)?;
    let is_pruned = desk.start.words(prepared).is_some();
    judge.is_changed = is_pruned || settings.inputs != inputs::Choice::Float;
    judge.draft.keep_encoded(&settings.output, MAX_ENCODED_BYTES);
    inputs::decide(settings.inputs, prepared, &desk.start, &mut judge, watch)?;
    let how = (settings.rounding, settings.scaling);
    rounding::decide(how, prepared, &desk.start, &settings.budget.allow, &mut judge, watch)?;
    desk.base = judge.draft.clone();
    let state = settings.output.join(STATE_NAME);
    let key = prepared.key(&desk.base, &desk.start);
    let mut judge = Remembered::in_file(&mut judge, &state, &key, settings.resume)?;
    let (building, found) = desk.build(&mut judge)?;
    Ok(Decided { building, found, costs: desk.costs })
}

/// What measures plans, on all of a text and on some of it.
fn judge<'p>(
    settings: &Settings,
    prepared: &'p Prepared,
    draft: Draft<'p>,
    texts: (&Passages, &Passages),
    engine: &'p dyn Engine,
    watch: Watch<'_>,
) -> Result<ModelJudge<'p>> {
    watch.step(Stage::Baseline, 0, 2, "running the baseline on calibration text")?;
    let yardstick = |passages| {
        let baseline = engine.load(&prepared.model.graph, &prepared.model)?;
        Yardstick::new(baseline, passages, &settings.output)
    };
    let full = yardstick(texts.0)?;
    watch.step(Stage::Baseline, 1, 2, "running the baseline on its first part")?;
    let quick = yardstick(texts.1)?;
    watch.step(Stage::Baseline, 2, 2, "done")?;
    Ok(ModelJudge { engine, draft, is_changed: false, quick, full })
}

/// A desk, and how good a sketch of its plan is.
struct Sketched<'p, 'r> {
    /// Whether it misses the goal, and what it costs: less is better.
    rank: (bool, f64),
    desk: Desk<'p, 'r>,
}

impl Sketched<'_, '_> {
    /// Whether it is the better one; beside the whole model, by so much that it is so after a whole
    /// search too, which finds more for a model of more channels than a sketch does.
    fn is_better_than(&self, best: &Self) -> bool {
        let is_whole = best.desk.start.words(best.desk.prepared).is_none();
        let gain = if is_whole { MIN_PRUNING_GAIN } else { 1.0 };
        (self.rank.0, self.rank.1 * gain) < best.rank
    }
}

/// The desk whose first plans measure best on text that nothing left by, found by a short search on
/// each, the model as it is first; as long as leaving out more keeps helping and there is time.
fn choose<'p, 'r>(
    whole: Result<Desk<'p, 'r>>,
    pruned: &'p [Width<'p>],
    open: &dyn Fn(Start<'p>) -> Result<Desk<'p, 'r>>,
    is_late: &dyn Fn() -> bool,
) -> Result<Desk<'p, 'r>> {
    let (mut best, mut problem, mut words): (Option<Sketched<'_, '_>>, _, _) = (None, None, vec![]);
    let mut judge = None;
    let (mut next, mut n_worse, mut least) = (Some(whole), 0, None);
    let mut widths = pruned.iter();
    while let Some(desk) = next {
        let sketched = desk.and_then(|desk| desk.sketch(&mut judge, &mut words));
        match sketched {
            Err(OptimizeError::Input(why)) => problem = Some(OptimizeError::Input(why)),
            Err(error) => return Err(error),
            Ok(sketched) => {
                let is_better = best.as_ref().is_none_or(|best| sketched.is_better_than(best));
                // Less of a lead than is taken is still a reason to go on.
                let leads = least.is_none_or(|least| sketched.rank < least);
                n_worse = if leads { 0 } else { n_worse + 1 };
                least = if leads { Some(sketched.rank) } else { least };
                best = if is_better { Some(sketched) } else { best };
            }
        }
        let may_go_on = best.is_none() || (n_worse < MAX_WORSE && !is_late());
        let width = widths.next().filter(|_| may_go_on);
        next = width.map(|width| width.start().and_then(open));
    }
    let Some(Sketched { mut desk, .. }) = best else {
        return Err(problem.expect("no desk could be opened, or none had a plan"));
    };
    let taken = desk.start.words(desk.prepared).unwrap_or_else(|| "none leaves".into());
    desk.base
        .note(format!("prune: after a short search with {}; taken: {taken}", words.join("; ")));
    Ok(desk)
}

impl<'p, 'r> Desk<'p, 'r> {
    /// A desk for plans from one start.
    fn open(
        settings: &'r Settings,
        prepared: &'p Prepared,
        start: Start<'p>,
        (engine, clock): (&'p dyn Engine, &'r dyn Clock),
        watch: Watch<'r>,
        deadline: Option<Duration>,
    ) -> Result<Self> {
        let mut base = start.draft(settings, prepared)?;
        feasible::size(&settings.budget, &prepared.model.metadata, &base)?;
        feasible::bits(&settings.budget, prepared.model.graph.n_parameters(), &base)?;
        let memory = memory(settings, prepared, &base, engine)?;
        let costs = costs::costs(settings, prepared, &mut base, engine, clock, watch)?;
        if let Some(costs) = &costs {
            feasible::time(&settings.budget, costs, &base)?;
        }
        Ok(Self { settings, prepared, start, engine, clock, watch, base, costs, memory, deadline })
    }

    /// A plan soon found, measured on text that nothing left by.
    fn sketch(
        self,
        judge: &mut Option<ModelJudge<'p>>,
        words: &mut Vec<String>,
    ) -> Result<Sketched<'p, 'r>> {
        let (settings, prepared) = (self.settings, self.prepared);
        if judge.is_none() {
            let (text, base) = (start::unseen(prepared)?, self.base.clone());
            let texts = (&text, &text);
            *judge = Some(self::judge(settings, prepared, base, texts, self.engine, self.watch)?);
        }
        let judge = judge.as_mut().expect("it was just made");
        judge.draft = self.base.clone();
        judge.is_changed = self.start.words(prepared).is_some();
        judge.draft.keep_encoded(&settings.output, MAX_ENCODED_BYTES);
        let goal = self.goal(&Excess::default())?;
        let (_, found) = self.plan(goal, Depth::Quick, judge)?;
        let best = found.best();
        let cost = if goal.drop_limit().is_some() { goal.price(best) } else { best.loss.kl };
        let start = self.start.words(prepared).unwrap_or_else(|| "all channels".into());
        words.push(format!("{start}: KL {:.5} by {}", best.loss.kl, best.label));
        Ok(Sketched { rank: (!found.is_met, cost), desk: self })
    }

    /// The file that keeps the caps on bytes.
    fn build(&self, judge: &mut Remembered<'_>) -> Result<(Building<'p>, Found)> {
        let (settings, prepared) = (self.settings, self.prepared);
        let mut excess = Excess::default();
        loop {
            let Made { draft, found, kv, .. } = self.best_kv(self.goal(&excess)?, judge)?;
            let mut how = RunAs { kv, off: Vec::new() };
            let over = feasible::over_memory(settings, prepared, (&draft, &how))?;
            if over > 0 {
                excess.memory += over;
                continue;
            }
            let engine = self.engine.with_kv(&how.kv)?;
            let (text, means) = (&prepared.texts.heldout, (&*engine, self.clock));
            let switched = ablate::ablate(&draft, text, settings.effort, means, self.watch)?;
            how.off = build::switched_off(&switched)?.into_iter().map(|e| e.name).collect();
            let over = feasible::over_memory(settings, prepared, (&draft, &how))?;
            if over > 0 {
                excess.memory += over;
                continue;
            }
            let building = build::build(settings, prepared, (draft, how), switched, self.watch)?;
            let over = building.bytes.saturating_sub(settings.budget.max_size.unwrap_or(u64::MAX));
            if over == 0 {
                return Ok((building, found));
            }
            // The Plan's text was longer than thought; at most a few hundred bytes, so this ends.
            excess.size += over;
        }
    }

    /// The best plan; where memory is capped, also one that keeps keys and values in fewer bits and
    /// has the memory for its weights.
    fn best_kv(&self, goal: Goal, judge: &mut Remembered<'_>) -> Result<Made<'p>> {
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

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.clock.now() >= deadline)
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
            max_pairs: if is_quick { 0 } else { usize::MAX },
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
    fn goal(&self, excess: &Excess) -> Result<Goal> {
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
