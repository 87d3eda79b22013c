//! A config becomes a training run, and the run a model file.
//!
//! In: a [`Config`]. Out: `model.gguf`, `curve.jsonl`, `config.toml` and checkpoints in the run's
//! folder. Everything that can be wrong with the input is found before the first step.

use crate::config::Config;
use crate::data::Corpus;
use crate::distill::Tutor;
use crate::export::Trained;
use crate::quant::Quantizer;
use crate::trainer::{Event, Job, Outcome};
use crate::{TrainError, backend, init};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sterna_formats::{AtomicFile, Metadata, Value, encodings};
use sterna_measure::clock::Clock;
use sterna_model::{Graph, Model, Tokenizer};

/// A run that can start.
pub struct Session {
    /// What to do.
    pub config: Config,
    /// The folder of everything it writes.
    pub out: PathBuf,
    /// What is trained.
    pub graph: Arc<Graph>,
    /// The text.
    pub corpus: Corpus,
    metadata: Metadata,
    weights: Vec<Vec<f32>>,
    tutor: Option<Tutor>,
}

/// What a run made.
pub struct Trainee {
    /// How training went.
    pub outcome: Outcome,
    /// The model file.
    pub model: PathBuf,
    /// Its size in bytes.
    pub model_bytes: u64,
}

impl Session {
    /// Opens what the config names and checks that it fits together.
    ///
    /// # Errors
    /// One sentence with the key, the file and the fix.
    pub fn open(config: Config) -> Result<Self, TrainError> {
        backend::check(&config.run)?;
        let out = config.run.out.clone().ok_or_else(|| {
            TrainError::Input("there is no place for the result: give run.out (or --out)".into())
        })?;
        let (graph, metadata, weights, tokenizer) = match &config.model.init {
            Some(path) => from_file(path, &config)?,
            None => from_shape(&config)?,
        };
        Quantizer::new(&config.quantize, &graph)?;
        let tutor = Tutor::open(&config, &graph, &tokenizer, &out)?;
        let corpus = Corpus::open(&config.data, &tokenizer)?;
        Ok(Self { tutor, config, out, graph: Arc::new(graph), corpus, metadata, weights })
    }

    /// The teacher, where there is one.
    pub fn tutor(&self) -> Option<&Tutor> {
        self.tutor.as_ref()
    }

    /// Parameters that are trained.
    pub fn n_parameters(&self) -> usize {
        self.graph.weights.iter().map(|w| w.shape.iter().product::<usize>()).sum()
    }

    /// Trains and writes the model. `watch` gives `false` to stop; the state is saved then, and the
    /// same config goes on from it.
    ///
    /// # Errors
    /// When numbers stop being finite, or a file cannot be written.
    pub fn run(
        &mut self,
        clock: &dyn Clock,
        watch: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<Trainee, TrainError> {
        std::fs::create_dir_all(&self.out).map_err(|e| {
            TrainError::Input(format!("{}: cannot be created: {e}", self.out.display()))
        })?;
        write_text(&self.out.join("config.toml"), &self.config.to_toml())?;
        let job = Job {
            graph: self.graph.clone(),
            weights: self.weights.clone(),
            corpus: &self.corpus,
            config: &self.config,
            out: &self.out,
            clock,
        };
        let outcome = backend::train(&job, self.tutor.as_mut(), watch)?;
        let model = self.out.join("model.gguf");
        let quantizer = Quantizer::new(&self.config.quantize, &self.graph)?;
        let float = encodings::by_name(&self.config.run.save_as).expect("Config has checked it");
        let trained =
            Trained { graph: &self.graph, weights: &outcome.weights, quantizer: &quantizer, float };
        sterna_model::write_new_gguf(&model, &self.graph, &self.metadata, &trained)?;
        let model_bytes = std::fs::metadata(&model).map_or(0, |m| m.len());
        Ok(Trainee { outcome, model, model_bytes })
    }
}

type Parts = (Graph, Metadata, Vec<Vec<f32>>, Tokenizer);

/// A model's graph, metadata, weights and tokenizer.
fn from_file(path: &Path, config: &Config) -> Result<Parts, TrainError> {
    let model = Model::open(path)?;
    let tokenizer = model.tokenizer()?.clone();
    let mut metadata = Metadata::default();
    for (key, value) in model.metadata.iter().filter(|(key, _)| !key.starts_with("sterna.")) {
        metadata.set(key, value.clone());
    }
    if let Some(name) = &config.model.name {
        metadata.set("general.name", Value::Str(name.clone()));
    }
    let weights = init::from_source(&model.graph, &model);
    Ok((model.graph.clone(), metadata, weights, tokenizer))
}

/// A preset's graph with random weights, and the tokenizer that data.tokenizer names.
fn from_shape(config: &Config) -> Result<Parts, TrainError> {
    let (arch, mut shape) = crate::shape::of(&config.model)?;
    let path = config.data.tokenizer.as_deref().ok_or_else(|| {
        let fix = "give data.tokenizer, e.g. one from `sterna tokenizer train`";
        TrainError::Input(format!("there is no tokenizer: {fix}"))
    })?;
    let mut tokenizer = open_tokenizer(path)?;
    if tokenizer.vocab_len() > shape.vocab_len || config.model.preset.is_none() {
        shape.vocab_len = tokenizer.vocab_len();
    }
    tokenizer.pad(shape.vocab_len);
    shape.context_len = shape.context_len.max(config.data.seq_len);
    let wrong = |problem: String| TrainError::Input(format!("the model's shape: {problem}"));
    shape.check().map_err(wrong)?;
    let graph = arch.graph(&shape).map_err(wrong)?;
    let mut metadata = arch.metadata(&shape);
    let name = config.model.name.clone().or(config.model.preset.clone());
    metadata.set("general.name", Value::Str(name.unwrap_or("model".into())));
    let entries = tokenizer.to_metadata().map_err(TrainError::Input)?;
    entries.into_iter().for_each(|(key, value)| metadata.set(key, value));
    let weights = init::random(&graph, config.run.seed);
    Ok((graph, metadata, weights, tokenizer))
}

/// A `tokenizer.json`, or the tokenizer of a model file.
fn open_tokenizer(path: &Path) -> Result<Tokenizer, TrainError> {
    if path.extension().is_some_and(|e| e == "json") {
        let failed = |problem| TrainError::Input(format!("{}: {problem}", path.display()));
        return Tokenizer::from_json(path).map_err(failed);
    }
    Ok(Model::open(path)?.tokenizer()?.clone())
}

fn write_text(path: &Path, text: &str) -> Result<(), TrainError> {
    let mut file = AtomicFile::create(path)?;
    file.write(text.as_bytes())?;
    Ok(file.finish()?)
}
