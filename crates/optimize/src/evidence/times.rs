//! How long two models took, run by run: what every speed of a report follows from.

use crate::error::Result;
use crate::fit;
use crate::report::{Ablation, Race, Series};
use crate::search::Costs;
use crate::search::costs::Table;
use serde::{Deserialize, Serialize};
use sterna_measure::ablation::Effect;
use sterna_measure::compare::{self, Comparison};
use sterna_measure::{Figure, MeasureError, Samples, Unit};
use sterna_model::{Graph, WeightDecl, WeightId, WeightSource};

/// All times taken; empty where the comparison was left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// Whole runs.
    pub runs: Vec<Runs>,
    /// Tokens one by one.
    pub tokens: Vec<Tokens>,
    /// What the search took the artifact to need, from its table of costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// The plan with and without each optimization of the runtime.
    #[serde(default)]
    pub switched: Vec<Switched>,
}

/// Runs of the plan with an optimization and without it, interleaved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switched {
    /// The optimization.
    pub name: String,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens generated after it.
    pub n_generate: usize,
    /// Seconds with it, in the order taken, two per round.
    pub on: Vec<f64>,
    /// Seconds without it.
    pub off: Vec<f64>,
}

impl Switched {
    /// What it brings.
    ///
    /// # Errors
    /// When the times are too few, or are no times.
    pub fn effect(&self) -> std::result::Result<Effect, MeasureError> {
        let comparison = Comparison::derive(&self.on, &self.off, &compare::Settings::default())?;
        Ok(Effect { name: self.name.clone(), comparison })
    }
}

/// What a token was taken to need before the artifact was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// The table.
    pub costs: Costs,
    /// The artifact's matrices.
    pub matrices: Vec<Matrix>,
    /// The baseline's: what the table says of them shows how fast the machine was then.
    pub given: Vec<Matrix>,
}

/// A matrix of the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// Its name.
    pub name: String,
    /// The part it plays, as in the table.
    pub role: String,
    /// Rows and columns.
    pub shape: (usize, usize),
    /// The encoding's name.
    pub encoding: String,
}

impl Matrix {
    /// The matrices of a model or a draft, in the order of its graph.
    pub fn all(graph: &Graph, weights: &dyn WeightSource) -> Vec<Self> {
        let all = graph.weight_ids().map(|id| (id, graph.decl(id)));
        let matrices = all.filter(|(_, decl)| fit::is_matrix(decl));
        let matrix = |(id, decl): (WeightId, &WeightDecl)| Self {
            name: decl.name.clone(),
            role: fit::role_name(decl.role).into(),
            shape: decl.matrix(),
            encoding: weights.encoding(id).name().into(),
        };
        matrices.map(matrix).collect()
    }
}

impl Prediction {
    fn prompt(&self) -> Option<&Table> {
        self.costs.prompt.as_ref().map(|(_, table)| table)
    }

    /// Milliseconds of a table's work; `None` where it lacks a matrix.
    fn ms(matrices: &[Matrix], table: &Table) -> Option<f64> {
        let nanos = |matrix: &Matrix| table.of_kind(&matrix.role, matrix.shape, &matrix.encoding);
        let sum = matrices.iter().map(nanos).sum::<Option<f64>>()?;
        Some((table.rest + sum) / 1e6)
    }
}

/// Runs of one kind, interleaved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// `prefill` or `decode`.
    pub name: String,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens generated after it.
    pub n_generate: usize,
    /// Seconds of the baseline, in the order taken, two per round.
    pub baseline: Vec<f64>,
    /// Seconds of the artifact.
    pub artifact: Vec<f64>,
}

/// Times of single tokens, the models taking turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// `ttft_ms` or `itl_ms`.
    pub name: String,
    /// What was timed, in words.
    pub method: String,
    /// Milliseconds of the baseline, in the order taken.
    pub baseline: Vec<f64>,
    /// Milliseconds of the artifact.
    pub artifact: Vec<f64>,
}

