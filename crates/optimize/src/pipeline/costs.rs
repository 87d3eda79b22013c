//! Measuring what tokens take: the model in every encoding that a plan may use, step by step.
//!
//! In: the draft that encodings are chosen for. Out: [`Costs`]. Kernels take as long whatever the
//! weights are, so that these are zeros: nothing is encoded, and a large model is timed as soon as
//! a small one. The encodings take turns, so that what slows the machine slows all of them.

use super::{Prepared, Settings, write_file};
use crate::budget::TTFT_PROMPT;
use crate::draft::Draft;
use crate::engine::{Engine, Loaded, Timed};
use crate::error::{OptimizeError, Result};
use crate::fit;
use crate::progress::{Stage, Watch};
use crate::search::costs::{Costs, Place, Row, Table};
use crate::search::{Group, groups, screen};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use sterna_formats::EncodingRef;
use sterna_measure::figure::short;
use sterna_measure::machine::Machine;
use sterna_measure::stats::{median, percentile_of_sorted};
use sterna_measure::{Clock, MeasureError};
use sterna_model::rewrites::{REWRITES, rewritten};
use sterna_model::{Node, WeightId, WeightSource, WeightView};

/// The file in the output folder that keeps the table.
pub const NAME: &str = "costs.json";
/// A table is no longer than this.
const MAX_BYTES: u64 = 16 << 20;
/// Turns of each encoding, at most.
const N_TURNS: usize = 3;
/// When there are no more turns.
const LONG: Duration = Duration::from_secs(20);
/// How long a turn is, about.
const TURN: Duration = Duration::from_millis(200);
/// Runs of a turn at least, and at most.
const RUNS: std::ops::RangeInclusive<usize> = 2..=64;
/// Tokens of a run, and of the prompt before it.
const N_TOKENS: usize = 32;

/// The costs of this machine: those of an earlier run in the folder, where it resumes that run on
/// the same machine, else measured; what became different is noted. `None` where nobody asked for
/// times, or the engine has no steps to time.
///
/// # Errors
/// When the model cannot be run, the budget is about time and nothing can be timed, or the user
/// stops it.
pub fn costs(
    settings: &Settings,
    prepared: &Prepared,
    base: &mut Draft<'_>,
    engine: &dyn Engine,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Option<Costs>> {
    if !settings.budget.is_about_time() {
        return Ok(None);
    }
    let path = settings.output.join(NAME);
    let place = place(engine);
    let before = settings.resume.then(|| read(&path)).flatten();
    let groups = groups::of(base, &settings.budget.allow, 1);
    let tokens = super::speed::tokens(&prepared.texts.judged);
    let n_prompt = TTFT_PROMPT.min(engine.context_len() / 2).max(1);
    let prompt = settings.budget.max_ttft_ms.map(|_| super::speed::prompt(tokens, n_prompt));
    if prompt.is_some() && n_prompt < TTFT_PROMPT {
        base.note(format!(
            "ttft: the context is short, so that the first token is timed after {n_prompt} of \
             prompt, not {TTFT_PROMPT}"
        ));
    }
    let prompt = prompt.as_deref();
    if let Some(before) = before.as_ref().filter(|costs| costs.place == place)
        && serve(before, &groups, base, prompt.map(<[u32]>::len))
    {
        return Ok(Some(before.clone()));
    }
    let taken = |work| measure(base, (&groups, tokens), work, engine, clock, watch);
    let token = taken(Work::Tokens)?;
    let prompt = match prompt {
        Some(prompt) => taken(Work::Prompt(prompt))?.map(|taken| (prompt.len(), taken.table())),
        None => None,
    };
    let costs = token.map(|token| {
        let (p95_ratio, token) = (token.p95_ratio(), token.table());
        Costs { place, p95_ratio, token, prompt }
    });
    let elsewhere =
        before.filter(|before| costs.as_ref().is_some_and(|now| now.place != before.place));
    if let Some((before, now)) = elsewhere.zip(costs.as_ref()) {
        base.note(moved(&before, now));
    }
    if costs.is_none() {
        let why = "this engine has no steps to time, so that it cannot search for speed";
        return Err(OptimizeError::Input(why.into()));
    }
    keep(settings, costs.as_ref())?;
    Ok(costs)
}

/// Writes a table into the output folder, for whoever resumes.
///
/// # Errors
/// When it cannot be written.
pub fn keep(settings: &Settings, costs: Option<&Costs>) -> Result<()> {
    let Some(costs) = costs else { return Ok(()) };
    let text = serde_json::to_string_pretty(costs).expect("plain data") + "\n";
    write_file(&settings.output.join(NAME), text.as_bytes())
}

/// The table of an earlier run, if there is one that can be read and could be true.
fn read(path: &Path) -> Option<Costs> {
    let length = std::fs::metadata(path).ok()?.len();
    let text = (length <= MAX_BYTES).then(|| std::fs::read_to_string(path).ok()).flatten()?;
    serde_json::from_str(&text).ok().filter(Costs::is_sound)
}

/// Whether tables have every encoding that a group may get, and are of such a prompt.
fn serve(costs: &Costs, groups: &[Group], base: &Draft<'_>, n_prompt: Option<usize>) -> bool {
    let prompt = costs.prompt.as_ref();
    let is_of_prompt = n_prompt.is_none_or(|n| prompt.is_some_and(|(of, _)| *of == n));
    let tables: Vec<&Table> =
        std::iter::once(&costs.token).chain(prompt.map(|(_, table)| table)).collect();
    let serves = |group: &Group| {
        let all = group.candidates.iter().map(|candidate| candidate.encoding);
        let has = |encoding| {
            let mut decls = group.weights.iter().map(|id| base.graph().decl(*id));
            decls.all(|decl| tables.iter().all(|table| table.nanos(decl, encoding).is_some()))
        };
        all.into_iter().all(has)
    };
    is_of_prompt && groups.iter().all(serves)
}

/// How two places differ.
fn moved(before: &Costs, now: &Costs) -> String {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for row in &now.token.rows {
        if let Some(old) = before.token.of_kind(&row.role, row.shape, &row.encoding) {
            let sum = sums.entry(&row.encoding).or_default();
            *sum = (sum.0 + old, sum.1 + row.nanos);
        }
    }
    let ratio = |(encoding, (old, now)): (&&str, &(f64, f64))| {
        format!("{encoding} {} times", short(now / old.max(1.0)))
    };
    let ratios: Vec<String> = sums.iter().map(ratio).collect();
    let place = |place: &Place| {
        format!("{} with {} kernels and {} threads", place.cpu, place.isa, place.threads)
    };
    format!(
        "costs were measured anew: this is {}, and before it was {}; matrices take {} as long as \
         there",
        place(&now.place),
        place(&before.place),
        match ratios.is_empty() {
            true => "nobody knows how".into(),
            false => ratios.join(", "),
        }
    )
}

fn place(engine: &dyn Engine) -> Place {
    let machine = Machine::detect();
    let (isa, threads) = (engine.isa(), engine.n_threads());
    let choices = engine.choices();
    Place { machine: machine.id(), cpu: machine.cpu, isa, threads, choices }
}

/// A draft whose weights are all zeros.
struct Blank<'d>(Draft<'d>);

