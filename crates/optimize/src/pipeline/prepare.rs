//! Opening the model and the text, and what can be said before anything is run.

use super::start::{self, Start};
use super::{Settings, n_pairs};
use crate::calibration::{self, Texts};
use crate::draft::Draft;
use crate::engine::Engine;
use crate::error::Result;
use crate::fit;
use crate::footprint::{Footprint, RunAs, Taken};
use crate::progress::{Stage, Watch};
use crate::scan;
use crate::search::groups;
use crate::tasks::{self, Questions};
use sterna_formats::OpenOptions;
use sterna_model::plan::{Source, inputs};
use sterna_model::{Graph, Model, WeightId, WeightSource};

/// A model and text, ready.
pub struct Prepared {
    /// The model.
    pub model: Model,
    /// What it is, by the hash of its weights.
    pub source: Source,
    /// The text.
    pub texts: Texts,
    /// Questions with known answers.
    pub tasks: Vec<Questions>,
    /// What the baseline takes of memory, where somebody measures that.
    pub memory: Option<Taken>,
}

impl Prepared {
    /// What a measurement depends on.
    pub fn key(&self, base: &Draft<'_>, start: &Start<'_>) -> String {
        let stored = base.config().map_or("as it is".into(), |config| config.ffn_dim.to_string());
        // What leaves follows from how much, and from the text.
        let width = format!("{} stored {stored}", start.config.ffn_dim);
        let scaling = format!("{:?}", base.scaling().strengths());
        let inputs = format!("{:?}", inputs::of(base.graph(), &Graph::default()));
        let parts = [
            self.source.content.as_str(),
            self.texts.calibration.workload().hash(),
            self.texts.judged.workload().hash(),
            self.texts.quick.workload().hash(),
            &width,
            if base.rounding().is_plain() { "plain" } else { "weighed" },
            &scaling,
            &inputs,
            env!("CARGO_PKG_VERSION"),
        ];
        blake3::hash(parts.join("\n").as_bytes()).to_hex().to_string()
    }

    /// Whether a weight of a graph over this model is in another encoding than the model's of that
    /// name.
    pub fn is_recoded(&self, graph: &Graph, weights: &dyn WeightSource, id: WeightId) -> bool {
        let source = self.model.graph.find_weight(&graph.decl(id).name);
        source.is_none_or(|source| self.model.encoding(source) != weights.encoding(id))
    }
}

/// Opens everything.
pub fn prepare(settings: &Settings, engine: &dyn Engine, watch: Watch<'_>) -> Result<Prepared> {
    watch.step(Stage::Prepare, 0, 4, "opening the model")?;
    let model = open(settings)?;
    watch.step(Stage::Prepare, 1, 4, "reading its weights")?;
    scan::finite(&model.graph, &model)?;
    let source = Source::of(&model);
    let context_len = engine.context_len().min(model.config.context_len);
    watch.step(Stage::Prepare, 2, 4, "tokenizing the text")?;
    let mut texts = calibration::prepare(&settings.text, &model, context_len)?;
    let tasks = tasks(settings, &model, context_len, &mut texts)?;
    watch.step(Stage::Prepare, 3, 4, "running the baseline in a process of its own")?;
    let footprint = settings.footprint.as_deref();
    let taken = |footprint: &dyn Footprint| -> Result<Taken> {
        let how = RunAs::by(engine);
        let planned = footprint.planned(&model.graph, &model, &how)?;
        Ok(Taken { planned, measured: footprint.measured(&settings.source, &how) })
    };
    let memory = footprint.map(taken).transpose()?;
    watch.step(Stage::Prepare, 4, 4, "done")?;
    Ok(Prepared { model, source, texts, tasks, memory })
}

fn tasks(
    settings: &Settings,
    model: &Model,
    context_len: usize,
    texts: &mut Texts,
) -> Result<Vec<Questions>> {
    let (tokenizer, calibration) = (model.tokenizer()?, texts.calibration.workload());
    tasks::read(&settings.tasks, tokenizer, context_len, calibration, &mut texts.notes)
}

