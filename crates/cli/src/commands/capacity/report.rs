//! What a capacity question came to, for people and for tools. Everything predicted is `computed`
//! and says from what; what batches took is `measured`.

use super::calibrate::Calibrated;
use super::predict::{Prediction, Predictor};
use super::{Args, Promise};
use crate::commands::bench::serve::keys::Keys;
use crate::commands::bench::serve::table::{number, p50, tails};
use crate::scoring;
use crate::show;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use sterna_measure::capacity::FitError;
use sterna_measure::clock::timestamp_utc;
use sterna_measure::load::Latency;
use sterna_measure::machine::Machine;
use sterna_measure::{Figure, MeasureError, Unit};
use sterna_model::Model;
use sterna_runtime::Program;

/// Names the form of the JSON.
const FORMAT: &str = "sterna-capacity 1";

/// What was found.
pub struct Answer {
    /// The agents asked for.
    pub asked: Option<usize>,
    /// Whether they are served in time.
    pub is_met: Option<bool>,
    /// The most that are; 0 where not even one is.
    pub most: usize,
    /// Whether no more were tried.
    pub is_limit: bool,
    /// Of the agents asked for, of the most, and of one more.
    pub predictions: BTreeMap<usize, Prediction>,
}

/// Everything there is to say.
pub struct Report<'a> {
    /// What was asked.
    pub args: &'a Args,
    /// The workload's keys, with those of its file.
    pub keys: Keys,
    /// The model.
    pub model: &'a Model,
    /// How it runs.
    pub program: &'a Program,
    /// What batches take.
    pub calibrated: Calibrated,
    /// What was played.
    pub predictor: Predictor<'a>,
    /// What came of it.
    pub answer: Answer,
}

impl Answer {
    /// Whether those asked for are served in time; where none were, whether anybody is.
    pub fn is_met(&self) -> bool {
        self.is_met.unwrap_or(self.most > 0)
    }

    /// The prediction whose bottleneck matters: of the agents asked for where they are too many,
    /// else of the first number that is.
    fn telling(&self) -> &Prediction {
        let refused = self.asked.filter(|_| self.is_met == Some(false));
        let n_agents = refused.unwrap_or(self.most + 1);
        let last = || self.predictions.values().next_back().expect("one was predicted");
        self.predictions.get(&n_agents).unwrap_or_else(last)
    }

    /// What a prediction is of.
    fn role(&self, n_agents: usize) -> &'static str {
        match n_agents {
            n if n == self.most && self.asked == Some(n) => "asked for, the most",
            n if n == self.most => "the most",
            n if self.asked == Some(n) => "asked for",
            _ => "too many",
        }
    }
}