/// What follows from times.
#[derive(Debug, Default)]
pub struct Speed {
    /// For the report's metrics.
    pub figures: Vec<Figure>,
    /// The raw distributions.
    pub series: Vec<Series>,
    /// The verdicts.
    pub races: Vec<Race>,
    /// What each optimization of the runtime brings.
    pub ablations: Vec<Ablation>,
}

impl Speed {
    /// The optimizations that cost more than they bring.
    pub fn off(&self) -> Vec<String> {
        let off = self.ablations.iter().filter(|ablation| ablation.is_off);
        off.map(|ablation| ablation.name.clone()).collect()
    }
}

/// The kinds of runs.
pub const RUNS: [&str; 2] = ["prefill", "decode"];

/// Times to the first token.
pub const TTFT: &str = "ttft_ms";
/// Times between tokens.
pub const ITL: &str = "itl_ms";

/// Why there are no speeds.
const LEFT_OUT: &str = "the speed comparison was left out by the settings";

impl Times {
    /// The speeds.
    ///
    /// # Errors
    /// When the times are too few, or are no times.
    pub fn derive(&self) -> Result<Speed> {
        let mut speed = Speed::default();
        for name in RUNS {
            match self.runs.iter().find(|runs| runs.name == name) {
                Some(runs) => speed.add_runs(runs)?,
                None => {
                    let figure = format!("{name}_time_ratio");
                    let figure = Figure::unavailable(&figure, Unit::Ratio, "A/B", LEFT_OUT)?;
                    speed.figures.push(figure);
                }
            }
        }
        self.tokens.iter().try_for_each(|tokens| speed.add_tokens(tokens))?;
        self.switched.iter().try_for_each(|switched| speed.add_switched(switched))?;
        if let Some(prediction) = &self.prediction {
            speed.add_prediction(prediction)?;
        }
        Ok(speed)
    }
}

impl Speed {
    fn add_runs(&mut self, runs: &Runs) -> std::result::Result<(), MeasureError> {
        let Runs { name, n_prompt, n_generate, baseline, artifact } = runs;
        let comparison = Comparison::derive(baseline, artifact, &compare::Settings::default())?;
        let work = match n_generate {
            0 => format!("{n_prompt} prompt tokens, fresh sequence"),
            n => format!("{n} tokens generated after {n_prompt} of prompt, prompt included"),
        };
        let n_tokens = n_prompt.saturating_add(*n_generate);
        for (who, seconds) in [("baseline", baseline), ("artifact", artifact)] {
            let rates = seconds.iter().map(|seconds| n_tokens as f64 / seconds).collect();
            let figure = format!("{who}_{name}_tokens_per_s");
            let samples = Samples::new(&figure, rates)?;
            let method = format!("{work}; interleaved with the other model");
            self.figures.push(Figure::measured(&figure, Unit::TokensPerSecond, &method, &samples)?);
        }
        let method = format!("time of the artifact over the baseline's: {work}");
        self.figures.push(comparison.figure(&format!("{name}_time_ratio"), &method)?);
        let line = comparison.line().replace("B/A", "artifact/baseline");
        let line = line.replace("A is faster", "the baseline is faster");
        let line = line.replace("B is faster", "the artifact is faster");
        self.races.push(Race { name: name.clone(), line });
        Ok(())
    }