impl WeightSource for Blank<'_> {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let decl = self.0.graph().decl(id);
        let (encoding, (rows, cols)) = (self.encoding(id), decl.matrix());
        let bytes = Cow::Owned(vec![0; fit::bytes_of(decl, encoding)]);
        WeightView { encoding, rows, cols, bytes }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        self.0.encoding(id)
    }
}

/// The key of a kind of matrix: role, shape, encoding.
type Kind = (&'static str, (usize, usize), &'static str);

/// Times taken.
#[derive(Default)]
struct Taken {
    /// Per kind, nanoseconds of one matrix in each run.
    matrices: BTreeMap<Kind, Vec<f64>>,
    /// Per run, the median nanoseconds of a token, and its matrices' kinds.
    tokens: Vec<(f64, Vec<Kind>)>,
    /// Times of single tokens over their run's median.
    spread: Vec<f64>,
}

/// What is timed.
#[derive(Clone, Copy)]
enum Work<'t> {
    /// Generated tokens.
    Tokens,
    /// This prompt and its first token.
    Prompt(&'t [u32]),
}

fn measure(
    base: &Draft<'_>,
    (groups, tokens): (&[Group], &[u32]),
    work: Work<'_>,
    engine: &dyn Engine,
    clock: &dyn Clock,
    watch: Watch<'_>,
) -> Result<Option<Taken>> {
    let encodings = screen::encodings(groups);
    let prompt = &tokens[..tokens.len().min(N_TOKENS)];
    let uniform = |&encoding: &EncodingRef| {
        let choices = groups::uniform(groups, encoding, base.graph());
        base.planned(&groups::plan(groups, &choices), "timing")
    };
    let drafts = std::iter::once(Ok(base.clone())).chain(encodings.iter().map(uniform));
    let drafts: Vec<Draft<'_>> = drafts.collect::<Result<_>>()?;
    let drafts: Vec<Blank<'_>> = drafts.into_iter().map(Blank).collect();
    let (readers, mut taken) = (readers(base)?, Taken::default());
    let start = clock.now();
    for turn in 0..N_TURNS {
        // Of large models one turn says as much: their tokens take long.
        if turn > 0 && clock.now() - start > LONG {
            break;
        }
        for (n, blank) in drafts.iter().enumerate() {
            let done = turn * drafts.len() + n;
            let name = n.checked_sub(1).map_or("given", |n| encodings[n].name());
            let what = if matches!(work, Work::Tokens) { "tokens" } else { "a prompt" };
            let note = format!("timing {what} of the model as {name}");
            watch.step(Stage::Costs, done, N_TURNS * drafts.len(), &note)?;
            let mut loaded = engine.load(blank.0.graph(), blank)?;
            let room = loaded.context_len().saturating_sub(prompt.len() + 1);
            // The first run warms caches and threads.
            let run = |loaded: &mut dyn Loaded| {
                let timed = match work {
                    Work::Tokens => loaded.profile(prompt, room.clamp(1, N_TOKENS)),
                    Work::Prompt(prompt) => loaded.profile_prompt(prompt),
                };
                timed.map_err(|why| MeasureError::Failed { what: format!("timing {what}"), why })
            };
            if run(&mut *loaded)?.is_none() {
                return Ok(None);
            }
            let began = clock.now();
            for n_done in 0..*RUNS.end() {
                if n_done >= *RUNS.start() && clock.now() - began > TURN {
                    break;
                }
                watch.check()?;
                if let Some(timed) = run(&mut *loaded)? {
                    taken.add(&blank.0, &readers, &timed)?;
                }
            }
        }
    }
    watch.step(Stage::Costs, 1, 1, "done")?;
    Ok(Some(taken))
}