impl Report<'_> {
    /// For terminals.
    ///
    /// # Errors
    /// Never for a calibration that could be fitted.
    pub fn text(&self) -> anyhow::Result<String> {
        let Promise { slo, share } = self.predictor.promise;
        let threads = self.program.n_workers();
        let mut text = format!(
            "{} on {}, {threads} threads, {}\n{}\nlimits: {slo} for {} of requests\n\n",
            scoring::describe(self.model),
            self.calibrated.calibration.cpu,
            self.calibrated.calibration.isa,
            show::paragraph(&self.predictor.workload.words(), 0),
            percent(share),
        );
        text += &self.verdict();
        text += &format!("{}\n", self.table());
        for line in [self.basis(), self.missing().to_owned(), self.measured(), self.confirm()] {
            text += &(show::paragraph(&line, 2) + "\n");
        }
        Ok(text)
    }

    fn verdict(&self) -> String {
        let answer = &self.answer;
        let mut lines = Vec::new();
        if let (Some(n_agents), Some(is_met)) = (answer.asked, answer.is_met) {
            let share = percent(answer.predictions[&n_agents].share());
            let word = if is_met { "yes" } else { "no" };
            lines.push(format!("{n_agents} agents: {word}, {share} of requests within the limits"));
        }
        lines.push(match (answer.most, answer.is_limit) {
            (0, _) => "most agents: none; not even one is served within the limits".to_owned(),
            (most, true) => format!("most agents: {most} or more; no more were tried"),
            (most, false) => format!("most agents: {most} (computed)"),
        });
        let telling = answer.telling();
        let words = telling.bottleneck.words();
        lines.push(format!("bottleneck with {}: {words}", agents(telling.n_agents)));
        lines.iter().map(|line| show::paragraph(line, 2) + "\n").collect()
    }

    fn table(&self) -> comfy_table::Table {
        let all: Vec<&Prediction> = self.answer.predictions.values().collect();
        let heading =
            |p: &&Prediction| format!("{}\n({})", agents(p.n_agents), self.answer.role(p.n_agents));
        let headings: Vec<String> =
            std::iter::once("computed".to_owned()).chain(all.iter().map(heading)).collect();
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let mut table = show::table(&headings);
        if let Some((key, _)) = self.pace(1) {
            let paces = all.iter().filter_map(|prediction| self.pace(prediction.n_agents));
            let cells = paces.map(|(_, pace)| digits(pace));
            table.add_row(std::iter::once(format!("--{key}")).chain(cells));
        }
        for (name, value) in ROWS {
            let cells = all.iter().map(|prediction| value(self, prediction));
            table.add_row(std::iter::once((*name).to_owned()).chain(cells));
        }
        table
    }

    /// What predictions rest on.
    fn basis(&self) -> String {
        let calibration = &self.calibrated.calibration;
        let error = |held_out| match self.predictor.cost.error(&calibration.shapes, held_out) {
            Some(FitError { n, median, max }) => {
                format!("{n}: median {}, at most {}", percent(median), percent(max))
            }
            None => "0".to_owned(),
        };
        format!(
            "computed: the engine's scheduler in virtual time, batches as fitted to shapes \
             measured on {} with {} threads ({}, {}); error of the fit on shapes held out {}; on \
             those fitted {}",
            calibration.cpu,
            calibration.threads,
            calibration.isa,
            calibration.timestamp_utc,
            error(true),
            error(false),
        )
    }

    /// What predictions leave out.
    fn missing(&self) -> &'static str {
        match self.keys.text {
            Some(true) => {
                "not in it: HTTP, clients, and other work on this machine; words count as a token \
                 each"
            }
            _ => "not in it: HTTP, clients, and other work on this machine",
        }
    }

    fn measured(&self) -> String {
        let Calibrated { calibration, file, is_new } = &self.calibrated;
        let n_rounds = calibration.shapes.iter().map(|timed| timed.seconds.len()).min();
        let n_rounds = n_rounds.unwrap_or(0);
        let when = if *is_new { "now" } else { "before; --refresh measures again" };
        let place = file.as_ref().map_or("nowhere".into(), |file| file.display().to_string());
        let n_shapes = calibration.shapes.len();
        let model = &calibration.model;
        format!(
            "measured: {n_shapes} shapes of {model}, {n_rounds} runs each, {when}; kept in {place}"
        )
    }

    /// How often so many agents ask, where the workload says how often its own do.
    fn pace(&self, n_agents: usize) -> Option<(&'static str, f64)> {
        self.predictor.workload.with_agents(n_agents).pace()
    }

    /// How to see whether it is true.
    fn confirm(&self) -> String {
        let (model, n_agents) = (self.args.model.display(), self.answer.most.max(1));
        let mut flags = format!("--agents {n_agents} --slo {}", self.predictor.promise.slo);
        if let Some((key, pace)) = self.pace(n_agents) {
            flags += &format!(" --{key} {}", digits(pace));
        }
        if let Some(vocab) = self.keys.vocab {
            flags += &format!(" --vocab {vocab}");
        }
        format!(
            "to confirm: `sterna serve {model}` with the flags under Serving and Computing, then \
             `sterna bench serve --url http://127.0.0.1:8000 {flags}` with the others of the \
             workload"
        )
    }

    /// For tools.
    ///
    /// # Errors
    /// When a figure is impossible, which is a bug.
    pub fn json(&self) -> anyhow::Result<()> {
        let answer = &self.answer;
        let basis = self.basis();
        let predictions = answer.predictions.values().map(|prediction| {
            Ok(json!({
                "agents": prediction.n_agents,
                "role": answer.role(prediction.n_agents),
                "is_met": prediction.is_met(self.predictor.promise),
                "bottleneck": prediction.bottleneck,
                "bottleneck_words": prediction.bottleneck.words(),
                "figures": self.figures(prediction, &basis)?,
            }))
        });
        let predictions: Vec<Value> = predictions.collect::<Result<_, MeasureError>>()?;
        let method = format!("bisection over agents; {basis}");
        let most = Figure::computed("most_agents", Unit::Count, &method, answer.most as f64)?;
        let calibration = &self.calibrated.calibration;
        show::json(&json!({
            "format": FORMAT,
            "date": timestamp_utc(),
            "command": std::env::args().collect::<Vec<_>>().join(" "),
            "cpu": Machine::detect().cpu,
            "model": self.args.model,
            "model_type": scoring::describe(self.model),
            "threads": self.program.n_workers(),
            "load": self.predictor.workload.words(),
            "workload": self.keys,
            "slo": self.predictor.promise.slo,
            "share": Figure::target("share_within_limits", Unit::Fraction, "--share",
                self.predictor.promise.share)?,
            "asked": answer.asked,
            "is_met": answer.is_met,
            "most_agents": most,
            "is_most_tried": answer.is_limit,
            "bottleneck": answer.telling().bottleneck.words(),
            "predictions": predictions,
            "not_in_it": self.missing(),
            "calibration": {
                "file": self.calibrated.file,
                "is_new": self.calibrated.is_new,
                "model": calibration.model,
                "cpu": calibration.cpu,
                "isa": calibration.isa,
                "threads": calibration.threads,
                "date": calibration.timestamp_utc,
                "fit": self.fit()?,
                "measured": calibration.figures()?,
            },
        }))
    }

    /// The fit's errors, as figures.
    fn fit(&self) -> Result<Vec<Figure>, MeasureError> {
        let shapes = &self.calibrated.calibration.shapes;
        let mut figures = Vec::new();
        for (name, held_out) in [("held_out", true), ("fitted", false)] {
            let method = format!("|predicted / measured - 1| over shapes {name}");
            let (median, max) = (format!("{name}_error_median"), format!("{name}_error_max"));
            match self.predictor.cost.error(shapes, held_out) {
                Some(error) => figures.extend([
                    Figure::estimated(&median, Unit::Ratio, &method, error.median, error.n, None)?,
                    Figure::estimated(&max, Unit::Ratio, &method, error.max, error.n, None)?,
                ]),
                None => {
                    let why = "no such shape fits this engine's limits";
                    figures.push(Figure::unavailable(&median, Unit::Ratio, &method, why)?);
                }
            }
        }
        Ok(figures)
    }

    /// A prediction as figures.
    fn figures(&self, p: &Prediction, basis: &str) -> Result<Vec<Figure>, MeasureError> {
        let computed = |name: &str, unit, value| Figure::computed(name, unit, basis, value);
        let summary = &p.summary;
        let goodput = summary.goodput.map_or(0.0, |goodput| goodput.requests_per_second);
        let mut figures = vec![
            computed("share_within_limits", Unit::Fraction, p.share())?,
            computed("goodput_per_second", Unit::Count, goodput)?,
            computed("answered_requests", Unit::Count, summary.n_done as f64)?,
            computed("failed_requests", Unit::Count, summary.n_failed as f64)?,
            computed("tokens_per_second", Unit::TokensPerSecond, summary.tokens_per_second)?,
            computed("wall_seconds", Unit::Seconds, summary.wall_seconds)?,
            computed("utilisation", Unit::Fraction, p.busy.min(1.0))?,
            computed("kv_pages_peak", Unit::Count, p.pages_peak as f64)?,
            computed("kv_pages", Unit::Count, self.predictor.limits.n_pages as f64)?,
            computed("preemptions", Unit::Count, p.preemptions as f64)?,
        ];
        if let Some((key, pace)) = self.pace(p.n_agents) {
            let unit = if key == "rate" { Unit::Count } else { Unit::Ratio };
            figures.push(computed(&key.replace('-', "_"), unit, pace)?);
        }
        let latencies = [("ttft", summary.ttft), ("itl", summary.itl), ("e2e", summary.e2e)];
        for (name, latency) in latencies {
            for (what, of) in PERCENTILES {
                let name = format!("{name}_{what}_seconds");
                let value = latency.and_then(of);
                figures.push(match value {
                    Some(value) => computed(&name, Unit::Seconds, value)?,
                    None => {
                        let why = "there are too few samples for it";
                        Figure::unavailable(&name, Unit::Seconds, basis, why)?
                    }
                });
            }
        }
        Ok(figures)
    }
}

