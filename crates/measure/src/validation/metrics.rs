//! From what the processes measured to the metrics of a validation.
//!
//! In: [`Evidence`]. Out: figures, the ternary model's called `bitnet_*` and its twin's
//! `baseline_*`. What cannot be had is a figure that says why.

use crate::compare::Comparison;
use crate::quality::{Scores, paired_drop};
use crate::stats::{self, Bootstrap};
use crate::{Figure, MeasureError, Samples, Unit};

/// Why there is nothing to compare with.
pub const NO_BASELINE: &str =
    "no baseline was given: a comparison needs the f32 twin of this model (--baseline)";

/// Why there is no loss.
pub const NO_TEXT: &str = "no held-out text was given (--text)";

/// Proportional set sizes of one fresh process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Before the model was opened.
    pub before: f64,
    /// With the model ready to run.
    pub loaded: f64,
    /// After prompts and generation.
    pub worked: f64,
}

/// What is known of one model.
#[derive(Debug, Clone)]
pub struct Side {
    /// The bytes of its files.
    pub file_bytes: u64,
    /// One entry per fresh process, or why the system does not tell.
    pub memory: Result<Vec<Memory>, String>,
    /// Milliseconds of every generated token at batch 1.
    pub token_ms: Vec<f64>,
    /// Its scores on the held-out text, if there is one.
    pub scores: Option<Scores>,
}

/// The runs of one kind of work.
#[derive(Debug, Clone)]
pub enum Runs {
    /// Interleaved with the baseline, which is A.
    Compared(Comparison),
    /// Seconds of each run, without a baseline.
    Alone(Vec<f64>),
}

/// How fast one kind of work is.
#[derive(Debug, Clone)]
pub struct Speed {
    /// `decode` or `prefill` and the batch: `decode_b1`.
    pub name: String,
    /// The work in words.
    pub work: String,
    /// Tokens per run, of all sequences.
    pub n_tokens: usize,
    /// The runs.
    pub runs: Runs,
}

/// All that was measured.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The ternary model.
    pub bitnet: Side,
    /// Its twin.
    pub baseline: Option<Side>,
    /// Each kind of work.
    pub speeds: Vec<Speed>,
}

/// The end of a figure's 95% interval that speaks against the model.
fn worse_end(figure: &Figure, name: &str, is_low: bool) -> Result<Figure, MeasureError> {
    let method = format!("worse end of the 95% interval of {}", figure.name());
    match (figure.ci95(), figure.reason()) {
        (Some(interval), _) => {
            let end = if is_low { interval.low } else { interval.high };
            Figure::computed(name, figure.unit(), &method, end)
        }
        (None, Some(reason)) => Figure::unavailable(name, figure.unit(), &method, reason),
        (None, None) => {
            let reason = "it has too few samples for an interval";
            Figure::unavailable(name, figure.unit(), &method, reason)
        }
    }
}

type Figures = Result<Vec<Figure>, MeasureError>;

impl Evidence {
    /// The figures of all of it.
    pub(super) fn metrics(&self) -> Figures {
        let mut figures = self.file_figures()?;
        figures.extend(self.memory_figures()?);
        for speed in &self.speeds {
            figures.extend(speed.figures()?);
        }
        figures.extend(self.latency_figures()?);
        figures.extend(self.loss_figures()?);
        for (of, name, is_low) in [
            ("decode_b1_speedup", "decode_b1_speedup_low", true),
            ("loss_degradation_percent", "loss_degradation_percent_high", false),
        ] {
            if let Some(figure) = figures.iter().find(|figure| figure.name() == of) {
                figures.push(worse_end(figure, name, is_low)?);
            }
        }
        Ok(figures)
    }

    /// Both sides with the prefix of their figures.
    fn sides(&self) -> impl Iterator<Item = (&'static str, &Side)> {
        [("bitnet", Some(&self.bitnet)), ("baseline", self.baseline.as_ref())]
            .into_iter()
            .filter_map(|(prefix, side)| Some((prefix, side?)))
    }

    fn file_figures(&self) -> Figures {
        let mut figures = Vec::new();
        for (prefix, side) in self.sides() {
            let name = format!("{prefix}_file_bytes");
            let method = "length of the model's files on disk";
            figures.push(Figure::read(&name, Unit::Bytes, method, side.file_bytes as f64)?);
        }
        let (name, method) = ("file_reduction", "the baseline's file bytes over this model's");
        figures.push(match &self.baseline {
            None => Figure::unavailable(name, Unit::Ratio, method, NO_BASELINE)?,
            Some(baseline) => {
                let ratio = baseline.file_bytes as f64 / self.bitnet.file_bytes.max(1) as f64;
                Figure::computed(name, Unit::Ratio, method, ratio)?
            }
        });
        Ok(figures)
    }

    fn memory_figures(&self) -> Figures {
        let added = |memory: &Memory| memory.loaded - memory.before;
        let whole = |memory: &Memory| memory.worked;
        let mut figures = self.memory_of(
            ["pss_added_bytes", "memory_reduction"],
            "PSS that loading the model adds to a fresh process",
            &added,
        )?;
        figures.extend(self.memory_of(
            ["process_pss_bytes", "process_memory_reduction"],
            "PSS of the whole process after prompts and generation, program and KV cache included",
            &whole,
        )?);
        Ok(figures)
    }