/// Matrices by the name of the node that reads them.
type Readers = BTreeMap<String, Vec<WeightId>>;

/// Who reads which matrices. Where nothing is fused, nodes have the names that they were given.
fn readers(draft: &Draft<'_>) -> Result<Readers> {
    let names = REWRITES.iter().map(|rewrite| rewrite.name());
    let fused = rewritten(draft.graph(), names).map_err(OptimizeError::Input)?;
    let matrices: BTreeSet<WeightId> = draft.matrices().map(|(id, _)| id).collect();
    let reads = |node: &Node| {
        let read = node.weights.iter().copied().filter(|id| matrices.contains(id));
        (node.name.clone(), read.collect())
    };
    let given = draft.graph().nodes.iter().map(reads);
    Ok(given.chain(fused.nodes.iter().map(reads)).collect())
}

impl Taken {
    /// Adds a run: a step's time goes to the matrices that it reads, by their bytes.
    fn add(&mut self, draft: &Draft<'_>, readers: &Readers, timed: &Timed) -> Result<()> {
        let graph = draft.graph();
        let bytes = |id: WeightId| fit::bytes_of(graph.decl(id), draft.encoding(id)) as f64;
        let mut nanos: BTreeMap<WeightId, f64> =
            draft.matrices().map(|(id, _)| (id, 0.0)).collect();
        let n_tokens = timed.tokens.len().max(1) as f64;
        for (name, time) in &timed.steps {
            let Some(read) = readers.get(name) else { continue };
            let all: f64 = read.iter().map(|&id| bytes(id)).sum();
            let each = time.as_nanos() as f64 / n_tokens;
            for &id in read {
                *nanos.get_mut(&id).expect("a matrix") += each * bytes(id) / all;
            }
        }
        if let Some((id, _)) = nanos.iter().find(|(_, nanos)| **nanos == 0.0) {
            let why = format!("no step took time for {}", graph.decl(*id).name);
            return Err(MeasureError::Failed { what: "timing tokens".into(), why }.into());
        }
        let kind = |id: WeightId| -> Kind {
            let decl = graph.decl(id);
            (fit::role_name(decl.role), decl.matrix(), draft.encoding(id).name())
        };
        let mut of_kind: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        for (&id, &nanos) in &nanos {
            of_kind.entry(kind(id)).or_default().push(nanos);
        }
        for (kind, all) in of_kind {
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            self.matrices.entry(kind).or_default().push(mean);
        }
        let tokens: Vec<f64> = timed.tokens.iter().map(|time| time.as_nanos() as f64).collect();
        let middle = median(&tokens);
        self.spread.extend(tokens.iter().map(|time| time / middle));
        self.tokens.push((middle, nanos.keys().map(|&id| kind(id)).collect()));
        Ok(())
    }

