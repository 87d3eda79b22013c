//! The published score of stories260K, reproduced by a model and tokenizer written here from their
//! definitions, so that the recipe and the scoring convention are pinned without the rest of us.
//!
//! The recipe: the first 20 stories of the TinyStories sample, split at `<|endoftext|>` and trimmed,
//! each cut at 900 characters and then at 256 tokens *with the BOS among them* (255 of text). Every
//! token of text is scored, the first from the BOS: 4,934 tokens, mean NLL 1.2632 nats.

use sterna_measure::{
    LanguageModel,
    quality::{Passages, Reference, Scoring, paired_drop, score},
    workload::TextRecipe,
};

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

const BOS: u32 = 1;

#[test]
fn the_published_score_of_stories260k() {
    let Some(data) = data_folder() else {
        println!("skipped: no shared/data folder above the crate, and STERNA_DATA is not set");
        return;
    };
    let mut model = Llama::open(&data.join("tinyllamas/stories260K.bin"));
    let tokenizer = Tokenizer::open(&data.join("tinyllamas/tok512.bin"), model.vocab_len());
    let text = fs::read_to_string(data.join("tinystories/tinystories_sample_2MiB.txt")).unwrap();
    let recipe = TextRecipe {
        separator: Some("<|endoftext|>".into()),
        max_documents: Some(20),
        max_chars: Some(900),
        max_tokens: Some(255),
        ..TextRecipe::whole()
    };
    let encode = &mut |text: &str| tokenizer.encode(text);
    let token_bytes = |token| tokenizer.pieces[token as usize].len();
    let workload = recipe.workload("tinystories", &text, encode, &token_bytes).unwrap();
    let scoring = Scoring::Documents { bos: Some(BOS), n_unscored: 0 };
    let passages = Passages::new(&workload, scoring).unwrap();
    let scores = score(&mut model, &passages).unwrap();
    assert_eq!((scores.passages().len(), scores.n_scored()), (20, 4934));
    assert!((scores.mean_nll() - 1.2632).abs() < 0.00005, "{}", scores.mean_nll());
    println!("{}", scores.figures().unwrap().iter().map(|f| f.line() + "\n").collect::<String>());

    // A coarser model of the same shape: the damage has to show in every figure.
    let reference = Reference::record(&mut model, &passages, None).unwrap();
    model.round_weights(16.0);
    let divergence = reference.divergence(&mut model).unwrap();
    let drop = paired_drop(&scores, divergence.scores()).unwrap();
    assert!(divergence.mean_kl() > 0.0 && divergence.n_flips() > 0);
    assert!(drop.nll_percent_ci95.unwrap().low > 0.0, "{drop:?}");
    assert!(drop.sign_test_p < 0.05, "{drop:?}");
}

fn data_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("STERNA_DATA") {
        return Some(folder.into());
    }
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().map(|folder| folder.join("shared/data")).find(|data| data.is_dir())
}

/// llama2.c's model, format v0, computed in f64 straight from its definition.
struct Llama {
    dim: usize,
    n_hidden: usize,
    n_heads: usize,
    n_kv_heads: usize,
    n_context: usize,
    n_vocab: usize,
    embedding: Vec<f64>,
    layers: Vec<Layer>,
    norm: Vec<f64>,
}

struct Layer {
    attention_norm: Vec<f64>,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    o: Vec<f64>,
    mlp_norm: Vec<f64>,
    gate: Vec<f64>,
    down: Vec<f64>,
    up: Vec<f64>,
}