/// Plans are judged by the tokens that models predict, so one that predicts none is not searched.
///
/// # Errors
/// When the model encodes texts.
pub fn refuse_encoders(model: &Model) -> Result<()> {
    if !model.graph.is_encoder() {
        return Ok(());
    }
    Err(crate::OptimizeError::Input(format!(
        "{}: it encodes texts and predicts no tokens, and that is what plans are judged by; make \
         smaller ones with `sterna quantize` and judge them with `sterna eval --pairs`",
        model.path().display()
    )))
}

fn open(settings: &Settings) -> Result<Model> {
    let options = OpenOptions { tokenizer: settings.tokenizer.clone() };
    let model = Model::open_with(&settings.source, &options)?;
    refuse_encoders(&model)?;
    settings.distiller.iter().try_for_each(|distiller| distiller.check(&model.graph))?;
    Ok(model)
}

/// What an optimization would do, as text; runs nothing and writes nothing.
///
/// # Errors
/// When the model, the text or the budget cannot be used.
pub fn describe(settings: &Settings) -> Result<String> {
    settings.budget.check()?;
    let model = open(settings)?;
    let context_len = model.config.context_len;
    let mut texts = calibration::prepare(&settings.text, &model, context_len)?;
    let tasks = tasks(settings, &model, context_len, &mut texts)?;
    let mut draft = Draft::new(&model.graph, &model);
    start::pad(settings, model.arch, &model.config, &mut draft)?;
    let widths = start::allowed(settings, &model, &texts)?;
    if widths.is_empty() {
        super::feasible::size(&settings.budget, &model.metadata, &draft)?;
        super::feasible::bits(&settings.budget, model.graph.n_parameters(), &draft)?;
    }
    let n_layers = groups::n_layers(draft.graph());
    let n_bands = settings.n_bands.unwrap_or(n_layers);
    let (n_groups, n_pairs) = n_pairs(&draft, &settings.budget, n_bands);
    let mut text = format!(
        "model        {} ({}, {} parameters, {} bytes of weights)\n\
         budget       {}\n\
         calibration  {} documents, {} tokens, to judge plans by; {} of them to rank tensors\n\
         fitted on    {} documents, {} tokens\n\
{}\
         held out     {} documents, {} tokens\n\
         rounding     {}\n\
         scaling      {}\n\
         inputs       {}\n\
         search       {n_groups} tensor groups, {n_pairs} measurements, then at most {} whole \
         plans\n\
         writes       {}\n",
        model.name,
        model.arch.name(),
        model.graph.n_parameters(),
        model.graph.memory(&model).total(),
        settings.budget.line(),
        texts.judged.len(),
        texts.judged.n_scored(),
        texts.quick.n_scored(),
        texts.observed.len(),
        texts.observed.n_scored(),
        learned_from(&texts),
        texts.heldout.len(),
        texts.heldout.n_scored(),
        settings.rounding.words(),
        settings.scaling.words(),
        settings.inputs.words(),
        settings.max_checks,
        settings.output.display(),
    );
    if !widths.is_empty() {
        let (all, widths) = (model.config.ffn_dim, widths.iter().map(usize::to_string));
        let widths = widths.collect::<Vec<_>>().join(", ");
        text += &format!(
            "pruning      from {all} channels of the MLP to {widths}, if better: a short search of \
             each, a whole one of the best\n"
        );
    }
    for Questions { name, questions } in &tasks {
        text += &format!("task         {name}: {} questions\n", questions.len());
    }
    for note in draft.notes().iter().chain(&texts.notes).chain(&model.warnings) {
        text += &format!("note         {note}\n");
    }
    for row in fit::table(draft.graph()) {
        let (cols, roles) = (row.cols, row.roles.join(", "));
        text += &format!("rows of {cols:<5}{roles}: {}\n", row.fits.join(" "));
    }
    Ok(text)
}

/// The line about what is learned from.
fn learned_from(texts: &Texts) -> String {
    texts.lessons.as_ref().map_or(String::new(), |lessons| {
        let (n, n_tokens) = (lessons.len(), lessons.n_scored());
        format!("learned from {n} documents, {n_tokens} tokens\n")
    })
}