    /// The 95th percentile of times over their runs' medians.
    fn p95_ratio(&self) -> f64 {
        let mut spread = self.spread.clone();
        spread.sort_by(f64::total_cmp);
        percentile_of_sorted(&spread, 95.0)
    }

    fn table(self) -> Table {
        let medians: BTreeMap<Kind, f64> =
            self.matrices.iter().map(|(kind, all)| (*kind, median(all))).collect();
        let rest = |(token, kinds): &(f64, Vec<Kind>)| {
            token - kinds.iter().map(|kind| medians[kind]).sum::<f64>()
        };
        let rest: Vec<f64> = self.tokens.iter().map(rest).collect();
        let row = |(&(role, shape, encoding), all): (&Kind, &Vec<f64>)| Row {
            role: role.into(),
            shape,
            encoding: encoding.into(),
            nanos: median(all),
            n: all.len(),
        };
        Table { rest: median(&rest).max(0.0), rows: self.matrices.iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::progress::Silent;
    use crate::runner::RuntimeEngine;
    use crate::testing::tiny_model;
    use std::sync::atomic::AtomicBool;
    use sterna_measure::clock::RealClock;

    fn engine(fuse: bool) -> RuntimeEngine {
        let settings = sterna_runtime::Settings {
            threads: Some(1),
            context_len: 64,
            fuse,
            ..sterna_runtime::Settings::default()
        };
        RuntimeEngine::new(settings).unwrap()
    }

    fn measured(fuse: bool) -> (Costs, Vec<Group>) {
        let (tiny, engine) = (tiny_model(3), engine(fuse));
        let (clock, stop) = (RealClock::new(), AtomicBool::new(false));
        let watch = Watch { progress: &Silent, stop: &stop };
        let draft = Draft::new(&tiny.graph, &tiny);
        let groups = groups::of(&draft, &Budget::default().allow, 1);
        let tokens: Vec<u32> = (0..20).collect();
        let taken = |work| {
            let asked = (&groups[..], &tokens[..]);
            measure(&draft, asked, work, &engine, &clock, watch).unwrap().unwrap()
        };
        let token = taken(Work::Tokens);
        let prompt = Some((20, taken(Work::Prompt(&tokens)).table()));
        let (place, p95_ratio) = (place(&engine), token.p95_ratio());
        (Costs { place, p95_ratio, token: token.table(), prompt }, groups)
    }

    #[test]
    fn every_matrix_has_a_time_in_every_encoding_fused_or_not() {
        let tiny = tiny_model(3);
        let draft = Draft::new(&tiny.graph, &tiny);
        for fuse in [true, false] {
            let (costs, groups) = measured(fuse);
            assert!(costs.is_sound() && serve(&costs, &groups, &draft, Some(20)), "{costs:?}");
            assert!(!serve(&costs, &groups, &draft, Some(21)), "of another prompt");
            let (_, prompt) = costs.prompt.unwrap();
            let mut rows = costs.token.rows.iter().chain(&prompt.rows);
            assert!(rows.all(|row| row.nanos > 0.0 && row.n >= *RUNS.start()));
            let sum = |table: &Table| table.rows.iter().map(|row| row.nanos).sum::<f64>();
            assert!(sum(&prompt) > sum(&costs.token), "20 tokens take longer than one");
        }
        assert_ne!(place(&engine(true)), place(&engine(false)));
    }

    #[test]
    fn a_table_that_cannot_be_true_is_not_believed() {
        let tiny = tiny_model(3);
        let draft = Draft::new(&tiny.graph, &tiny);
        let (costs, groups) = measured(true);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let read_back = |costs: &Costs| {
            std::fs::write(&path, serde_json::to_string(costs).unwrap()).unwrap();
            read(&path)
        };
        assert_eq!(read_back(&costs), Some(costs.clone()));
        let wrong = |change: &dyn Fn(&mut Costs)| {
            let mut wrong = costs.clone();
            change(&mut wrong);
            read_back(&wrong)
        };
        assert_eq!(wrong(&|costs| costs.token.rows[0].nanos = -1.0), None);
        assert_eq!(wrong(&|costs| costs.token.rows[0].nanos = 1e300), None);
        assert_eq!(wrong(&|costs| costs.p95_ratio = 0.0), None);
        let fewer = wrong(&|costs| costs.token.rows.truncate(1)).unwrap();
        assert!(!serve(&fewer, &groups, &draft, None), "rows are missing");
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read(&path), None);
        assert!(moved(&costs, &fewer).contains("costs were measured anew"));
    }
}
