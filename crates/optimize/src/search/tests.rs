//! The search over judges that know their loss: planted interactions, resuming, budgets.

mod judges;

use super::memory::Remembered;
use super::*;
use crate::passes::{Context, by_name as by_pass_name};
use crate::progress::Silent;
use crate::sample::Sample;
use crate::testing::{Tiny, killed, tiny_model};
use std::sync::atomic::AtomicBool;
use sterna_formats::encodings::{ENCODINGS, by_name};
use sterna_measure::clock::SimulatedClock;

/// A loss per weight and bit removed, and a heavy one when two of them are both low.
struct Planted {
    /// Weights that must not both go below 8 bits.
    pair: Option<(WeightId, WeightId)>,
    n_calls: usize,
    /// Calls that succeed.
    n_allowed: usize,
}

impl Planted {
    fn new(pair: Option<(WeightId, WeightId)>) -> Self {
        Self { pair, n_calls: 0, n_allowed: usize::MAX }
    }
}

impl Judge for Planted {
    fn judge_draft(&mut self, _draft: &Draft<'_>, _kv: Option<&str>) -> Result<Loss> {
        unreachable!("the search judges plans")
    }

    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], _depth: Depth) -> Result<Loss> {
        self.n_calls += 1;
        if self.n_calls > self.n_allowed {
            return Err(killed());
        }
        let each = |&(id, e): &(WeightId, EncodingRef)| {
            (1.0 + id.0 as f64 * 0.1) * 1e-4 * (32.0 - e.bits()).powi(2) / 100.0
        };
        let mut kl: f64 = plan.iter().map(each).sum();
        let is_low = |id| plan.iter().any(|(i, e)| *i == id && e.bits() < 8.0);
        if self.pair.is_some_and(|(a, b)| is_low(a) && is_low(b)) {
            kl += 0.5;
        }
        let drop_percent = kl.exp_m1() * 100.0;
        Ok(Loss { kl, drop_percent, drop_percent_high: drop_percent * 1.05 })
    }
}

impl Goal {
    /// The least divergence in at most so many bytes.
    fn bytes(limit: u64) -> Self {
        let least = Least::Divergence;
        Self {
            max_bytes: Some(limit),
            max_nanos: None,
            max_prompt_nanos: None,
            max_resident: None,
            max_drop_percent: None,
            least,
        }
    }

    /// The fewest bytes with at most so much of a drop.
    fn drop_percent(limit: f64) -> Self {
        let least = Least::Bytes;
        Self {
            max_bytes: None,
            max_nanos: None,
            max_prompt_nanos: None,
            max_resident: None,
            max_drop_percent: Some(limit),
            least,
        }
    }
}

fn settings(goal: Goal) -> Settings {
    let allow = ENCODINGS.iter().copied().filter(|e| e.can_encode()).collect();
    Settings {
        goal,
        allow,
        max_checks: 80,
        max_rounds: usize::MAX,
        time_budget: None,
        n_bands: None,
        strategy: STRATEGIES[0],
        seed: 1,
        costs: None,
        preset: None,
        packed: None,
    }
}

fn search(tiny: &Tiny, judge: &mut dyn Judge, goal: Goal) -> Result<Found> {
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let clock = SimulatedClock::default();
    let draft = Draft::new(&tiny.graph, tiny);
    Search { settings: settings(goal), judge, clock: &clock, watch }.choose(&draft)
}

#[test]
fn a_planted_interaction_is_found_and_mended() {
    // proves A2
    let tiny = tiny_model(1);
    let pair = (
        tiny.graph.find_weight("blk.0.ffn_up.weight").unwrap(),
        tiny.graph.find_weight("blk.1.ffn_up.weight").unwrap(),
    );
    let goal = Goal::drop_percent(3.0);
    let free = search(&tiny, &mut Planted::new(None), goal).unwrap();
    let both_low = |found: &Found| {
        let low = |id| found.plan().iter().any(|(i, e)| *i == id && e.bits() < 8.0);
        (low(pair.0), low(pair.1))
    };
    assert_eq!(both_low(&free), (true, true), "without the interaction both go low");
    let found = search(&tiny, &mut Planted::new(Some(pair)), goal).unwrap();
    // Each alone is safe by its sensitivity, so their sum proposes both; some proposal broke.
    assert!(found.trials.iter().any(|trial| trial.loss.kl > 0.5), "the sum was believed at first");
    assert!(found.is_met && found.best().loss.drop_percent_high <= 3.0);
    assert_ne!(both_low(&found), (true, true));
    let bytes = |found: &Found| found.best().takes.bytes;
    let all_high = Trial { choices: vec![0; found.groups.len()], ..found.best().clone() };
    assert!(bytes(&found) >= bytes(&free));
    assert!(bytes(&found) < groups::takes(&found.groups, &all_high.choices).bytes / 3);
}

