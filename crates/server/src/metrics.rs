//! `GET /metrics`: counters and gauges of the engines as Prometheus reads them.
//!
//! In: the engines' statistics. Out: text. `vllm:*` names are there where they mean the same, so
//! that dashboards and autoscalers made for vLLM work ([`vllm`]); `sterna_*` are ours ([`own`]).
//! `METRICS.md` beside this crate lists them all, and those of vLLM that are not here.

mod own;
mod vllm;

use crate::app::App;
use crate::cache::CacheStats;
use crate::groups::Lengths;
use crate::past::{Counted, Past};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use sterna_engine::{AgentStats, Histogram, Stats};

/// What a model has to show.
struct Seen {
    name: String,
    /// Whether it is in memory: of others there is what they counted, and nothing that they have.
    is_here: bool,
    stats: Stats,
    groups: Lengths,
    memory: Vec<(&'static str, u64)>,
    /// Those that are shown by name, and the rest as one.
    agents: Vec<AgentStats>,
}

type Labels = Vec<(&'static str, String)>;

/// Samples under one name.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    of: Of,
}

/// Where the samples of a family come from.
enum Of {
    /// One for each model.
    Number(fn(&Seen) -> f64),
    /// Several for each model, told apart by labels.
    Numbers(fn(&Seen) -> Vec<(Labels, f64)>),
    /// Distributions of each model, and the bounds by which they are shown.
    Spreads(&'static [f64], fn(&Seen) -> Vec<(Labels, &Histogram)>),
    /// Of the process, if the system tells.
    Process(fn(&App) -> Option<(Labels, f64)>),
    /// Of all models together: several, told apart by labels.
    Server(fn(&App, &CacheStats) -> Vec<(Labels, f64)>),
    /// A distribution of all models together, and the bounds by which it is shown.
    ServerSpread(&'static [f64], fn(&CacheStats) -> &Histogram),
}

const fn family(name: &'static str, kind: &'static str, of: Of, help: &'static str) -> Family {
    Family { name, kind, help, of }
}

/// What a model has now.
const GAUGE: &str = "gauge";

const fn gauge(name: &'static str, value: fn(&Seen) -> f64, help: &'static str) -> Family {
    family(name, GAUGE, Of::Number(value), help)
}

const fn counter(name: &'static str, value: fn(&Seen) -> f64, help: &'static str) -> Family {
    family(name, "counter", Of::Number(value), help)
}

/// One distribution for each model.
const fn spread(
    name: &'static str,
    bounds: &'static [f64],
    of: fn(&Seen) -> Vec<(Labels, &Histogram)>,
    help: &'static str,
) -> Family {
    family(name, "histogram", Of::Spreads(bounds, of), help)
}

fn only(histogram: &Histogram) -> Vec<(Labels, &Histogram)> {
    vec![(Labels::new(), histogram)]
}

/// Numbers with a label each.
fn labelled<V: Into<String>>(
    label: &'static str,
    values: impl IntoIterator<Item = (V, f64)>,
) -> Vec<(Labels, f64)> {
    values.into_iter().map(|(text, value)| (vec![(label, text.into())], value)).collect()
}

/// Pages that only the prefix tree holds make room when it is needed, as vLLM's free blocks do.
fn pages_in_use(stats: &Stats) -> usize {
    stats.pages_used.saturating_sub(stats.pages_cached)
}

/// Shows them.
pub async fn show(State(app): State<Arc<App>>) -> Response {
    let seen: Vec<Seen> = app.models.past().into_iter().map(|past| seen(&app, past)).collect();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], render(&app, &seen)).into_response()
}

fn seen(app: &App, past: Past) -> Seen {
    let Counted { stats, groups } = past.counted();
    let agents = app.named.of(&stats.agents, app.options.metrics_agents);
    let memory = past.model.as_ref().map(|model| model.served.memory.clone()).unwrap_or_default();
    Seen { name: past.name, is_here: past.model.is_some(), stats, groups, memory, agents }
}

/// Agents that metrics show by name: the first ones that were seen. Which they are never changes,
/// or the sum of all others would go down, which counters must not.
#[derive(Debug, Default)]
pub struct Named {
    names: Mutex<BTreeSet<String>>,
}

/// All agents beyond those.
const OTHERS: &str = "(others)";
/// Clients that give no name.
const NAMELESS: &str = "(none)";

impl Named {
    /// Up to `most` agents by name and the others as one; of 0, nothing.
    fn of(&self, agents: &[AgentStats], most: usize) -> Vec<AgentStats> {
        let mut shown: Vec<AgentStats> = Vec::new();
        if most == 0 {
            return shown;
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut others = AgentStats { name: OTHERS.into(), ..AgentStats::default() };
        for agent in agents {
            let is_named = agent.name != OTHERS
                && (names.contains(&agent.name)
                    || (names.len() < most && names.insert(agent.name.clone())));
            if is_named {
                let name = if agent.name.is_empty() { NAMELESS.into() } else { agent.name.clone() };
                shown.push(AgentStats { name, ..agent.clone() });
            } else {
                others.requests += agent.requests;
                others.prompt_tokens += agent.prompt_tokens;
                others.new_tokens += agent.new_tokens;
            }
        }
        shown.push(others);
        shown
    }
}

/// The text: a family of samples after another, in each a sample per model.
fn render(app: &App, models: &[Seen]) -> String {
    let mut out = String::new();
    let cache = app.models.stats();
    for family in vllm::FAMILIES.iter().chain(own::FAMILIES) {
        let lines = samples(family, app, &cache, models);
        // A family is described where it has something to show.
        if !lines.is_empty() {
            let Family { name, kind, help, .. } = family;
            line(&mut out, format_args!("# HELP {name} {help}"));
            line(&mut out, format_args!("# TYPE {name} {kind}"));
            out += &lines;
        }
    }
    out
}

fn samples(family: &Family, app: &App, cache: &CacheStats, models: &[Seen]) -> String {
    let mut out = String::new();
    let name = family.name;
    for model in models.iter().filter(|model| model.is_here || family.kind != GAUGE) {
        // vLLM counts the engines of a server; here each model has one.
        let engine = name.starts_with("vllm:").then(|| ("engine", "0".to_owned()));
        let of_model = [("model_name", model.name.clone())].into_iter().chain(engine);
        let with = |labels: Labels| of_model.clone().chain(labels).collect::<Labels>();
        match family.of {
            Of::Number(value) => sample(&mut out, name, &with(Labels::new()), value(model)),
            Of::Numbers(values) => {
                for (labels, value) in values(model) {
                    sample(&mut out, name, &with(labels), value);
                }
            }
            Of::Spreads(bounds, spreads) => {
                for (labels, histogram) in spreads(model) {
                    distribution(&mut out, name, &with(labels), histogram, bounds);
                }
            }
            Of::Process(_) | Of::Server(_) | Of::ServerSpread(..) => {}
        }
    }
    let of_server = match family.of {
        Of::Process(value) => value(app).into_iter().collect(),
        Of::Server(values) => values(app, cache),
        Of::ServerSpread(bounds, spread) => {
            distribution(&mut out, name, &Labels::new(), spread(cache), bounds);
            Vec::new()
        }
        Of::Number(_) | Of::Numbers(_) | Of::Spreads(..) => Vec::new(),
    };
    for (labels, value) in of_server {
        sample(&mut out, name, &labels, value);
    }
    out
}

fn distribution(
    out: &mut String,
    name: &str,
    labels: &Labels,
    histogram: &Histogram,
    bounds: &[f64],
) {
    for (bound, count) in histogram.cumulative_at(bounds) {
        // Debug writes `1.0` where Display writes `1`, and Prometheus' own clients the former.
        let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".into() };
        let labels = [labels.as_slice(), &[("le", bound)]].concat();
        sample(out, &format!("{name}_bucket"), &labels, count as f64);
    }
    sample(out, &format!("{name}_sum"), labels, histogram.sum());
    sample(out, &format!("{name}_count"), labels, histogram.count() as f64);
}

fn sample(out: &mut String, name: &str, labels: &[(&str, String)], value: f64) {
    let label = |(name, value): &(&str, String)| format!("{name}=\"{}\"", escaped(value));
    let labels: Vec<String> = labels.iter().map(label).collect();
    match labels.as_slice() {
        [] => line(out, format_args!("{name} {value}")),
        labels => line(out, format_args!("{name}{{{}}} {value}", labels.join(","))),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string never fails");
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = include_str!("../METRICS.md");

    #[test]
    fn every_name_is_in_the_list_and_no_other() {
        let families = vllm::FAMILIES.iter().chain(own::FAMILIES);
        let known: Vec<&str> = families.map(|family| family.name).collect();
        let rows = LIST.lines().filter_map(|line| line.strip_prefix("| `"));
        let listed: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        for name in &known {
            assert_eq!(known.iter().filter(|other| *other == name).count(), 1, "{name} twice");
            assert!(listed.contains(name), "{name} is not in METRICS.md");
        }
        let missing = LIST.split("## Of vLLM, and not here").nth(1).unwrap();
        for name in listed {
            let is_missing = missing.contains(&format!("| `{name}`"));
            assert_ne!(known.contains(&name), is_missing, "{name} in METRICS.md");
        }
    }

    #[test]
    fn the_agents_beyond_the_first_are_one_that_only_grows() {
        let agent = |name: &str, new_tokens| AgentStats {
            name: name.into(),
            new_tokens,
            ..AgentStats::default()
        };
        let named = Named::default();
        let shown = |agents: &[AgentStats]| -> Vec<(String, u64)> {
            named.of(agents, 2).into_iter().map(|agent| (agent.name, agent.new_tokens)).collect()
        };
        let pair = |name: &str, n| (name.to_owned(), n);
        let first = shown(&[agent("", 1), agent("m", 2)]);
        assert_eq!(first, [pair("(none)", 1), pair("m", 2), pair("(others)", 0)]);
        let later = shown(&[agent("", 1), agent("a", 9), agent("m", 2), agent("(others)", 5)]);
        assert_eq!(later, [pair("(none)", 1), pair("m", 2), pair("(others)", 14)]);
        assert!(named.of(&[agent("m", 2)], 0).is_empty());
    }
}
