//! A model: an architecture's config and graph over the tensors of a checkpoint.
//!
//! In: a [`Checkpoint`] of any container. Out: a [`Model`], which is the same whichever container
//! it came from: GGUF names, GGUF layout (Hugging Face's query and key rows are put in GGUF's order
//! when they are read), vectors in F32, and GGUF metadata that describes it to any engine.

mod bind;
#[cfg(test)]
mod tests;

use crate::archs::{self, Arch};
use crate::artifact::PLAN_KEY;
use crate::config::{Config, GgufKeys, JsonKeys};
use crate::plan::{Plan, inputs};
use crate::{Graph, Tokenizer, WeightId, WeightSource, WeightView};
use bind::Binding;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use sterna_formats::{
    Checkpoint, EncodingRef, FormatError, Metadata, OpenOptions, TensorInfo, Value,
};

/// A model on disk, understood.
pub struct Model {
    /// What people call it: its `general.name`, or its file's.
    pub name: String,
    /// Its architecture.
    pub arch: &'static dyn Arch,
    /// Its hyper-parameters.
    pub config: Config,
    /// What it computes.
    pub graph: Graph,
    /// The GGUF metadata of this model, whatever it came from; tokenizer included.
    pub metadata: Metadata,
    /// What of the checkpoint is not used, as sentences for the user.
    pub warnings: Vec<String>,
    /// Made when it is first asked for.
    tokenizer: OnceLock<Result<Tokenizer, String>>,
    checkpoint: Checkpoint,
    /// Where each weight of the graph comes from.
    bindings: Vec<Binding>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({} from {})", self.arch.name(), self.checkpoint.path.display())
    }
}

impl Model {
    /// Opens a model file or directory; see [`Checkpoint::open`].
    ///
    /// # Errors
    /// One sentence that names the file, the key or tensor, and the fix.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// [`Model::open`] with options, e.g. where the tokenizer is.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Self, FormatError> {
        Self::from_checkpoint(Checkpoint::open_with(path, options)?)
    }

    /// Understands a checkpoint.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_checkpoint(mut checkpoint: Checkpoint) -> Result<Self, FormatError> {
        let (arch, config) = match &checkpoint.config {
            Some(json) => from_json(&checkpoint, json)?,
            None => from_gguf(&checkpoint)?,
        };
        let error = |problem: String| {
            FormatError::new(&checkpoint.path, problem, "the file is no working model, get another")
        };
        // Each layer has tensors, so this bounds the graph by the size of the file.
        if config.n_layers > checkpoint.tensors.len() {
            let (layers, tensors) = (config.n_layers, checkpoint.tensors.len());
            return Err(error(format!("says it has {layers} layers but has {tensors} tensors")));
        }
        let graph = arch.graph(&config).map_err(error)?;
        let bindings = bind::all(&checkpoint, arch, &config, &graph)?;
        let mut warnings = bind::unused(&checkpoint, arch, &graph, &bindings);
        let graph = as_planned(&checkpoint, graph)?;
        let name = name_of(&checkpoint);
        let mut metadata = match &checkpoint.config {
            None => std::mem::take(&mut checkpoint.metadata),
            Some(_) => arch.metadata(&config),
        };
        let tokenizer = OnceLock::new();
        metadata.set("general.name", Value::Str(name.clone()));
        if checkpoint.config.is_some() {
            let made = tokenizer_of(&checkpoint, &metadata, config.vocab_len);
            warnings.extend(add_tokenizer(&mut metadata, tokenizer.get_or_init(|| made)));
            let template = &checkpoint.side_json.get("tokenizer_config.json");
            if let Some(template) = template.and_then(|json| json["chat_template"].as_str()) {
                metadata.set("tokenizer.chat_template", Value::Str(template.to_owned()));
            }
            warnings.extend(left_out(&checkpoint));
            if let Some(pooling) = pooling_of(&checkpoint) {
                metadata.set(format!("{}.pooling_type", arch.name()), Value::U32(pooling));
            }
        }
        Ok(Self { name, arch, config, graph, metadata, warnings, tokenizer, checkpoint, bindings })
    }

    /// The tokenizer, made on the first call.
    ///
    /// # Errors
    /// When the checkpoint has none, or one that is damaged or unknown.
    pub fn tokenizer(&self) -> Result<&Tokenizer, FormatError> {
        let made = || tokenizer_of(&self.checkpoint, &self.metadata, self.config.vocab_len);
        self.tokenizer.get_or_init(made).as_ref().map_err(|problem| {
            let path = self.checkpoint.tokenizer_json.as_ref().unwrap_or(&self.checkpoint.path);
            FormatError::new(path, problem.clone(), "give the model's own tokenizer file")
        })
    }

    /// The path it was opened from.
    pub fn path(&self) -> &Path {
        &self.checkpoint.path
    }

    /// The checkpoint it was understood from; GGUF metadata is the model's own now.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint's tensor behind a weight; `None` when the weight was computed.
    pub fn tensor(&self, id: WeightId) -> Option<&TensorInfo> {
        self.bindings[id.0].tensor()
    }
}