type Percentile = (&'static str, fn(Latency) -> Option<f64>);

const PERCENTILES: [Percentile; 3] =
    [("p50", |l| Some(l.p50)), ("p95", |l| l.p95), ("p99", |l| l.p99)];

/// A line of the table.
type Row = (&'static str, fn(&Report<'_>, &Prediction) -> String);

const ROWS: &[Row] = &[
    ("within limits", |_, p| percent(p.share())),
    ("goodput, answers/s", |_, p| {
        number(p.summary.goodput.map_or(0.0, |goodput| goodput.requests_per_second))
    }),
    ("answered", |_, p| format!("{} of {}", p.summary.n_done, p.summary.n_requests)),
    ("tokens/s in all", |_, p| number(p.summary.tokens_per_second)),
    ("TTFT p50", |_, p| p50(p.summary.ttft)),
    ("p95, p99", |_, p| tails(p.summary.ttft)),
    ("ITL p50", |_, p| p50(p.summary.itl)),
    ("p95, p99", |_, p| tails(p.summary.itl)),
    ("end to end p50", |_, p| p50(p.summary.e2e)),
    ("p95, p99", |_, p| tails(p.summary.e2e)),
    ("busy", |_, p| percent(p.busy)),
    ("KV pages, at most", |report, p| {
        format!("{} of {}", p.pages_peak, report.predictor.limits.n_pages)
    }),
    ("gave way", |_, p| p.preemptions.to_string()),
];

/// A number that may be of any size, as it is given after a flag.
fn digits(value: f64) -> String {
    let places = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 10.0 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

fn agents(n: usize) -> String {
    format!("{n} agent{}", if n == 1 { "" } else { "s" })
}
