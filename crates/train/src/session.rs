//! A config becomes a training run, and the run a model file.
//!
//! In: a [`Config`]. Out: `model.gguf`, `curve.jsonl`, `config.toml` and checkpoints in the run's
//! folder. Everything that can be wrong with the input is found before the first step.

use crate::config::Config;
use crate::data::Corpus;
use crate::distill::Tutor;
use crate::export::Trained;
use crate::quant::{self, Quantizer};
use crate::trainer::{Event, Job, Outcome};
use crate::{TrainError, backend, init, shape};
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
    /// Of the model that training starts from.
    before: Option<Provenance>,
    weights: Vec<Vec<f32>>,
    tutor: Option<Tutor>,
}

/// What a model was trained on, as its file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Hash of the tokens of the text; of all texts where there were several runs.
    pub text: String,
    /// Tokens seen, each as often as it was.
    pub tokens: u64,
}

impl Provenance {
    const TEXT: &str = "sterna.training.text";
    const TOKENS: &str = "sterna.training.tokens";

    /// Reads it from a file's metadata.
    pub fn read(metadata: &Metadata) -> Option<Self> {
        let text = metadata.str(Self::TEXT)?.to_owned();
        Some(Self { text, tokens: metadata.u64(Self::TOKENS)? })
    }

    fn write(&self, metadata: &mut Metadata) {
        metadata.set(Self::TEXT, Value::Str(self.text.clone()));
        metadata.set(Self::TOKENS, Value::U64(self.tokens));
    }

    /// Of a run of so many tokens over `train`, after what was before.
    fn after(before: Option<&Self>, train: &[u32], tokens: u64) -> Self {
        let text = blake3::hash(bytemuck::cast_slice(train)).to_hex().to_string();
        match before {
            Some(before) if before.text == text => Self { text, tokens: before.tokens + tokens },
            Some(before) => {
                let both = blake3::hash(format!("{} {text}", before.text).as_bytes());
                Self { text: both.to_hex().to_string(), tokens: before.tokens + tokens }
            }
            None => Self { text, tokens },
        }
    }
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
    pub fn open(mut config: Config) -> Result<Self, TrainError> {
        backend::check(&config.run)?;
        let out = config.run.out.clone().ok_or_else(|| {
            TrainError::Input("there is no place for the result: give run.out (or --out)".into())
        })?;
        let Parts { graph, metadata, before, mut weights, tokenizer } = match &config.model.init {
            Some(path) => from_file(path, &config)?,
            None => from_shape(&config)?,
        };
        quant::complete(&mut config.quantize, &graph);
        let quantizer = Quantizer::new(&config.quantize, &graph)?;
        for (id, values) in graph.weight_ids().zip(&mut weights) {
            quantizer.make_latent(id, values);
        }
        let tutor = Tutor::open(&config, &graph, &tokenizer, &out)?;
        let corpus = Corpus::open(&config.data, &tokenizer)?;
        let graph = Arc::new(graph);
        Ok(Self { tutor, config, out, graph, corpus, metadata, before, weights })
    }

    /// The teacher, where there is one.
    pub fn tutor(&self) -> Option<&Tutor> {
        self.tutor.as_ref()
    }

    /// Parameters that are trained.
    pub fn n_parameters(&self) -> usize {
        self.graph.n_parameters() as usize
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
        let config = self.config.to_toml();
        AtomicFile::write_whole(&self.out.join("config.toml"), config.as_bytes())?;
        let job = Job {
            graph: self.graph.clone(),
            weights: self.weights.clone(),
            corpus: &self.corpus,
            config: &self.config,
            out: Some(&self.out),
            clock,
        };
        let outcome = backend::train(&job, self.tutor.as_mut(), watch)?;
        let model = self.out.join("model.gguf");
        let quantizer = Quantizer::new(&self.config.quantize, &self.graph)?;
        let float = encodings::by_name(&self.config.run.save_as).expect("Config has checked it");
        let trained =
            Trained { graph: &self.graph, weights: &outcome.weights, quantizer: &quantizer, float };
        let (data, schedule) = (&self.config.data, &self.config.schedule);
        let per_step = data.seq_len * schedule.batch * schedule.accumulate;
        let n_tokens = (outcome.steps * per_step) as u64;
        let mut metadata = self.metadata.clone();
        Provenance::after(self.before.as_ref(), &self.corpus.train, n_tokens).write(&mut metadata);
        sterna_model::write_new_gguf(&model, &self.graph, &metadata, &trained)?;
        let model_bytes = std::fs::metadata(&model).map_or(0, |m| m.len());
        Ok(Trainee { outcome, model, model_bytes })
    }
}