    fn memory_of(
        &self,
        [bytes, reduction]: [&str; 2],
        method: &str,
        of: &dyn Fn(&Memory) -> f64,
    ) -> Figures {
        let mut figures = Vec::new();
        for (prefix, side) in self.sides() {
            let name = format!("{prefix}_{bytes}");
            figures.push(match values(side, of) {
                Ok(values) => {
                    Figure::measured(&name, Unit::Bytes, method, &Samples::new(&name, values)?)?
                }
                Err(reason) => Figure::unavailable(&name, Unit::Bytes, method, &reason)?,
            });
        }
        let method = format!("the baseline's over this model's, medians: {method}");
        let both = match &self.baseline {
            None => Err(NO_BASELINE.to_owned()),
            Some(baseline) => {
                values(baseline, of).and_then(|before| Ok((before, values(&self.bitnet, of)?)))
            }
        };
        figures.push(match both {
            Err(reason) => Figure::unavailable(reduction, Unit::Ratio, &method, &reason)?,
            Ok((before, after)) => {
                let ratio = stats::median(&before) / stats::median(&after);
                let n = before.len().min(after.len());
                let interval = Bootstrap::default().ratio_of_medians(&before[..n], &after[..n]);
                let interval = interval.map(|i| i.holding(ratio));
                Figure::estimated(reduction, Unit::Ratio, &method, ratio, n, interval)?
            }
        });
        Ok(figures)
    }

    fn latency_figures(&self) -> Figures {
        let mut figures = Vec::new();
        for (prefix, side) in self.sides() {
            let name = format!("{prefix}_token_ms");
            let method = "each generated token at batch 1, models taking turns";
            let samples = Samples::new(&name, side.token_ms.clone())?;
            figures.push(Figure::measured(&name, Unit::Milliseconds, method, &samples)?);
            if prefix == "bitnet" {
                let (name, n) = ("p95_latency_b1_ms", samples.n());
                let method = "95th percentile of bitnet_token_ms";
                let reason = format!("{n} tokens were timed, too few for a 95th percentile");
                let unit = Unit::Milliseconds;
                figures.push(match samples.p95() {
                    Some(p95) => Figure::estimated(name, unit, method, p95, n, None)?,
                    None => Figure::unavailable(name, unit, method, &reason)?,
                });
            }
        }
        Ok(figures)
    }

    fn loss_figures(&self) -> Figures {
        let mut figures = Vec::new();
        for (prefix, side) in self.sides() {
            let name = format!("{prefix}_nll");
            let unit = Unit::NatsPerToken;
            figures.push(match &side.scores {
                None => Figure::unavailable(&name, unit, "held-out loss", NO_TEXT)?,
                Some(scores) => {
                    let (n, value) = (scores.n_scored(), scores.mean_nll());
                    Figure::estimated(&name, unit, scores.method(), value, n, None)?
                }
            });
        }
        let name = "loss_degradation_percent";
        let scores = |side: &Side| side.scores.clone().ok_or(NO_TEXT);
        let both = self.baseline.as_ref().ok_or(NO_BASELINE);
        let both = both.and_then(|baseline| Ok((scores(baseline)?, scores(&self.bitnet)?)));
        figures.push(match both {
            Err(reason) => {
                Figure::unavailable(name, Unit::Percent, "rise of the mean loss", reason)?
            }
            Ok((before, after)) => {
                let drop = paired_drop(&before, &after)?;
                let (value, n) = (drop.nll_percent, after.n_scored());
                let interval = drop.nll_percent_ci95.map(|i| i.holding(value));
                let method = format!(
                    "rise of the mean loss in percent of the baseline's, paired; {}",
                    after.method()
                );
                Figure::estimated(name, Unit::Percent, &method, value, n, interval)?
            }
        });
        Ok(figures)
    }
}

/// One number of every process, if the system tells and all are positive.
fn values(side: &Side, of: &dyn Fn(&Memory) -> f64) -> Result<Vec<f64>, String> {
    let values: Vec<f64> = side.memory.as_ref().map_err(Clone::clone)?.iter().map(of).collect();
    match values.iter().all(|value| *value > 0.0) && !values.is_empty() {
        true => Ok(values),
        false => Err("the process grew by nothing that the system could tell".into()),
    }
}

impl Speed {
    fn figures(&self) -> Figures {
        let Self { name, work, n_tokens, runs } = self;
        let rates = |prefix: &str, seconds: &[f64]| {
            let name = format!("{prefix}_{name}_tokens_per_s");
            let rates = seconds.iter().map(|seconds| *n_tokens as f64 / seconds).collect();
            let samples = Samples::new(&name, rates)?;
            Figure::measured(&name, Unit::TokensPerSecond, work, &samples)
        };
        let name = format!("{name}_speedup");
        let method = format!("the baseline's time over this model's: {work}");
        match runs {
            Runs::Alone(seconds) => Ok(vec![
                rates("bitnet", seconds)?,
                Figure::unavailable(&name, Unit::Ratio, &method, NO_BASELINE)?,
            ]),
            Runs::Compared(comparison) => {
                let speedup = 1.0 / comparison.ratio;
                let interval = comparison.ratio_ci95.map(f64::recip).holding(speedup);
                let method = format!("{method}; interleaved ABBA rounds, median of log ratios");
                let n = comparison.n_rounds;
                Ok(vec![
                    rates("bitnet", comparison.b.raw())?,
                    rates("baseline", comparison.a.raw())?,
                    Figure::estimated(&name, Unit::Ratio, &method, speedup, n, Some(interval))?,
                ])
            }
        }
    }
}
