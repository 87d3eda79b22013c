//! The two models as files, before anything runs: are they comparable, and what must a reader know?

use crate::compute::ComputeArgs;
use crate::show::{self, bad_input};
use std::collections::BTreeMap;
use std::path::Path;
use sterna_formats::OpenOptions;
use sterna_model::{Model, Role, Tokenizer, WeightSource, content_hash};
use sterna_train::session::Provenance;

/// What a model file says of itself.
pub struct Twin {
    /// Its path and the beginning of its content's hash.
    pub label: String,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Tokens that it is run with at most.
    pub context_len: usize,
    n_params: usize,
    /// Weights of linear layers by encoding, the embedding left out.
    linear: BTreeMap<&'static str, usize>,
    /// What it was trained on, where `sterna train` wrote the file.
    training: Option<Provenance>,
    /// Its tokenizer, or why it has none.
    pub tokenizer: Result<Tokenizer, String>,
}

/// Encodings of the values -1, 0 and 1, and of -1 and 1.
const TERNARY: [&str; 3] = ["TQ1_0", "TQ2_0", "Q1_0"];

impl Twin {
    /// Reads a model; nothing of it stays mapped.
    ///
    /// # Errors
    /// When it is no working model.
    pub fn read(path: &Path, compute: &ComputeArgs) -> anyhow::Result<Self> {
        let options = OpenOptions { tokenizer: compute.tokenizer.clone() };
        let model = Model::open_with(path, &options)?;
        model.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        let hash = content_hash(&model.graph, &model);
        let mut twin = Self {
            label: format!("{} ({})", path.display(), &hash[..19]),
            file_bytes: model.checkpoint().files().iter().map(|f| f.bytes().len() as u64).sum(),
            context_len: compute.settings(model.config.context_len)?.context_len,
            n_params: 0,
            linear: BTreeMap::new(),
            training: Provenance::read(&model.metadata),
            tokenizer: model.tokenizer().cloned().map_err(|e| e.to_string()),
        };
        for id in model.graph.weight_ids() {
            let decl = model.graph.decl(id);
            let n: usize = decl.shape.iter().product();
            twin.n_params += n;
            if decl.role.is_matrix() && decl.role != Role::TokenEmbedding {
                *twin.linear.entry(model.encoding(id).name()).or_default() += n;
            }
        }
        Ok(twin)
    }

    /// The share of its linear weights in these encodings.
    fn share(&self, encodings: &[&str]) -> f64 {
        let all: usize = self.linear.values().sum();
        let some: usize = encodings.iter().filter_map(|name| self.linear.get(name)).sum();
        some as f64 / all.max(1) as f64
    }

    /// `87% TQ2_0, 13% F32`, the most first.
    fn encodings(&self) -> String {
        let mut shares: Vec<(&str, f64)> =
            self.linear.keys().map(|name| (*name, self.share(&[name]))).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let shares: Vec<String> =
            shares.iter().map(|(name, share)| format!("{:.0}% {name}", share * 100.0)).collect();
        shares.join(", ")
    }
}

/// Refuses models that cannot be compared token by token.
///
/// # Errors
/// When a tokenizer is missing, or the two differ: names the first token that does.
pub fn check_vocabularies(bitnet: &Twin, baseline: &Twin) -> anyhow::Result<()> {
    let [ternary, full] = [bitnet, baseline].map(|t| t.tokenizer.as_ref().map_err(bad_input));
    let (ternary, full) = (ternary?, full?);
    let n = ternary.vocab_len().max(full.vocab_len());
    let Some(id) = (0..n as u32).find(|&id| ternary.token(id) != full.token(id)) else {
        return Ok(());
    };
    let shown = |tokenizer: &Tokenizer| match tokenizer.token(id) {
        Some(token) => format!("{token:?}"),
        None => "nothing".to_owned(),
    };
    Err(bad_input(format!(
        "{}: its token {id} is {} and the baseline's is {}; losses of other vocabularies cannot be \
         compared, so give the model's own f32 twin",
        bitnet.label,
        shown(ternary),
        shown(full)
    )))
}

/// What a reader must know of the files, and why they are no ternary model and its f32 twin.
pub fn remarks(bitnet: &Twin, baseline: Option<&Twin>) -> (Vec<String>, Vec<String>) {
    let params = |n: usize| format!("{:.2} M", n as f64 / 1e6);
    let file = |what: &str, twin: &Twin| {
        let (params, bytes) = (params(twin.n_params), show::bytes(twin.file_bytes));
        format!(
            "the {what} has {params} parameters in {bytes}; its linear weights are {}",
            twin.encodings()
        )
    };
    let (mut notes, mut unfit) = (vec![file("model", bitnet)], Vec::new());
    let ternary = bitnet.share(&TERNARY);
    if ternary < 0.5 {
        unfit.push(format!(
            "only {:.0}% of the linear weights are ternary or binary ({}): this is hardly a BitNet",
            ternary * 100.0,
            TERNARY.join(", ")
        ));
    }
    let Some(baseline) = baseline else { return (notes, unfit) };
    notes.push(file("baseline", baseline));
    if baseline.share(&["F32"]) < 0.99 {
        unfit.push(
            "the baseline is not stored as F32, so every ratio is against what it is, not against \
             f32; `sterna convert MODEL OUT --outtype F32` makes an f32 twin"
                .into(),
        );
    }
    if bitnet.n_params.abs_diff(baseline.n_params) * 100 > baseline.n_params {
        unfit.push("the two differ in parameters by more than 1%: they are not twins".into());
    }
    match (&bitnet.training, &baseline.training) {
        (Some(ours), Some(theirs)) if ours.text != theirs.text => {
            unfit.push("the two were trained on different texts: they are not twins".into());
        }
        (Some(ours), Some(theirs)) if ours.tokens != theirs.tokens => unfit.push(format!(
            "the model was trained on {} tokens and the baseline on {}: their losses cannot be \
             compared",
            ours.tokens, theirs.tokens
        )),
        (Some(ours), Some(_)) => {
            notes.push(format!("both were trained on {} tokens of the same text", ours.tokens));
        }
        _ => notes.push(
            "the files do not say what the two were trained on: it may not be the same".into(),
        ),
    }
    (notes, unfit)
}