impl WeightSource for Model {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (rows, cols) = self.graph.decl(id).matrix();
        let bytes = self.bindings[id.0].bytes(&self.checkpoint);
        WeightView { encoding: self.encoding(id), rows, cols, bytes }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        self.bindings[id.0].encoding()
    }

    fn release(&self, id: WeightId) {
        if let Some(tensor) = self.tensor(id) {
            self.checkpoint.drop_pages(tensor);
        }
    }
}

/// The graph with inputs as the Plan in an artifact says, or the file itself where it has no Plan.
/// A damaged Plan says nothing; whoever asks for it is told.
fn as_planned(checkpoint: &Checkpoint, graph: Graph) -> Result<Graph, FormatError> {
    let damaged =
        |problem| FormatError::new(&checkpoint.path, problem, "the file is damaged, copy it again");
    let ranges = match (checkpoint.metadata.str(PLAN_KEY), checkpoint.metadata.str(inputs::KEY)) {
        (Some(text), _) => Plan::parse(&checkpoint.path, text).ok().map(|plan| plan.int8_inputs),
        (None, Some(text)) => Some(inputs::parse(text).map_err(damaged)?),
        (None, None) => None,
    };
    let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) else { return Ok(graph) };
    inputs::apply(&graph, &ranges)
        .map_err(|problem| damaged(format!("its int8 inputs are of another model: {problem}")))
}