#[test]
fn a_size_is_kept_and_filled() {
    // proves S-4
    let tiny = tiny_model(2);
    let draft = Draft::new(&tiny.graph, &tiny);
    let all = groups::of(&draft, &settings(Goal::bytes(0)).allow, 2);
    for name in ["Q8_0", "Q5_0", "Q4_0"] {
        let uniform = groups::uniform(&all, by_name(name).unwrap(), &tiny.graph);
        let limit = groups::takes(&all, &uniform).bytes;
        let found = search(&tiny, &mut Planted::new(None), Goal::bytes(limit)).unwrap();
        assert!(found.best().takes.bytes <= limit);
        let plan = groups::plan(&all, &uniform);
        let loss = Planted::new(None).judge(&plan, Depth::Full).unwrap();
        assert!(found.best().loss.kl <= loss.kl, "{name}: {} > {}", found.best().loss.kl, loss.kl);
    }
    let error = search(&tiny, &mut Planted::new(None), Goal::bytes(1000)).unwrap_err().to_string();
    assert!(error.contains("the tensors take at least"), "{error}");
}

#[test]
fn a_killed_search_resumes_to_the_same_plan() {
    let tiny = tiny_model(3);
    let goal = Goal::drop_percent(2.0);
    let whole = search(&tiny, &mut Planted::new(None), goal).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.jsonl");
    let mut n_calls = 0;
    for n_allowed in [7, 1, 30, usize::MAX] {
        let mut judge = Planted { n_allowed, ..Planted::new(None) };
        let mut remembered = Remembered::in_file(&mut judge, &path, "key", true).unwrap();
        let outcome = search(&tiny, &mut remembered, goal);
        n_calls += judge.n_calls.min(n_allowed);
        if n_allowed == usize::MAX {
            let found = outcome.unwrap();
            assert_eq!((&found.trials, found.chosen), (&whole.trials, whole.chosen));
        } else {
            assert!(outcome.is_err());
            // A kill in the middle of a line leaves half of one.
            let mut text = std::fs::read_to_string(&path).unwrap();
            text += "{\"plan\":\"3=Q";
            std::fs::write(&path, text).unwrap();
        }
    }
    let mut counted = Planted::new(None);
    search(&tiny, &mut Remembered::within_run(&mut counted), goal).unwrap();
    assert_eq!(n_calls, counted.n_calls, "nothing was measured twice");
    let error = Remembered::in_file(&mut counted, &path, "other", true).err().unwrap();
    assert!(error.to_string().contains("another model, text or settings"));
}

#[test]
fn a_stop_takes_effect_at_the_next_step() {
    let tiny = tiny_model(4);
    let stop = AtomicBool::new(true);
    let watch = Watch { progress: &Silent, stop: &stop };
    let clock = SimulatedClock::default();
    let draft = Draft::new(&tiny.graph, &tiny);
    let mut judge = Planted::new(None);
    let settings = settings(Goal::drop_percent(1.0));
    let outcome = Search { settings, judge: &mut judge, clock: &clock, watch }.choose(&draft);
    assert!(matches!(outcome, Err(crate::OptimizeError::Cancelled)));
    assert_eq!(judge.n_calls, 0);
}

/// A judge that takes a second per call.
struct Slow<'a>(Planted, &'a SimulatedClock);

impl Judge for Slow<'_> {
    fn judge_draft(&mut self, _draft: &Draft<'_>, _kv: Option<&str>) -> Result<Loss> {
        unreachable!("the search judges plans")
    }

    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], depth: Depth) -> Result<Loss> {
        self.1.advance(Duration::from_secs(1));
        self.0.judge(plan, depth)
    }
}

