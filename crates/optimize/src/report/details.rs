//! What a report says beside `measure`'s schema: the search, the tensors, the distributions.

use crate::evidence::Facts;
use crate::fit::{self, RowFit};
use crate::pipeline::{Building, Prepared, Proof, Settings};
use crate::search::{Found, Standing, groups};
use crate::yardstick::Reading;
use serde::{Deserialize, Serialize};
use sterna_formats::encodings::ENCODINGS;
use sterna_measure::quality::reliability::Bin;
use sterna_measure::stats::Interval;
use sterna_model::{WeightId, WeightSource};

/// What the hash of the artifact's weights is called among the hashes.
pub const ARTIFACT_HASH: &str = "artifact weights";
/// And that of its Plan.
pub const PLAN_HASH: &str = "plan";

/// The search and what it was about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// The model.
    pub model: ModelFacts,
    /// The budget in words.
    pub budget: String,
    /// The command to reproduce this.
    pub command: String,
    /// Hashes by what they are of.
    pub hashes: Vec<(String, String)>,
    /// Every plan measured, on calibration text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Point>,
    /// Baseline, artifact and uniform encodings, on held-out text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<Point>,
    /// What became of each matrix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorRow>,
    /// Which rows fit which encodings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fits: Vec<FitRow>,
    /// What each strategy of the search proposes, by summed losses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strategies: Vec<Standing>,
    /// What each tensor group costs alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitivities: Vec<Sensitivity>,
    /// Bins of the reliability diagram.
    #[serde(default, skip_serializing_if = "ReliabilityBins::is_empty")]
    pub reliability: ReliabilityBins,
    /// Raw times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<Series>,
    /// Verdicts of speed comparisons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub races: Vec<Race>,
    /// What each optimization of the runtime brings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ablations: Vec<Ablation>,
    /// Remarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What the model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Its parameters.
    pub n_parameters: u64,
    /// Its layers.
    pub n_layers: usize,
}

/// A plan as a point of size and quality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What it is.
    pub label: String,
    /// `baseline`, `chosen`, `uniform` or `tried`.
    pub kind: String,
    /// Bytes of its file; of tried plans, of its matrices and all that does not change.
    pub bytes: u64,
    /// Mean KL divergence from the baseline, nats per token.
    pub kl: f64,
    /// Rise of the perplexity in percent.
    pub drop_percent: f64,
    /// Its interval.
    pub drop_percent_ci95: Option<Interval>,
    /// Tokens measured; 0 for tried plans, whose text is the calibration text.
    pub n: usize,
}

impl Point {
    /// The baseline itself.
    pub fn baseline(bytes: u64, reading: &Reading) -> Self {
        Self {
            label: "baseline".into(),
            kind: "baseline".into(),
            bytes,
            kl: 0.0,
            drop_percent: 0.0,
            drop_percent_ci95: None,
            n: reading.divergence.scores().n_scored(),
        }
    }

    /// A measured candidate.
    pub fn of(facts: &Facts, reading: &Reading) -> Self {
        Self {
            label: facts.label.clone(),
            kind: facts.kind.clone(),
            bytes: facts.bytes,
            kl: reading.divergence.mean_kl().max(0.0),
            drop_percent: reading.drop.perplexity_percent,
            drop_percent_ci95: reading.drop.perplexity_percent_ci95,
            n: reading.divergence.scores().n_scored(),
        }
    }
}

/// How often favourites of so much confidence came, baseline and artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBins {
    /// The baseline's, least sure first.
    pub baseline: Vec<Bin>,
    /// The artifact's.
    pub artifact: Vec<Bin>,
}

impl ReliabilityBins {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.baseline.is_empty() && self.artifact.is_empty()
    }
}

/// What became of a matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRow {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: String,
    /// Its layer.
    pub layer: Option<usize>,
    /// Rows and values per row.
    pub shape: [usize; 2],
    /// What it was stored in.
    pub from: String,
    /// What it is stored in.
    pub to: String,
    /// Bits per weight, as stored.
    pub bits: f64,
    /// Bytes, as stored.
    pub bytes: u64,
    /// Who decided it.
    pub why: String,
}

/// Which encodings rows of a length fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitRow {
    /// Values per row, in the source.
    pub cols: usize,
    /// What the tensors do.
    pub roles: String,
    /// Tensors.
    pub n_tensors: usize,
    /// Encodings that fit.
    pub fits: Vec<String>,
    /// The others, with the sum that does not come out.
    pub misfits: Vec<(String, Vec<String>)>,
}

impl From<&RowFit> for FitRow {
    fn from(row: &RowFit) -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let misfits = row.misfits.iter().map(|m| (m.why.clone(), names(&m.encodings)));
        Self {
            cols: row.cols,
            roles: row.roles.join(", "),
            n_tensors: row.n_tensors,
            fits: names(&row.fits),
            misfits: misfits.collect(),
        }
    }
}

/// What a group costs alone in an encoding, on calibration text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensitivity {
    /// The group.
    pub group: String,
    /// The encoding.
    pub encoding: String,
    /// Bytes of the group in it.
    pub bytes: u64,
    /// Mean KL divergence; `None` where time did not allow.
    pub kl: Option<f64>,
    /// Rise of the perplexity in percent.
    pub drop_percent: Option<f64>,
    /// Whether the plan has it.
    pub is_chosen: bool,
}

/// Raw times of baseline and artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// `ttft_ms` or `itl_ms`.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The baseline's, in the order taken.
    pub baseline: Vec<f64>,
    /// The artifact's.
    pub artifact: Vec<f64>,
}