impl Llama {
    fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let words: Vec<[u8; 4]> = bytes.chunks_exact(4).map(|c| c.try_into().unwrap()).collect();
        let header: Vec<usize> =
            words[..7].iter().map(|w| i32::from_le_bytes(*w).unsigned_abs() as usize).collect();
        let &[dim, n_hidden, n_layers, n_heads, n_kv_heads, n_vocab, n_context] = &header[..]
        else {
            panic!("seven fields");
        };
        let mut numbers = words[7..].iter().map(|word| f64::from(f32::from_le_bytes(*word)));
        let mut take = |n: usize| numbers.by_ref().take(n).collect::<Vec<f64>>();
        let kv_dim = dim / n_heads * n_kv_heads;
        let embedding = take(n_vocab * dim);
        // Each kind of weight is stored for all layers at once.
        let sizes = [1, dim, kv_dim, kv_dim, dim, 1, n_hidden, n_hidden, n_hidden];
        let mut kinds = sizes.map(|n| (0..n_layers).map(|_| take(n * dim)).collect::<Vec<_>>());
        let mut next = |kind: usize, layer: usize| std::mem::take(&mut kinds[kind][layer]);
        let layers = (0..n_layers).map(|layer| Layer {
            attention_norm: next(0, layer),
            q: next(1, layer),
            k: next(2, layer),
            v: next(3, layer),
            o: next(4, layer),
            mlp_norm: next(5, layer),
            gate: next(6, layer),
            down: next(7, layer),
            up: next(8, layer),
        });
        let layers = layers.collect();
        let norm = take(dim);
        Self { dim, n_hidden, n_heads, n_kv_heads, n_context, n_vocab, embedding, layers, norm }
    }

    fn round_weights(&mut self, per_unit: f64) {
        for layer in &mut self.layers {
            let Layer { q, k, v, o, gate, down, up, .. } = layer;
            for weight in [q, k, v, o, gate, down, up].into_iter().flatten() {
                *weight = (*weight * per_unit).round() / per_unit;
            }
        }
    }

    /// Adds the attention of one position to `x`; `cache` holds the keys and values so far.
    fn attend(&self, layer: &Layer, cache: &mut [Vec<Vec<f64>>; 2], x: &mut [f64]) {
        let head_dim = self.dim / self.n_heads;
        let h = rms_norm(x, &layer.attention_norm);
        let position = cache[0].len();
        let rotated = |mut row: Vec<f64>| {
            for (i, pair) in row.chunks_exact_mut(2).enumerate() {
                let power = (2 * i % head_dim) as f64 / head_dim as f64;
                let (sin, cos) = (position as f64 / 10000f64.powf(power)).sin_cos();
                (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
            }
            row
        };
        let q = rotated(matvec(&layer.q, &h));
        cache[0].push(rotated(matvec(&layer.k, &h)));
        cache[1].push(matvec(&layer.v, &h));
        let mut out = vec![0.0; self.dim];
        for head in 0..self.n_heads {
            let kv = head / (self.n_heads / self.n_kv_heads) * head_dim;
            let query = &q[head * head_dim..][..head_dim];
            let score = |key: &Vec<f64>| dot(query, &key[kv..][..head_dim]);
            let scores: Vec<f64> =
                cache[0].iter().map(|key| (score(key) / (head_dim as f64).sqrt()).exp()).collect();
            let total: f64 = scores.iter().sum();
            for (score, value) in scores.iter().zip(&cache[1]) {
                let into = &mut out[head * head_dim..][..head_dim];
                into.iter_mut().zip(&value[kv..]).for_each(|(out, v)| *out += score / total * v);
            }
        }
        x.iter_mut().zip(matvec(&layer.o, &out)).for_each(|(x, y)| *x += y);
    }

    fn mlp(&self, layer: &Layer, x: &mut [f64]) {
        let h = rms_norm(x, &layer.mlp_norm);
        let gate = matvec(&layer.gate, &h).into_iter().map(|g| g / (1.0 + (-g).exp()));
        let hidden: Vec<f64> = gate.zip(matvec(&layer.up, &h)).map(|(g, u)| g * u).collect();
        assert_eq!(hidden.len(), self.n_hidden);
        x.iter_mut().zip(matvec(&layer.down, &hidden)).for_each(|(x, y)| *x += y);
    }
}

impl LanguageModel for Llama {
    fn vocab_len(&self) -> usize {
        self.n_vocab
    }

    fn context_len(&self) -> usize {
        self.n_context
    }

    fn score(&mut self, tokens: &[u32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<(), String> {
        let mut caches: Vec<[Vec<Vec<f64>>; 2]> =
            self.layers.iter().map(|_| Default::default()).collect();
        for (at, token) in tokens.iter().enumerate() {
            let mut x = self.embedding[*token as usize * self.dim..][..self.dim].to_vec();
            for (layer, cache) in self.layers.iter().zip(&mut caches) {
                self.attend(layer, cache, &mut x);
                self.mlp(layer, &mut x);
            }
            let logits = matvec(&self.embedding, &rms_norm(&x, &self.norm));
            sink(at, &logits.iter().map(|logit| *logit as f32).collect::<Vec<f32>>());
        }
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn matvec(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn rms_norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let scale = 1.0 / (dot(x, x) / x.len() as f64 + 1e-5).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
}

/// llama2.c's tokenizer: a space before the text, then the best-scored pair merged until none is.
struct Tokenizer {
    pieces: Vec<Vec<u8>>,
    scores: Vec<f32>,
    ids: HashMap<Vec<u8>, u32>,
}

impl Tokenizer {
    fn open(path: &Path, n_vocab: usize) -> Self {
        let bytes = fs::read(path).unwrap();
        let word = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap();
        let (mut at, mut pieces, mut scores) = (4, vec![], vec![]);
        for _ in 0..n_vocab {
            let len = i32::from_le_bytes(word(at + 4)) as usize;
            scores.push(f32::from_le_bytes(word(at)));
            pieces.push(bytes[at + 8..at + 8 + len].to_vec());
            at += 8 + len;
        }
        let ids = pieces.iter().enumerate().rev().map(|(i, p)| (p.clone(), i as u32)).collect();
        Self { pieces, scores, ids }
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        for character in " ".chars().chain(text.chars()) {
            let bytes = character.to_string().into_bytes();
            match self.ids.get(&bytes) {
                Some(id) => tokens.push(*id),
                // Bytes stand behind the three special tokens.
                None => tokens.extend(bytes.iter().map(|byte| u32::from(*byte) + 3)),
            }
        }
        while let Some((at, id)) = self.best_merge(&tokens) {
            tokens.splice(at..at + 2, [id]);
        }
        tokens
    }

    fn best_merge(&self, tokens: &[u32]) -> Option<(usize, u32)> {
        let mut best: Option<(f32, usize, u32)> = None;
        for (at, pair) in tokens.windows(2).enumerate() {
            let merged =
                [&self.pieces[pair[0] as usize][..], &self.pieces[pair[1] as usize]].concat();
            let Some(&id) = self.ids.get(&merged) else { continue };
            let score = self.scores[id as usize];
            if best.is_none_or(|(best_score, ..)| score > best_score) {
                best = Some((score, at, id));
            }
        }
        best.map(|(_, at, id)| (at, id))
    }
}
