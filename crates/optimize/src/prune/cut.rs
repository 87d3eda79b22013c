//! A model with parts left out: a [`WeightSource`] whose matrices are smaller than its source's.
//!
//! In: a source, its graph, and what stays of each layer. Out: a graph of smaller shapes, and its
//! weights: rows as they were encoded; where columns are left out, decoded and stored as floats.

use crate::error::{OptimizeError, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use sterna_formats::EncodingRef;
use sterna_formats::encodings::by_name;
use sterna_model::archs::Arch;
use sterna_model::config::Config;
use sterna_model::{Graph, WeightDecl, WeightId, WeightSource, WeightView};

/// What stays of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its number in the source.
    pub layer: usize,
    /// Hidden channels of its MLP, ascending.
    pub channels: Vec<usize>,
    /// Key and value heads, each with the query heads that share it, ascending.
    pub kv_heads: Vec<usize>,
}

impl Kept {
    /// All of a layer.
    pub fn all(layer: usize, config: &Config) -> Self {
        let channels = (0..config.ffn_dim).collect();
        Self { layer, channels, kv_heads: (0..config.n_kv_heads).collect() }
    }

    /// The columns that stay of what reads all heads.
    pub fn query_features(&self, config: &Config) -> Vec<usize> {
        let group = config.n_heads / config.n_kv_heads * config.head_dim;
        self.kv_heads.iter().flat_map(|head| head * group..(head + 1) * group).collect()
    }

    fn kv_features(&self, config: &Config) -> Vec<usize> {
        let len = config.head_dim;
        self.kv_heads.iter().flat_map(|head| head * len..(head + 1) * len).collect()
    }
}

/// What a weight becomes.
#[derive(Debug, Clone)]
enum Pick {
    /// What it was.
    All,
    /// Some rows; of a vector, entries.
    Rows(Vec<usize>),
    /// Some columns.
    Cols(Vec<usize>),
}

/// A model with parts left out.
pub struct Pruned<'a> {
    source: &'a dyn WeightSource,
    graph: Graph,
    config: Config,
    /// Per weight, where it comes from and what stays of it.
    picks: Vec<(WeightId, Pick)>,
    /// Values that make up for what was left out, by weight.
    made_up: BTreeMap<WeightId, Vec<f32>>,
}

impl<'a> Pruned<'a> {
    /// The model that keeps so much of each layer, as many channels and heads of every one.
    ///
    /// # Errors
    /// When the architecture cannot be built so.
    pub fn new(
        source: &'a dyn WeightSource,
        graph: &Graph,
        arch: &dyn Arch,
        config: &Config,
        kept: &[Kept],
    ) -> Result<Self> {
        let first = kept.first().ok_or_else(|| bad("no layer would be left"))?;
        let n_kv_heads = first.kv_heads.len();
        let smaller = Config {
            n_layers: kept.len(),
            ffn_dim: first.channels.len(),
            n_heads: config.n_heads / config.n_kv_heads * n_kv_heads,
            n_kv_heads,
            ..config.clone()
        };
        let new = arch.graph(&smaller).map_err(OptimizeError::Input)?;
        let pick = |decl: &WeightDecl| -> Result<(WeightId, Pick)> {
            let kept = decl.layer.map(|layer| &kept[layer]);
            let part = part(decl);
            let name = kept.map_or(decl.name.clone(), |kept| format!("blk.{}.{part}", kept.layer));
            let from = graph.find_weight(&name).ok_or_else(|| bad(&format!("no {name}")))?;
            let pick = kept.map_or(Pick::All, |kept| pick(part, kept, config));
            Ok((from, pick))
        };
        let picks = new.weights.iter().map(pick).collect::<Result<_>>()?;
        Ok(Self { source, graph: new, config: smaller, picks, made_up: BTreeMap::new() })
    }

    /// The smaller graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Matrices whose blocks could not be kept, as a remark; empty where there is none.
    pub fn widened(&self) -> Option<String> {
        let is_wider =
            |id: &WeightId| self.encoding(*id) != self.source.encoding(self.picks[id.0].0);
        let n = self.graph.weight_ids().filter(is_wider).count();
        (n > 0).then(|| {
            format!(
                "{n} tensors lost columns, and with them the blocks of their encoding: they are \
                 stored as F16; a model is best pruned before it is quantized"
            )
        })
    }

