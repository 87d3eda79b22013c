//! Reading a Plan's text, and what is said of one that does not hold.

use super::content::HASH_LEN;
use super::{PLAN_VERSION, Plan};
use crate::rewrites::REWRITES;
use crate::{Model, WeightSource};
use std::path::Path;
use sterna_formats::FormatError;
use sterna_formats::encodings::{ENCODINGS, by_name};

/// A larger text is no Plan: a line per tensor of the largest models is under a megabyte.
const MAX_LEN: usize = 16 << 20;

/// What the runtime can keep keys and values in.
const KV_ENCODINGS: &[&str] = &["F16", "F32", "Q8_0"];

pub fn parse(path: &Path, text: &str) -> Result<Plan, FormatError> {
    let error = |problem: String, fix: String| FormatError::new(path, problem, fix);
    if text.len() > MAX_LEN {
        let problem = format!("the Plan has {} bytes, more than {MAX_LEN}", text.len());
        return Err(error(problem, "give a Plan that Sterna wrote".into()));
    }
    let plan: Plan = toml::from_str(text).map_err(|e| {
        let line =
            e.span().map_or(0, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
        let (problem, fix) = explain(e.message());
        error(format!("line {line} of the Plan: {problem}"), fix)
    })?;
    check(&plan).map_err(|(problem, fix)| error(format!("in the Plan, {problem}"), fix))?;
    Ok(plan)
}

/// Turns serde's "unknown field `sead`, expected one of `version`, `seed`" into problem and fix.
fn explain(message: &str) -> (String, String) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.as_slice() {
        [unknown, known @ ..] if message.starts_with("unknown field") => {
            (format!("unknown key {unknown:?}"), did_you_mean(unknown, known.iter().copied()))
        }
        [missing] if message.starts_with("missing field") => {
            (format!("the key {missing:?} is missing"), "add it".to_owned())
        }
        _ => {
            let sentence = message.trim().replace('\n', ", ");
            (sentence, "correct it, or give a Plan that Sterna wrote".to_owned())
        }
    }
}

fn check(plan: &Plan) -> Result<(), (String, String)> {
    if plan.version != PLAN_VERSION {
        let problem = format!("version is {}, this Sterna knows {PLAN_VERSION}", plan.version);
        return Err((problem, "use the Sterna that wrote it, or a newer one".into()));
    }
    let unknown = |what: &str, name: &str, known: Vec<&'static str>| {
        Err((format!("{what} {name:?} is not known"), did_you_mean(name, known.into_iter())))
    };
    if !KV_ENCODINGS.contains(&plan.kv.as_str()) {
        return unknown("the kv encoding", &plan.kv, KV_ENCODINGS.to_vec());
    }
    let rewrites: Vec<&str> = REWRITES.iter().map(|r| r.name()).collect();
    if let Some(name) = plan.rewrites.iter().find(|name| !rewrites.contains(&name.as_str())) {
        return unknown("the rewrite", name, rewrites);
    }
    // A Plan names encodings as they are printed, so that its text is the same for the same Plan.
    let exact = |name: &str| by_name(name).is_some_and(|e| e.name() == name);
    if let Some(name) = plan.encodings.values().find(|name| !exact(name)) {
        return unknown("the encoding", name, ENCODINGS.iter().map(|e| e.name()).collect());
    }
    let texts = plan.calibration.iter().chain(&plan.held_out).map(|text| &text.hash);
    let texts = texts.chain(plan.distilled.iter().map(|distilled| &distilled.hash));
    if let Some(hash) = texts.chain([&plan.source.content]).find(|hash| !is_hash(hash)) {
        let problem = format!("{hash:?} is no hash");
        return Err((problem, "a hash is blake3: and 64 hexadecimal digits".into()));
    }
    if let Some((name, _)) = plan.scaled.iter().find(|(_, power)| !(0.0..=1.0).contains(*power)) {
        let problem = format!("the strength of {name} is no number between 0 and 1");
        return Err((problem, "correct it".into()));
    }
    if plan.distilled.as_ref().is_some_and(|distilled| !distilled.is_sensible()) {
        let problem = "distilled has a rate or a count of steps that cannot be".to_owned();
        return Err((problem, "correct it".into()));
    }
    let is_range = |range: &f64| super::inputs::activations(*range).is_some();
    if let Some((name, _)) = plan.int8_inputs.iter().find(|(_, range)| !is_range(range)) {
        let problem = format!("the range of {name}'s inputs is no number that has a scale");
        return Err((problem, "correct it".into()));
    }
    let numbers = plan.budget.numbers();
    match numbers.iter().find(|(_, x)| x.is_some_and(|x| !x.is_finite() || x < 0.0)) {
        Some((key, _)) => Err((format!("{key} is not a positive number"), "correct it".into())),
        None => Ok(()),
    }
}

fn is_hash(text: &str) -> bool {
    let digits = text.strip_prefix("blake3:");
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.len() == HASH_LEN && digits.is_some_and(|digits| digits.chars().all(hex))
}

fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The known name that is at most a third of its letters away.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (near, distance) = known
        .map(|k| (k, distance(&name.to_lowercase(), &k.to_lowercase())))
        .min_by_key(|k| k.1)?;
    (distance <= near.len().div_ceil(3)).then_some(near)
}

/// Insertions, deletions, replacements and swaps of neighbours between two texts. Names are short;
/// what is longer than any name is cut, so that a hostile key costs little.
fn distance(a: &str, b: &str) -> usize {
    let cut = |text: &str| text.chars().take(80).collect::<String>();
    strsim::osa_distance(&cut(a), &cut(b))
}

pub fn carried_out(plan: &Plan, model: &Model, source: &dyn WeightSource) -> Result<(), String> {
    for name in plan.encodings.keys().chain(plan.scaled.keys()).chain(plan.int8_inputs.keys()) {
        if model.graph.find_weight(name).is_none() {
            let known = model.graph.weights.iter().map(|w| w.name.as_str());
            let fix = did_you_mean(name, known.clone().take(8));
            let fix = nearest(name, known).map_or(fix, |near| format!("did you mean {near:?}?"));
            return Err(format!("the model has no tensor {name:?}; {fix}"));
        }
    }
    for id in model.graph.weight_ids() {
        let decl = model.graph.decl(id);
        let planned = match plan.encodings.get(&decl.name) {
            Some(name) => name.as_str(),
            None => model.encoding(id).name(),
        };
        let found = source.encoding(id).name();
        if found != planned {
            return Err(format!("tensor {} is {found}, the Plan says {planned}", decl.name));
        }
    }
    Ok(())
}