/// What training starts from.
struct Parts {
    graph: Graph,
    metadata: Metadata,
    before: Option<Provenance>,
    weights: Vec<Vec<f32>>,
    tokenizer: Tokenizer,
}

/// A model's graph, metadata, weights and tokenizer.
fn from_file(path: &Path, config: &Config) -> Result<Parts, TrainError> {
    let model = Model::open(path)?;
    let tokenizer = model.tokenizer()?.clone();
    shape::check_against(&config.model, &model.config)?;
    if let Some(other) = &config.data.tokenizer {
        let other = open_tokenizer(other)?;
        let ids = 0..tokenizer.vocab_len().max(other.vocab_len()) as u32;
        if ids.into_iter().any(|id| tokenizer.token(id) != other.token(id)) {
            return Err(TrainError::Input(
                "data.tokenizer is not the tokenizer of model.init; leave it out".into(),
            ));
        }
    }
    let (context, seq_len) = (model.config.context_len, config.data.seq_len);
    if context < seq_len {
        return Err(TrainError::Input(format!(
            "{} was made for {context} tokens at once; give data.seq_len of at most that, not \
             {seq_len}",
            path.display()
        )));
    }
    let mut metadata = Metadata::default();
    for (key, value) in model.metadata.iter().filter(|(key, _)| !key.starts_with("sterna.")) {
        metadata.set(key, value.clone());
    }
    if let Some(name) = &config.model.name {
        metadata.set("general.name", Value::Str(name.clone()));
    }
    let weights = init::from_source(&model.graph, &model);
    // Without int8 inputs of a Plan, whose ranges were found for the weights as they were.
    let graph = model.arch.graph(&model.config).map_err(TrainError::Input)?;
    let before = Provenance::read(&model.metadata);
    Ok(Parts { graph, metadata, before, weights, tokenizer })
}

/// A preset's graph with random weights, and the tokenizer that data.tokenizer names, or else the
/// teacher's.
fn from_shape(config: &Config) -> Result<Parts, TrainError> {
    shape::check_preset(&config.model)?;
    // A student without a tokenizer of its own has its teacher's.
    let path = config.data.tokenizer.as_deref().or(config.teacher.model.as_deref());
    let path = path.ok_or_else(|| {
        let fix = "give data.tokenizer, e.g. one from `sterna tokenizer train`";
        TrainError::Input(format!("there is no tokenizer: {fix}"))
    })?;
    let mut tokenizer = open_tokenizer(path)?;
    let own_len = tokenizer.vocab_len();
    let (arch, shape, graph) = shape::graph(config, &mut |of_preset| match config.model.preset {
        Some(_) => own_len.max(of_preset),
        None => own_len,
    })?;
    tokenizer.pad(shape.vocab_len);
    let mut metadata = arch.metadata(&shape);
    let name = config.model.name.clone().or(config.model.preset.clone());
    metadata.set("general.name", Value::Str(name.unwrap_or("model".into())));
    let entries = tokenizer.to_metadata().map_err(TrainError::Input)?;
    entries.into_iter().for_each(|(key, value)| metadata.set(key, value));
    let weights = init::random(&graph, config.run.seed);
    Ok(Parts { graph, metadata, before: None, weights, tokenizer })
}

/// A `tokenizer.json`, or the tokenizer of a model file.
fn open_tokenizer(path: &Path) -> Result<Tokenizer, TrainError> {
    if path.extension().is_some_and(|e| e == "json") {
        let failed = |problem| TrainError::Input(format!("{}: {problem}", path.display()));
        return Tokenizer::from_json(path).map_err(failed);
    }
    Ok(Model::open(path)?.tokenizer()?.clone())
}