/// The verdict of a speed comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Race {
    /// `prefill` or `decode`.
    pub name: String,
    /// In words.
    pub line: String,
}

/// What an optimization of the runtime brings to the artifact on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// The optimization.
    pub name: String,
    /// What it brings or costs, in words.
    pub line: String,
    /// By how much runs are longer without it, percent.
    pub without_percent: f64,
    /// Its interval.
    pub without_percent_ci95: Interval,
    /// Whether it costs, so that the Plan switches it off.
    pub is_off: bool,
}

impl Details {
    /// Nothing but the model.
    pub fn about(model: ModelFacts) -> Self {
        Self {
            model,
            budget: String::new(),
            command: String::new(),
            hashes: Vec::new(),
            tried: Vec::new(),
            held_out: Vec::new(),
            tensors: Vec::new(),
            fits: Vec::new(),
            strategies: Vec::new(),
            sensitivities: Vec::new(),
            reliability: ReliabilityBins::default(),
            series: Vec::new(),
            races: Vec::new(),
            ablations: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Gathers what the pipeline knows.
    pub(crate) fn collect(
        settings: &Settings,
        prepared: &Prepared,
        building: &Building<'_>,
        found: &Found,
        proof: &Proof,
    ) -> Self {
        let (model, draft) = (&prepared.model, &building.draft);
        let notes = prepared.texts.notes.iter().chain(draft.notes());
        let notes = notes.chain(&proof.notes).chain(&model.warnings);
        let fixed = building.bytes.saturating_sub(found.best().takes.bytes);
        Self {
            model: ModelFacts {
                name: model.name.clone(),
                architecture: model.arch.name().into(),
                n_parameters: model.graph.n_parameters(),
                n_layers: groups::n_layers(&model.graph),
            },
            budget: settings.budget.line(),
            command: settings.identity.command.clone(),
            hashes: vec![
                ("source weights".into(), prepared.source.content.clone()),
                (ARTIFACT_HASH.into(), building.content_hash.clone()),
                (PLAN_HASH.into(), building.plan.hash()),
                text_hash("calibration text", &prepared.texts.calibration),
                text_hash("held-out text", &prepared.texts.heldout),
            ],
            tried: tried(found, fixed),
            held_out: proof.points.clone(),
            tensors: tensors(prepared, building),
            fits: fit::table(&model.graph).iter().map(FitRow::from).collect(),
            strategies: found.strategies.clone(),
            sensitivities: sensitivities(found),
            reliability: proof.reliability.clone(),
            series: proof.speed.series.clone(),
            races: proof.speed.races.clone(),
            ablations: proof.speed.ablations.clone(),
            notes: notes.cloned().collect(),
        }
    }

    /// Without what grows with the model or the search.
    pub(crate) fn without_lists(&self) -> Self {
        Self {
            budget: self.budget.clone(),
            command: self.command.clone(),
            hashes: self.hashes.clone(),
            held_out: self.held_out.clone(),
            races: self.races.clone(),
            ..Self::about(self.model.clone())
        }
    }
}

fn text_hash(what: &str, passages: &sterna_measure::quality::Passages) -> (String, String) {
    (what.into(), format!("blake3:{}", passages.workload().hash()))
}

fn tried(found: &Found, fixed: u64) -> Vec<Point> {
    let point = |(index, trial): (usize, &crate::search::Trial)| {
        let loss = trial.loss;
        Point {
            label: trial.label.clone(),
            kind: if index == found.chosen { "chosen" } else { "tried" }.into(),
            bytes: trial.takes.bytes + fixed,
            kl: loss.kl.max(0.0),
            drop_percent: loss.drop_percent,
            drop_percent_ci95: None,
            n: 0,
        }
    };
    found.trials.iter().enumerate().map(point).collect()
}

fn tensors(prepared: &Prepared, building: &Building<'_>) -> Vec<TensorRow> {
    let draft = &building.draft;
    let why = |id: WeightId| {
        let edit = draft.edits().find(|(edited, _)| *edited == id);
        edit.map_or_else(|| "as it was".to_owned(), |(_, edit)| edit.provenance.clone())
    };
    let row = |(id, decl): (WeightId, &sterna_model::WeightDecl)| {
        let encoding = draft.encoding(id);
        let (rows, cols) = decl.matrix();
        TensorRow {
            name: decl.name.clone(),
            role: fit::role_name(decl.role).into(),
            layer: decl.layer,
            shape: [rows, cols],
            from: prepared.model.encoding(id).name().into(),
            to: encoding.name().into(),
            bits: encoding.bits(),
            bytes: fit::bytes_of(decl, encoding) as u64,
            why: why(id),
        }
    };
    draft.matrices().map(row).collect()
}

fn sensitivities(found: &Found) -> Vec<Sensitivity> {
    let choices = &found.best().choices;
    let mut rows = Vec::new();
    for (g, group) in found.groups.iter().enumerate() {
        for (c, candidate) in group.candidates.iter().enumerate() {
            let loss = found.sensitivities[g][c];
            rows.push(Sensitivity {
                group: group.name.clone(),
                encoding: candidate.encoding.name().into(),
                bytes: candidate.takes.bytes,
                kl: loss.map(|loss| loss.kl.max(0.0)),
                drop_percent: loss.map(|loss| loss.drop_percent),
                is_chosen: choices[g] == c,
            });
        }
    }
    rows
}

/// Position of an encoding in the order that users see, for colours.
pub(crate) fn rank(encoding: &str) -> usize {
    ENCODINGS.iter().position(|e| e.name() == encoding).unwrap_or(ENCODINGS.len())
}