#[test]
fn a_time_budget_coarsens_the_groups_and_is_kept() {
    let tiny = tiny_model(5);
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let clock = SimulatedClock::default();
    let mut judge = Slow(Planted::new(None), &clock);
    let budget = Duration::from_secs(100);
    let settings = Settings { time_budget: Some(budget), ..settings(Goal::drop_percent(1.0)) };
    let draft = Draft::new(&tiny.graph, &tiny);
    let found =
        Search { settings, judge: &mut judge, clock: &clock, watch }.choose(&draft).unwrap();
    assert!(found.notes[0].contains("2 layers are searched in 1 bands"), "{:?}", found.notes);
    assert!(clock.now() <= budget + Duration::from_secs(2), "{:?}", clock.now());
    assert!(found.is_met);
}

/// A loss per weight that is linear in what its rounding adds, and a second per call.
struct Linear<'a>(&'a Draft<'a>, &'a SimulatedClock);

impl Judge for Linear<'_> {
    fn judge_draft(&mut self, _draft: &Draft<'_>, _kv: Option<&str>) -> Result<Loss> {
        unreachable!("the search judges plans")
    }

    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], _depth: Depth) -> Result<Loss> {
        self.1.advance(Duration::from_secs(1));
        let each = |&(id, encoding): &(WeightId, EncodingRef)| {
            let sample = Sample::of(self.0, id, 16);
            let alike = vec![1.0; sample.cols()];
            let sensitivity = 0.1 + (id.0 * 7 % 5) as f64;
            sensitivity * sample.error(encoding, None, &alike) / sample.power(&alike)
        };
        let kl: f64 = plan.iter().map(each).sum();
        let drop_percent = kl.exp_m1() * 100.0;
        Ok(Loss { kl, drop_percent, drop_percent_high: drop_percent * 1.05 })
    }
}

#[test]
fn what_time_does_not_allow_is_estimated_from_errors() {
    let tiny = tiny_model(5);
    let draft = Draft::new(&tiny.graph, &tiny);
    let find = |time_budget: Option<u64>| {
        let (stop, clock) = (AtomicBool::new(false), SimulatedClock::default());
        let watch = Watch { progress: &Silent, stop: &stop };
        let time_budget = time_budget.map(Duration::from_secs);
        let goal = settings(Goal::bytes(20_000));
        let settings = Settings { time_budget, n_bands: Some(2), max_checks: 1, ..goal };
        let mut judge = Linear(&draft, &clock);
        Search { settings, judge: &mut judge, clock: &clock, watch }.choose(&draft).unwrap()
    };
    let (whole, hurried) = (find(None), find(Some(30)));
    let n_unknown =
        |found: &Found| found.sensitivities.iter().flatten().filter(|loss| loss.is_none()).count();
    assert_eq!(n_unknown(&whole), 0);
    assert!(n_unknown(&hurried) > 10, "{}", n_unknown(&hurried));
    let is_said = |note: &String| note.contains("is estimated from the errors of their matrices");
    assert!(hurried.notes.iter().any(is_said), "{:?}", hurried.notes);
    // Errors are all that this judge goes by, and every group was measured once.
    let (kl, least) = (hurried.best().loss.kl, whole.best().loss.kl);
    assert!(kl <= least * 1.05, "{kl}, {least} with everything measured");
}

/// Per encoding a divergence of the whole model; it falls with the tensors that have it.
struct ByEncoding(&'static [(&'static str, f64)], usize);

impl Judge for ByEncoding {
    fn judge_draft(&mut self, _draft: &Draft<'_>, _kv: Option<&str>) -> Result<Loss> {
        unreachable!("the search judges plans")
    }

    fn judge(&mut self, plan: &[(WeightId, EncodingRef)], _depth: Depth) -> Result<Loss> {
        self.1 += 1;
        let of = |e: &EncodingRef| self.0.iter().find(|(name, _)| *name == e.name()).unwrap().1;
        let kl: f64 = plan.iter().map(|(_, e)| of(e) / 15.0).sum();
        let drop_percent = kl.exp_m1() * 100.0;
        Ok(Loss { kl, drop_percent, drop_percent_high: drop_percent })
    }
}