    fn add_tokens(&mut self, tokens: &Tokens) -> std::result::Result<(), MeasureError> {
        let Tokens { name, method, baseline, artifact } = tokens;
        for (who, values) in [("baseline", baseline), ("artifact", artifact)] {
            let figure = format!("{who}_{name}");
            let samples = Samples::new(&figure, values.clone())?;
            let method = format!("{method}, models taking turns, each warmed by a request");
            self.figures.push(Figure::measured(&figure, Unit::Milliseconds, &method, &samples)?);
            if let (ITL, Some(p95)) = (name.as_str(), samples.p95()) {
                let figure = format!("{who}_itl_p95_ms");
                let method = format!("95th percentile of {method}");
                let (unit, n) = (Unit::Milliseconds, samples.n());
                self.figures.push(Figure::estimated(&figure, unit, &method, p95, n, None)?);
            }
        }
        self.series.push(Series {
            name: name.clone(),
            unit: "ms".into(),
            baseline: baseline.clone(),
            artifact: artifact.clone(),
        });
        Ok(())
    }

    fn add_switched(&mut self, switched: &Switched) -> std::result::Result<(), MeasureError> {
        let effect = switched.effect()?;
        let Switched { name, n_prompt, n_generate, .. } = switched;
        let method = format!(
            "time without {name} over the time with it: {n_generate} tokens generated after \
             {n_prompt} of prompt, interleaved"
        );
        let figure = format!("without_{name}_time_ratio");
        self.figures.push(effect.comparison.figure(&figure, &method)?);
        self.ablations.push(Ablation {
            name: name.clone(),
            line: effect.change(),
            without_percent: (effect.comparison.ratio - 1.0) * 100.0,
            without_percent_ci95: effect.comparison.ratio_ci95.map(|ratio| (ratio - 1.0) * 100.0),
            is_off: !effect.keeps(),
        });
        Ok(())
    }

    fn add_prediction(&mut self, prediction: &Prediction) -> std::result::Result<(), MeasureError> {
        let tables = [(ITL, Some(&prediction.costs.token)), (TTFT, prediction.prompt())];
        tables.into_iter().try_for_each(|(name, table)| match table {
            Some(table) => self.add_predicted(name, prediction, table),
            None => Ok(()),
        })
    }

    /// A time that was foretold, how far off it was, and how much of that the machine did, which
    /// may have become slower or faster: it shows in the baseline.
    fn add_predicted(
        &mut self,
        name: &str,
        prediction: &Prediction,
        table: &Table,
    ) -> std::result::Result<(), MeasureError> {
        let ms = Prediction::ms;
        let Some(foretold) = ms(&prediction.matrices, table) else { return Ok(()) };
        let method = "measured times of every matrix in its encoding, and of all else, added up \
                      before the artifact was run";
        let [predicted, actual, baseline] =
            ["predicted", "artifact", "baseline"].map(|who| format!("{who}_{name}"));
        let figure = Figure::computed(&predicted, Unit::Milliseconds, method, foretold)?;
        self.figures.push(figure);
        let Some(measured) = self.measured(&actual) else { return Ok(()) };
        let stem = name.trim_end_matches("_ms");
        let method = format!("{predicted} over {actual}, less 1");
        let error = (foretold / measured - 1.0) * 100.0;
        let figure = format!("{stem}_prediction_error_percent");
        self.figures.push(Figure::computed(&figure, Unit::Percent, &method, error)?);
        let given = ms(&prediction.given, table).filter(|ms| *ms > 0.0);
        let Some((then, now)) = given.zip(self.measured(&baseline)) else { return Ok(()) };
        let drift = now / then;
        let figure = format!("{stem}_machine_drift_ratio");
        let method = format!(
            "{baseline} over what was measured of the baseline before the search: above 1 the \
             machine became slower"
        );
        self.figures.push(Figure::computed(&figure, Unit::Ratio, &method, drift)?);
        let figure = format!("{stem}_prediction_error_without_drift_percent");
        let method = format!("{predicted} times {stem}_machine_drift_ratio over {actual}, less 1");
        let error = (foretold * drift / measured - 1.0) * 100.0;
        self.figures.push(Figure::computed(&figure, Unit::Percent, &method, error)?);
        Ok(())
    }

    /// A time that was measured.
    fn measured(&self, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name() == name);
        figure.and_then(Figure::value).filter(|value| *value > 0.0)
    }
}
