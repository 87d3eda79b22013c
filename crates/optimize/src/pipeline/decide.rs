//! From caps to a draft that keeps them, as far as calibration text shows, and to its file.
//!
//! In: a model and text. Out: [`Decided`]. Plans start from the model, or from it with channels
//! left out where a whole search of both shows that to be better. What turns out larger than it was
//! thought to be is searched for again.

use super::desk::{Desk, Excess, Made, Rank};
use super::start::{self, Start, Width};
use super::{Building, Prepared, Settings};
use super::{ablate, build, costs, distill, feasible, inputs, rounding};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::footprint::RunAs;
use crate::judge::ModelJudge;
use crate::progress::{Stage, Watch};
use crate::prune::Seen;
use crate::search::memory::Remembered;
use crate::search::{Costs, Found};
use crate::yardstick::Yardstick;
use std::time::Duration;
use sterna_measure::Clock;

/// So many widths may measure worse than the best one before no narrower one is looked at.
const MAX_WORSE: usize = 2;
/// Of the time budget, the part in which widths are looked at.
const SHORT: u32 = 3;

/// What was decided.
pub struct Decided<'p> {
    /// The file.
    pub building: Building<'p>,
    /// What the search found.
    pub found: Found,
    /// What tokens take here, where the budget is about time.
    pub costs: Option<Costs>,
}

/// Searches until what is built keeps the caps on bytes; `pruned` are models that plans may start
/// from besides the model itself.
pub fn decide<'p>(
    settings: &Settings,
    prepared: &'p Prepared,
    pruned: &'p [Width<'p>],
    (engine, clock): (&'p dyn Engine, &dyn Clock),
    watch: Watch<'_>,
) -> Result<Decided<'p>> {
    let (begun, time) = (clock.now(), settings.budget.time);
    let end = time.map(|time| begun + time);
    // What is chosen is to learn then.
    let learns = settings.distiller.is_some() && distill::obstacle(settings, prepared).is_none();
    let of_search = time.map(|time| if learns { time / 2 } else { time });
    let deadline = of_search.map(|time| begun + time);
    let open = |start| Desk::open(settings, prepared, start, (engine, clock), watch, deadline);
    if !settings.resume {
        start::forget(settings, prepared, pruned);
    }
    let settled = match pruned.is_empty() {
        true => Some(Start::whole(prepared)),
        false => start::remembered(settings, prepared, pruned)?,
    };
    // What cannot be kept is said before anything is run.
    let settled = settled.map(open).transpose()?;
    let mut judge = judge(settings, prepared, engine, watch)?;
    let is_late = || time.is_some_and(|time| clock.now() > begun + time / SHORT);
    let (desks, sketches) = match settled {
        Some(desk) => (vec![desk], "as the run that is resumed found".to_owned()),
        None => shortlist((prepared, pruned), &open, &is_late, &mut judge)?,
    };
    let mut contest = Contest { best: None, problem: None, words: Vec::new() };
    let n_desks = desks.len();
    for (n_done, mut desk) in desks.into_iter().enumerate() {
        let (now, n_left) = (clock.now(), (n_desks - n_done) as u32);
        if contest.best.is_some() && deadline.is_some_and(|deadline| now > deadline) {
            contest.words.push(format!("{}: no time was left", desk.said()));
            break;
        }
        desk.deadline = deadline.map(|deadline| now + deadline.saturating_sub(now) / n_left);
        contest.enter(desk, &mut judge)?;
    }
    let is_about_width = !pruned.is_empty();
    let (mut contender, searches) = contest.end()?;
    contender.desk.deadline = deadline;
    let mut note = None;
    if is_about_width {
        let taken = contender.desk.start.words(prepared).unwrap_or_else(|| "none leaves".into());
        note = Some(format!("prune: {sketches}{searches}; taken: {taken}"));
        start::remember(settings, prepared, &contender.desk.start)?;
        costs::keep(settings, contender.desk.costs.as_ref())?;
    }
    contender.build(&mut judge, note, end)
}