#[test]
fn encodings_that_another_beats_are_not_searched() {
    let tiny = tiny_model(6);
    // Q5_1 has more bytes than Q5_0 and is no better here; Q4_1 is worse than Q4_0, too.
    let losses = &[("Q8_0", 0.001), ("Q5_1", 0.02), ("Q5_0", 0.02), ("Q4_1", 0.09), ("Q4_0", 0.04)];
    let mut judge = ByEncoding(losses, 0);
    let allow = losses.iter().map(|(name, _)| by_name(name).unwrap()).collect();
    let settings = Settings { allow, ..settings(Goal::drop_percent(2.1)) };
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let clock = SimulatedClock::default();
    let mut draft = Draft::new(&tiny.graph, &tiny);
    let mut context = Context { may_pad: Some((tiny.arch, &tiny.config)), ..Context::default() };
    by_pass_name("pad").unwrap().apply(&mut draft, &mut context).unwrap();
    let found =
        Search { settings, judge: &mut judge, clock: &clock, watch }.choose(&draft).unwrap();
    for group in &found.groups {
        let names: Vec<&str> = group.candidates.iter().map(|c| c.encoding.name()).collect();
        assert_eq!(names, ["F32", "Q8_0", "Q5_0", "Q4_0"]);
    }
    assert!(found.notes[0].starts_with("Q5_1, Q4_1 left out of the search"), "{:?}", found.notes);
    assert!(found.is_met);
    // Whatever comes of the rest, the smallest encoding that keeps the budget (2.02%) is a plan.
    assert_eq!(found.trials[1].label, "uniform Q5_0");
}

#[test]
fn a_group_that_alone_breaks_the_budget_goes_no_lower() {
    let tiny = tiny_model(7);
    // A fifteenth of Q5_0's loss is above 1%, so no group is tried in fewer bits.
    let losses = &[("F16", 1e-6), ("Q8_0", 0.001), ("Q5_0", 0.3), ("Q4_0", 0.9)];
    let allow: Vec<EncodingRef> = losses.iter().map(|(name, _)| by_name(name).unwrap()).collect();
    let search = |goal| {
        let mut judge = ByEncoding(losses, 0);
        let settings = Settings { allow: allow.clone(), ..settings(goal) };
        let stop = AtomicBool::new(false);
        let watch = Watch { progress: &Silent, stop: &stop };
        let clock = SimulatedClock::default();
        let draft = Draft::new(&tiny.graph, &tiny);
        Search { settings, judge: &mut judge, clock: &clock, watch }.choose(&draft).unwrap()
    };
    let measured = |found: &Found, name: &str| {
        let pairs = found.groups.iter().zip(&found.sensitivities);
        let mut all = pairs.flat_map(|(group, losses)| group.candidates.iter().zip(losses));
        all.any(|(candidate, loss)| candidate.encoding.name() == name && loss.is_some())
    };
    let by_drop = search(Goal::drop_percent(1.0));
    assert!(measured(&by_drop, "Q5_0") && !measured(&by_drop, "Q4_0"));
    assert!(by_drop.notes.iter().any(|n| n.contains("alone costs more")), "{:?}", by_drop.notes);
    let by_size = search(Goal::bytes(40_000));
    assert!(measured(&by_size, "Q4_0"), "for a size the lowest may be needed");
}

/// A machine on which an element takes so long by encoding, in nanoseconds.
fn machine(tiny: &Tiny, speeds: &[(&str, f64)]) -> Costs {
    let mut rows: Vec<costs::Row> = Vec::new();
    for decl in tiny.graph.weights.iter().filter(|decl| crate::fit::is_matrix(decl)) {
        let (shape, role) = (decl.matrix(), crate::fit::role_name(decl.role));
        rows.extend(speeds.iter().map(|&(encoding, each)| costs::Row {
            role: role.into(),
            shape,
            encoding: encoding.into(),
            nanos: each * (shape.0 * shape.1) as f64,
            n: 1,
        }));
    }
    let place = costs::Place {
        machine: "test".into(),
        cpu: "test".into(),
        isa: "scalar".into(),
        threads: 1,
        choices: "test".into(),
    };
    Costs { place, p95_ratio: 1.0, token: costs::Table { rest: 100.0, rows }, prompt: None }
}

