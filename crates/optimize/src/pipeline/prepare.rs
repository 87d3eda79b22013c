//! Opening the model and the text, and what can be said before anything is run.

use super::{Settings, n_pairs};
use crate::calibration::{self, Texts};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::{OptimizeError, Result};
use crate::fit;
use crate::progress::{Stage, Watch};
use crate::scan;
use crate::search::groups;
use sterna_formats::OpenOptions;
use sterna_measure::memory::{Process, pss};
use sterna_measure::{LanguageModel, MeasureError};
use sterna_model::Model;
use sterna_model::plan::Source;

/// A model and text, ready.
pub struct Prepared {
    /// The model.
    pub model: Model,
    /// What it is, by the hash of its weights.
    pub source: Source,
    /// The text.
    pub texts: Texts,
    /// Bytes by which the process grew when the baseline was loaded and run.
    pub baseline_pss_bytes: Option<f64>,
    /// Bytes of the model's weights.
    pub weight_bytes: u64,
}

impl Prepared {
    /// What a measurement depends on.
    pub fn key(&self, base: &Draft<'_>) -> String {
        let parts = [
            self.source.content.as_str(),
            self.texts.calibration.workload().hash(),
            self.texts.quick.workload().hash(),
            if base.config().is_some() { "pad" } else { "no pad" },
            if base.rounding().is_plain() { "plain" } else { "weighed" },
            env!("CARGO_PKG_VERSION"),
        ];
        blake3::hash(parts.join("\n").as_bytes()).to_hex().to_string()
    }

    /// Memory of a loaded model besides its weights, as far as the baseline shows.
    pub fn overhead_bytes(&self) -> u64 {
        let grown = self.baseline_pss_bytes.unwrap_or(0.0);
        (grown - self.weight_bytes as f64).max(0.0) as u64
    }
}

/// Opens everything.
pub fn prepare(settings: &Settings, engine: &dyn Engine, watch: Watch<'_>) -> Result<Prepared> {
    watch.step(Stage::Prepare, 0, 3, "opening the model")?;
    let model = open(settings)?;
    watch.step(Stage::Prepare, 1, 3, "reading its weights")?;
    scan::finite(&model.graph, &model)?;
    let source = Source::of(&model);
    let weight_bytes = model.graph.memory(&model).total();
    let before = pss(Process::Own)?.value();
    let mut baseline = engine.load(&model.graph, &model)?;
    let context_len = baseline.context_len().min(model.config.context_len);
    run_once(&mut *baseline)?;
    let after = pss(Process::Own)?.value();
    drop(baseline);
    watch.step(Stage::Prepare, 2, 3, "tokenizing the text")?;
    let texts = calibration::prepare(&settings.text, model.tokenizer()?, context_len)?;
    watch.step(Stage::Prepare, 3, 3, "done")?;
    let baseline_pss_bytes = after.zip(before).map(|(after, before)| after - before);
    Ok(Prepared { model, source, texts, baseline_pss_bytes, weight_bytes })
}

/// Touches all that a model touches when it runs.
pub fn run_once(model: &mut dyn LanguageModel) -> Result<()> {
    let n = model.context_len().min(32);
    let tokens: Vec<u32> = (0..n).map(|i| (i % model.vocab_len()) as u32).collect();
    model.score(&tokens, &mut |_, _| {}).map_err(|why| {
        OptimizeError::Measure(MeasureError::Failed { what: "running the model".into(), why })
    })
}

fn open(settings: &Settings) -> Result<Model> {
    let options = OpenOptions { tokenizer: settings.tokenizer.clone() };
    Ok(Model::open_with(&settings.source, &options)?)
}

/// What an optimization would do, as text; runs nothing and writes nothing.
///
/// # Errors
/// When the model, the text or the budget cannot be used.
pub fn describe(settings: &Settings) -> Result<String> {
    settings.budget.check()?;
    let model = open(settings)?;
    let context_len = model.config.context_len;
    let texts = calibration::prepare(&settings.text, model.tokenizer()?, context_len)?;
    let mut draft = Draft::new(&model.graph, &model);
    if settings.may_pad {
        let may_pad = Some((model.arch, &model.config));
        let mut context = crate::passes::Context { may_pad, ..Default::default() };
        crate::passes::by_name("pad").expect("pad is a pass").apply(&mut draft, &mut context)?;
    }
    super::feasible::size(&settings.budget, &model.metadata, &draft)?;
    super::feasible::bits(&settings.budget, model.graph.n_parameters(), &draft)?;
    let n_layers = groups::n_layers(draft.graph());
    let n_bands = settings.n_bands.unwrap_or(n_layers);
    let (n_groups, n_pairs) = n_pairs(&draft, &settings.budget, n_bands);
    let mut text = format!(
        "model        {} ({}, {} parameters, {} bytes of weights)\n\
         budget       {}\n\
         calibration  {} documents, {} tokens; {} of them for ranking tensors\n\
         held out     {} documents, {} tokens\n\
         rounding     {}\n\
         search       {n_groups} tensor groups, {n_pairs} measurements, then at most {} whole \
         plans\n\
         writes       {}\n",
        model.name,
        model.arch.name(),
        model.graph.n_parameters(),
        model.graph.memory(&model).total(),
        settings.budget.line(),
        texts.calibration.len(),
        texts.calibration.n_scored(),
        texts.quick.n_scored(),
        texts.heldout.len(),
        texts.heldout.n_scored(),
        settings.rounding.words(),
        settings.max_checks,
        settings.output.display(),
    );
    for note in draft.notes().iter().chain(&texts.notes).chain(&model.warnings) {
        text += &format!("note         {note}\n");
    }
    for row in fit::table(draft.graph()) {
        let (cols, roles) = (row.cols, row.roles.join(", "));
        text += &format!("rows of {cols:<5}{roles}: {}\n", row.fits.join(" "));
    }
    Ok(text)
}