/// What measures plans.
fn judge<'p>(
    settings: &Settings,
    prepared: &'p Prepared,
    engine: &'p dyn Engine,
    watch: Watch<'_>,
) -> Result<ModelJudge<'p>> {
    let (model, texts) = (&prepared.model, &prepared.texts);
    watch.step(Stage::Baseline, 0, 2, "running the baseline on calibration text")?;
    let yardstick = |passages| {
        let baseline = engine.load(&model.graph, model)?;
        Yardstick::new(baseline, passages, &settings.output)
    };
    let full = yardstick(&texts.judged)?;
    watch.step(Stage::Baseline, 1, 2, "running the baseline on its first part")?;
    let quick = yardstick(&texts.quick)?;
    watch.step(Stage::Baseline, 2, 2, "done")?;
    let draft = Draft::new(&model.graph, model);
    Ok(ModelJudge { engine, draft, is_changed: false, quick, full })
}

/// The desks worth a whole search: the model's own, and that of the width whose short search
/// measured best if it measured better; and the short searches in words. Narrower widths are looked
/// at as long as that helps and there is time.
fn shortlist<'p, 'r>(
    (prepared, pruned): (&'p Prepared, &'p [Width<'p>]),
    open: &dyn Fn(Start<'p>) -> Result<Desk<'p, 'r>>,
    is_late: &dyn Fn() -> bool,
    judge: &mut ModelJudge<'p>,
) -> Result<(Vec<Desk<'p, 'r>>, String)> {
    let (mut desks, mut problem, mut words) = (Vec::new(), None, Vec::new());
    let (mut least, mut n_worse): (Option<Rank>, _) = (None, 0);
    let mut seen = Seen::default();
    let widths = pruned.iter().map(|width| width.start(&mut seen));
    for start in std::iter::once(Ok(Start::whole(prepared))).chain(widths) {
        let desk = start.and_then(open);
        match desk.and_then(|desk| sketch(&desk, judge, &mut words).map(|rank| (desk, rank))) {
            Err(OptimizeError::Input(why)) => problem = Some(OptimizeError::Input(why)),
            Err(error) => return Err(error),
            Ok((desk, rank)) if least.is_none_or(|least| rank < least) => {
                desks.retain(|desk: &Desk<'_, '_>| !desk.start.is_pruned(desk.prepared));
                desks.push(desk);
                (least, n_worse) = (Some(rank), 0);
            }
            Ok(_) => n_worse += 1,
        }
        if least.is_some() && (n_worse >= MAX_WORSE || is_late()) {
            break;
        }
    }
    match (desks.is_empty(), problem) {
        (true, Some(problem)) => Err(problem),
        _ => Ok((desks, format!("after a short search with {}", words.join("; ")))),
    }
}

/// How good a desk's first plan is.
fn sketch<'p>(
    desk: &Desk<'p, '_>,
    judge: &mut ModelJudge<'p>,
    words: &mut Vec<String>,
) -> Result<Rank> {
    seat(desk, judge);
    let found = desk.sketch(judge)?;
    let best = found.best();
    words.push(format!("{}: KL {:.5} by {}", desk.said(), best.loss.kl, best.label));
    desk.rank(&found, best.loss)
}

/// Has the judge measure plans of this desk.
fn seat<'p>(desk: &Desk<'p, '_>, judge: &mut ModelJudge<'p>) {
    judge.draft = desk.base.clone();
    let has_int8 = desk.settings.inputs != inputs::Choice::Float;
    judge.is_changed = has_int8 || desk.start.is_pruned(desk.prepared);
}

/// Whole searches from several starts.
struct Contest<'p, 'r> {
    best: Option<Contender<'p, 'r>>,
    /// Why a start has no plan.
    problem: Option<OptimizeError>,
    words: Vec<String>,
}

/// A desk, and the best plan made there.
struct Contender<'p, 'r> {
    desk: Desk<'p, 'r>,
    made: Made<'p>,
    rank: Rank,
}

impl<'p, 'r> Contest<'p, 'r> {
    /// Searches at a desk, and keeps what is found if it is the best so far.
    fn enter(&mut self, mut desk: Desk<'p, 'r>, judge: &mut ModelJudge<'p>) -> Result<()> {
        let Desk { settings, prepared, start, watch, .. } = desk;
        seat(&desk, judge);
        inputs::decide(settings.inputs, prepared, &start, judge, watch)?;
        let how = (settings.rounding, settings.scaling);
        rounding::decide(how, prepared, &start, &settings.budget.allow, judge, watch)?;
        desk.base = judge.draft.clone();
        let mut judge = remembered(&desk, judge, settings.resume)?;
        let made = match desk.search(Excess::default(), &mut judge) {
            Err(OptimizeError::Input(why)) => {
                self.problem = Some(OptimizeError::Input(why));
                return Ok(());
            }
            made => made?,
        };
        let rank = desk.rank(&made.found, made.loss)?;
        self.words.push(format!("{}: KL {:.5}", desk.said(), made.loss.kl));
        if self.best.as_ref().is_none_or(|best| rank < best.rank) {
            self.best = Some(Contender { desk, made, rank });
        }
        Ok(())
    }

    /// The best, and what it was better than in words.
    fn end(self) -> Result<(Contender<'p, 'r>, String)> {
        let said = match self.words.len() {
            0 | 1 => String::new(),
            _ => format!(", and a whole one with {}", self.words.join("; ")),
        };
        match (self.best, self.problem) {
            (Some(best), _) => Ok((best, said)),
            (None, problem) => Err(problem.expect("one desk at least, and it made no plan")),
        }
    }
}

impl<'p> Contender<'p, '_> {
    /// The file that keeps the caps on bytes.
    fn build(
        self,
        judge: &mut ModelJudge<'p>,
        note: Option<String>,
        end: Option<Duration>,
    ) -> Result<Decided<'p>> {
        let Self { desk, made, .. } = self;
        let Desk { settings, prepared, watch, .. } = desk;
        seat(&desk, judge);
        let mut judge = remembered(&desk, judge, true)?;
        let (mut excess, mut first) = (Excess::default(), Some(made));
        loop {
            let made = first.take().map_or_else(|| desk.search(excess, &mut judge), Ok);
            let made = made?;
            let mut how = RunAs { kv: made.kv.clone(), off: Vec::new() };
            let over = feasible::over_memory(settings, prepared, (&made.draft, &how))?;
            if over > 0 {
                excess.memory += over;
                continue;
            }
            let Made { mut draft, found, .. } = desk.distilled(made, &mut judge, end)?;
            note.iter().for_each(|note| draft.note(note));
            let engine = desk.engine.with_kv(&how.kv)?;
            let (text, means) = (&prepared.texts.heldout, (&*engine, desk.clock));
            let switched = ablate::ablate(&draft, text, settings.effort, means, watch)?;
            how.off = build::switched_off(&switched)?.into_iter().map(|e| e.name).collect();
            let over = feasible::over_memory(settings, prepared, (&draft, &how))?;
            if over > 0 {
                excess.memory += over;
                continue;
            }
            let building = build::build(settings, prepared, (draft, how), switched, watch)?;
            let over = building.bytes.saturating_sub(settings.budget.max_size.unwrap_or(u64::MAX));
            if over == 0 {
                return Ok(Decided { building, found, costs: desk.costs });
            }
            // The Plan's text was longer than thought; at most a few hundred bytes, so this ends.
            excess.size += over;
        }
    }
}

/// The judge, with the file of what it measured at this desk.
fn remembered<'a>(
    desk: &Desk<'_, '_>,
    judge: &'a mut ModelJudge<'_>,
    resume: bool,
) -> Result<Remembered<'a>> {
    let (prepared, start) = (desk.prepared, &desk.start);
    let path = start::state_path(desk.settings, prepared, start.config.ffn_dim);
    Remembered::in_file(judge, &path, &prepared.key(&desk.base, start), resume)
}