/// Kernels of two machines: on the second, four bits take longer than eight.
const FAST: &[(&str, f64)] = &[("F32", 4.0), ("F16", 2.0), ("Q8_0", 1.0), ("Q4_0", 0.5)];
const SLOW_NIBBLES: &[(&str, f64)] = &[("F32", 4.0), ("F16", 2.0), ("Q8_0", 1.0), ("Q4_0", 1.5)];

fn timed(tiny: &Tiny, speeds: &[(&str, f64)], goal: Goal) -> Result<Found> {
    let stop = AtomicBool::new(false);
    let watch = Watch { progress: &Silent, stop: &stop };
    let clock = SimulatedClock::default();
    let mut draft = Draft::new(&tiny.graph, tiny);
    let mut context = Context { may_pad: Some((tiny.arch, &tiny.config)), ..Context::default() };
    by_pass_name("pad").unwrap().apply(&mut draft, &mut context).unwrap();
    let padded = Tiny { graph: draft.graph().clone(), ..tiny_model(8) };
    let settings = Settings { costs: Some(machine(&padded, speeds)), ..settings(goal) };
    Search { settings, judge: &mut Planted::new(None), clock: &clock, watch }.choose(&draft)
}

fn names(found: &Found) -> Vec<&'static str> {
    let chosen = found.groups.iter().zip(&found.best().choices);
    chosen.map(|(group, &choice)| group.candidates[choice].encoding.name()).collect()
}

#[test]
fn plans_keep_a_time_by_measured_costs() {
    // proves A1, S-8
    let tiny = tiny_model(8);
    let free = timed(&tiny, FAST, Goal::bytes(u64::MAX)).unwrap();
    let (bytes, nanos) = (free.trials[0].takes.bytes, free.trials[0].takes.nanos);
    assert!(nanos > 0.0 && free.chosen == 0, "nothing is capped, so nothing is changed");
    let by_time = Goal { max_bytes: None, max_nanos: Some(nanos / 5.0), ..Goal::bytes(0) };
    let found = timed(&tiny, FAST, by_time).unwrap();
    assert!(found.is_met && found.best().takes.nanos <= nanos / 5.0);
    assert!(names(&found).contains(&"Q8_0"), "no faster than asked for: {:?}", names(&found));
    assert!(
        found.strategies.iter().all(|s| s.unit == "nanoseconds" && s.size as f64 <= nanos / 5.0)
    );
    // Both caps bind: bytes alone would have been kept by slower plans.
    let both = Goal { max_bytes: Some(bytes / 5), max_nanos: Some(nanos / 3.0), ..by_time };
    let found = timed(&tiny, SLOW_NIBBLES, both).unwrap();
    assert!(found.is_met, "{:?} {}", found.best(), nanos);
    assert_eq!(found.strategies[0].unit, "billionths of the caps");
    let apart = Goal { max_nanos: Some(nanos / 3.8), ..both };
    let error = timed(&tiny, SLOW_NIBBLES, apart).unwrap_err().to_string();
    assert!(error.contains("no plan keeps both caps"), "{error}");
    let least = Goal { max_bytes: None, max_nanos: Some(nanos / 100.0), ..by_time };
    let error = timed(&tiny, FAST, least).unwrap_err().to_string();
    assert!(error.contains("us of a token here, and the budget leaves"), "{error}");
}

#[test]
fn another_machine_gets_another_plan_of_the_same_losses() {
    // proves B12
    let tiny = tiny_model(8);
    let fastest = Goal { least: Least::Time, ..Goal::drop_percent(4.0) };
    let (here, there) =
        (timed(&tiny, FAST, fastest).unwrap(), timed(&tiny, SLOW_NIBBLES, fastest).unwrap());
    assert!(here.is_met && there.is_met);
    assert!(names(&here).contains(&"Q4_0"), "{:?}", names(&here));
    assert!(!names(&there).contains(&"Q4_0"), "four bits are slower there: {:?}", names(&there));
    // By bytes the second machine's plan would be the first's.
    let small = timed(&tiny, SLOW_NIBBLES, Goal::drop_percent(4.0)).unwrap();
    assert!(names(&small).contains(&"Q4_0"));
}