type Understood = (&'static dyn Arch, Config);

fn from_gguf(checkpoint: &Checkpoint) -> Result<Understood, FormatError> {
    let (path, metadata) = (checkpoint.path.as_path(), &checkpoint.metadata);
    let Some(name) = metadata.str("general.architecture") else {
        let (problem, fix) = match checkpoint.container {
            "safetensors" => (
                "has weights but no description of the model",
                "give the directory with its config.json",
            ),
            _ => (
                "metadata key general.architecture is missing",
                "convert the model again with a current converter",
            ),
        };
        return Err(FormatError::new(path, problem, fix));
    };
    let arch = archs::by_name(name).ok_or_else(|| unsupported(path, name))?;
    let shape = |name: &str| checkpoint.tensor(name).map(|t| t.shape.clone());
    let keys = GgufKeys { path, metadata, arch: name, shape: &shape };
    Ok((arch, arch.config_from_gguf(&keys)?))
}

fn from_json(checkpoint: &Checkpoint, json: &serde_json::Value) -> Result<Understood, FormatError> {
    let path = &checkpoint.path.join("config.json");
    let Some(class) = json["architectures"][0].as_str() else {
        let problem = "\"architectures\" names no class";
        return Err(FormatError::new(path, problem, "download config.json again, or correct it"));
    };
    let arch = archs::by_class(class).ok_or_else(|| unsupported(path, class))?;
    let shape = |name: &str| {
        let tensor = checkpoint.tensor(&arch.huggingface_name(name)?)?;
        Some(tensor.shape.clone())
    };
    Ok((arch, arch.config_from_json(&JsonKeys { path, json, class, shape: &shape })?))
}

/// llama.cpp's number of how a sentence encoder makes one vector of the tokens' states, from what
/// sentence-transformers keeps beside a model; 0 for ways that have no number.
fn pooling_of(checkpoint: &Checkpoint) -> Option<u32> {
    let modes = checkpoint.side_json.get("1_Pooling/config.json")?.as_object()?;
    let on = modes.iter().filter(|(_, is_on)| **is_on == true);
    let on: Vec<&str> = on.filter_map(|(mode, _)| mode.strip_prefix("pooling_mode_")).collect();
    Some(match on.as_slice() {
        ["mean_tokens"] => 1,
        ["cls_token"] => 2,
        ["lasttoken"] => 3,
        _ => 0,
    })
}

/// A sentence where sentence-transformers does more with a model's vectors than pool them and give
/// them length 1.
fn left_out(checkpoint: &Checkpoint) -> Option<String> {
    let modules = checkpoint.side_json.get("modules.json")?.as_array()?;
    let kind = |module: &serde_json::Value| {
        let name = module["type"].as_str()?.rsplit('.').next()?;
        let is_known = ["Transformer", "Pooling", "Normalize"].contains(&name);
        (!is_known).then(|| name.escape_debug().to_string())
    };
    let unknown: Vec<String> = modules.iter().filter_map(kind).collect();
    (!unknown.is_empty()).then(|| {
        let names = unknown.join(", ");
        format!("modules.json has {names}, which is left out: embeddings are others than its own")
    })
}

fn unsupported(path: &Path, name: &str) -> FormatError {
    let problem = format!("the architecture \"{}\" is not supported", name.escape_debug());
    FormatError::new(path, problem, format!("supported are {}", archs::supported()))
}

/// The name in the metadata, else the file's or directory's.
fn name_of(checkpoint: &Checkpoint) -> String {
    if let Some(name) = checkpoint.metadata.str("general.name") {
        return name.to_owned();
    }
    let path: PathBuf = checkpoint.path.canonicalize().unwrap_or(checkpoint.path.clone());
    let name = if checkpoint.config.is_some() { path.file_name() } else { path.file_stem() };
    name.map_or("model".to_owned(), |n| n.to_string_lossy().into_owned())
}

fn tokenizer_of(
    checkpoint: &Checkpoint,
    metadata: &Metadata,
    vocab_len: usize,
) -> Result<Tokenizer, String> {
    let mut tokenizer = match (&checkpoint.config, &checkpoint.tokenizer_json) {
        (None, _) => Tokenizer::from_metadata(metadata)?,
        (Some(_), Some(file)) => Tokenizer::from_json(file)?,
        (Some(_), None) => return Err("the directory has no tokenizer.json".into()),
    };
    if tokenizer.vocab_len() > vocab_len {
        let n_tokens = tokenizer.vocab_len();
        return Err(format!("the tokenizer has {n_tokens} tokens, the model only {vocab_len}"));
    }
    tokenizer.pad(vocab_len);
    Ok(tokenizer)
}

/// Adds the keys that describe the tokenizer in GGUF; a sentence when there are none.
fn add_tokenizer(metadata: &mut Metadata, tokenizer: &Result<Tokenizer, String>) -> Option<String> {
    match tokenizer.as_ref().map_err(Clone::clone).and_then(Tokenizer::to_metadata) {
        Ok(entries) => {
            entries.into_iter().for_each(|(key, value)| metadata.set(key, value));
            None
        }
        Err(problem) => Some(format!("a GGUF file of this model has no tokenizer: {problem}")),
    }
}