    /// Has the columns that stay of a matrix make up for those that do not: `shares` is how much
    /// of each of those, `[left out, kept]`, goes to each of them.
    pub fn make_up(&mut self, id: WeightId, shares: &[f32]) {
        let (from, pick) = &self.picks[id.0];
        let Pick::Cols(kept) = pick else { return };
        let view = self.source.weight(*from);
        let left_out: Vec<usize> =
            (0..view.cols).filter(|col| kept.binary_search(col).is_err()).collect();
        assert_eq!(shares.len(), left_out.len() * kept.len());
        let values = view.to_f32();
        let mut made_up = Vec::with_capacity(view.rows * kept.len());
        for row in values.chunks_exact(view.cols) {
            let mut new: Vec<f32> = kept.iter().map(|&col| row[col]).collect();
            for (&col, shares) in left_out.iter().zip(shares.chunks_exact(kept.len())) {
                new.iter_mut().zip(shares).for_each(|(new, share)| *new += row[col] * share);
            }
            made_up.extend(new);
        }
        self.made_up.insert(id, made_up);
    }
}

fn bad(why: &str) -> OptimizeError {
    OptimizeError::Input(format!("pruning: {why}"))
}

/// A weight's name within its layer, e.g. `ffn_up.weight`.
fn part(decl: &WeightDecl) -> &str {
    let prefix = decl.layer.map_or(0, |layer| format!("blk.{layer}.").len());
    &decl.name[prefix..]
}

/// What stays of a weight of a layer, by its name there.
fn pick(part: &str, kept: &Kept, config: &Config) -> Pick {
    // What keeps all stays as it is encoded.
    let (has_channels, has_heads) =
        (kept.channels.len() == config.ffn_dim, kept.kv_heads.len() == config.n_kv_heads);
    match part.rsplit_once('.').unwrap_or((part, "")) {
        ("ffn_gate" | "ffn_up" | "ffn_down", _) if has_channels => Pick::All,
        ("attn_q" | "attn_k" | "attn_v" | "attn_output", _) if has_heads => Pick::All,
        ("ffn_gate" | "ffn_up", _) => Pick::Rows(kept.channels.clone()),
        ("ffn_down", "weight") => Pick::Cols(kept.channels.clone()),
        ("attn_q", _) => Pick::Rows(kept.query_features(config)),
        ("attn_k" | "attn_v", _) => Pick::Rows(kept.kv_features(config)),
        ("attn_output", "weight") => Pick::Cols(kept.query_features(config)),
        _ => Pick::All,
    }
}

impl WeightSource for Pruned<'_> {
    fn weight(&self, id: WeightId) -> WeightView<'_> {
        let (from, pick) = &self.picks[id.0];
        let view = self.source.weight(*from);
        let encoding = self.encoding(id);
        if let Some(values) = self.made_up.get(&id) {
            let cols = values.len() / view.rows;
            let bytes = Cow::Owned(encoded(encoding, cols, values));
            return WeightView { encoding, rows: view.rows, cols, bytes };
        }
        match pick {
            // A vector's entries are its columns.
            Pick::Rows(kept) if view.rows == 1 => select(&view, encoding, kept),
            Pick::Rows(kept) => {
                let mut bytes = Vec::new();
                kept.iter().for_each(|&row| bytes.extend_from_slice(view.row_bytes(row..row + 1)));
                WeightView { rows: kept.len(), bytes: Cow::Owned(bytes), ..view }
            }
            Pick::Cols(kept) => select(&view, encoding, kept),
            Pick::All => view,
        }
    }

    fn encoding(&self, id: WeightId) -> EncodingRef {
        let (from, pick) = &self.picks[id.0];
        let source = self.source.encoding(*from);
        let is_decoded = matches!(pick, Pick::Cols(_)) || self.graph.decl(id).shape.len() == 1;
        // Blocks of columns do not survive the loss of some.
        if is_decoded && source.block_len() > 1 { by_name("F16").expect("F16") } else { source }
    }

    fn release(&self, id: WeightId) {
        self.source.release(self.picks[id.0].0);
    }
}

/// Some columns of a matrix.
fn select<'v>(view: &WeightView<'_>, encoding: EncodingRef, kept: &[usize]) -> WeightView<'v> {
    let values = view.to_f32();
    let rows = values.chunks_exact(view.cols);
    let new: Vec<f32> = rows.flat_map(|row| kept.iter().map(|&col| row[col])).collect();
    let bytes = Cow::Owned(encoded(encoding, kept.len(), &new));
    WeightView { encoding, rows: view.rows, cols: kept.len(), bytes }
}

fn encoded(encoding: EncodingRef, cols: usize, values: &[f32]) -> Vec<u8> {
    let row_bytes = encoding.row_bytes(cols);
    let mut bytes = vec![0; values.len() / cols * row_bytes];
    for (row, out) in values.chunks_exact(cols).zip(bytes.chunks_exact_mut(row_bytes)) {
        encoding.encode(row, None, out);
    }
    bytes
}
