//! Fake quantization: the weights as the encoding will store them.
//!
//! In: full-precision weights and how far training is. Out: the numbers the forward pass sees.
//! Gradients are taken with respect to those numbers and applied to the full-precision weights: the
//! straight-through estimator (Bengio et al. 2013), whose derivative is one.

#[cfg(test)]
mod tests;

use crate::TrainError;
use crate::config::Quantize;
use sterna_formats::EncodingRef;
use sterna_formats::encodings;
use sterna_model::{Graph, Role, WeightDecl, WeightId};

/// The value of a ternary or binary matrix: one scale, the mean of all magnitudes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codes {
    /// As [`encode`](sterna_formats::Encoding::encode) chooses.
    Encoding,
    /// -1, 0, 1 times the mean magnitude (BitNet b1.58).
    Ternary,
    /// -1, 1 times the mean magnitude (BitNet).
    Binary,
}

/// How one weight is stored.
#[derive(Clone, Copy, Debug)]
struct Rule {
    encoding: EncodingRef,
    codes: Codes,
}

/// How each weight of a graph is stored, and seen in training.
pub struct Quantizer {
    rules: Vec<Option<Rule>>,
    blend: f64,
    temperature: f64,
}

/// What training uses where a config names no encoding: BitLinear layers are ternary.
pub fn complete(config: &mut Quantize, graph: &Graph) {
    if config.encoding.is_none() && !graph.bit_matrices().is_empty() {
        config.encoding = Some("TQ2_0".to_owned());
    }
}

impl Quantizer {
    /// The rules of a config for a graph.
    ///
    /// # Errors
    /// When rows do not divide into the encoding's blocks.
    pub fn new(config: &Quantize, graph: &Graph) -> Result<Self, TrainError> {
        let mut rules = Vec::new();
        for id in graph.weight_ids() {
            rules.push(rule(config, graph, id)?);
        }
        Ok(Self { rules, blend: config.blend, temperature: config.temperature })
    }

    /// What a weight is stored as: its encoding, or F32 where training keeps full precision.
    pub fn encoding(&self, id: WeightId) -> EncodingRef {
        self.rules[id.0].map_or(&encodings::float32::F32, |rule| rule.encoding)
    }

    /// Whether a weight is seen as anything but itself.
    pub fn applies(&self, id: WeightId) -> bool {
        self.rules[id.0].is_some()
    }

    /// The numbers the forward pass sees. `progress` is the part of the steps done; from
    /// `blend` on, and at 1, they are exactly what the encoding stores.
    pub fn apply(&self, id: WeightId, values: &[f32], cols: usize, progress: f64) -> Vec<f32> {
        let Some(rule) = self.rules[id.0] else { return values.to_vec() };
        let part = if self.blend > 0.0 { (progress / self.blend).min(1.0) } else { 1.0 };
        if part < 1.0 && self.temperature > 0.0 && rule.codes != Codes::Encoding {
            // Geometric annealing down to a temperature at which steps are hard to f32.
            let temperature = self.temperature * (0.01 / self.temperature).powf(part);
            return soft(values, rule.codes, temperature as f32);
        }
        let mut stored = rule.decode(&rule.encode(values, cols), cols);
        if part < 1.0 {
            let blend = |(s, &w): (&mut f32, &f32)| *s = w + (*s - w) * part as f32;
            stored.iter_mut().zip(values).for_each(blend);
        }
        stored
    }

    /// The bytes of a weight in the file, whose numbers are those of [`Quantizer::apply`] at the
    /// end; `None` where training keeps full precision.
    pub fn encode(&self, id: WeightId, values: &[f32], cols: usize) -> Option<Vec<u8>> {
        Some(self.rules[id.0]?.encode(values, cols))
    }

    /// Makes weights that are ternary already ones to train from. Their mean magnitude is their
    /// scale times the part of them that is not zero, so that rounding them again would shrink
    /// them; divided by that part, they round to what they are.
    pub fn make_latent(&self, id: WeightId, values: &mut [f32]) {
        if self.rules[id.0].is_none_or(|rule| rule.codes != Codes::Ternary) {
            return;
        }
        let scale = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        let n_used = values.iter().filter(|v| v.abs() == scale).count();
        let n_zero = values.iter().filter(|v| **v == 0.0).count();
        if n_used > 0 && n_used + n_zero == values.len() {
            let part = n_used as f32 / values.len() as f32;
            values.iter_mut().for_each(|v| *v /= part);
        }
    }
}

impl Rule {
    fn encode(&self, values: &[f32], cols: usize) -> Vec<u8> {
        let mut values = values.to_vec();
        match self.codes {
            Codes::Encoding => {}
            Codes::Ternary => drop(sterna_formats::ternarize(&mut values)),
            Codes::Binary => drop(sterna_formats::binarize(&mut values)),
        }
        let row = self.encoding.row_bytes(cols);
        let mut bytes = vec![0; values.len() / cols * row];
        for (values, bytes) in values.chunks(cols).zip(bytes.chunks_mut(row)) {
            self.encoding.encode(values, None, bytes);
        }
        bytes
    }

    fn decode(&self, bytes: &[u8], cols: usize) -> Vec<f32> {
        let row = self.encoding.row_bytes(cols);
        let mut values = vec![0.0; bytes.len() / row * cols];
        for (bytes, values) in bytes.chunks(row).zip(values.chunks_mut(cols)) {
            self.encoding.decode(bytes, values);
        }
        values
    }
}

fn rule(config: &Quantize, graph: &Graph, id: WeightId) -> Result<Option<Rule>, TrainError> {
    let decl: &WeightDecl = graph.decl(id);
    // A head that sees int8 activations is a BitLinear, as the layers' matrices are.
    let is_bit = graph.bit_matrices().contains(&id);
    let name = match decl.role {
        Role::TokenEmbedding | Role::PositionEmbedding => &config.embedding,
        Role::Head if !is_bit => &config.embedding,
        role if role.is_matrix() => &config.encoding,
        _ => &None,
    };
    let Some(name) = name else { return Ok(None) };
    let encoding = encodings::by_name(name).expect("Config::read has checked the name");
    let (_, cols) = decl.matrix();
    if !encoding.fits(cols) {
        return Err(TrainError::Input(format!(
            "{} has rows of {cols}, which do not divide into the {} of {}; choose another encoding \
             or a model whose widths are multiples of it",
            decl.name,
            encoding.block_len(),
            encoding.name()
        )));
    }
    let codes = match encoding.name() {
        "Q1_0" => Codes::Binary,
        "TQ1_0" | "TQ2_0" if config.binary => Codes::Binary,
        "TQ1_0" | "TQ2_0" => Codes::Ternary,
        _ if config.binary => {
            let problem = format!("quantize.binary is for ternary encodings, not {name}");
            return Err(TrainError::Input(format!("{problem}; choose TQ2_0, TQ1_0 or Q1_0")));
        }
        _ => Codes::Encoding,
    };
    Ok(Some(Rule { encoding, codes }))
}

/// Ternary or binary steps softened by a tanh of this temperature, times the mean magnitude.
fn soft(values: &[f32], codes: Codes, temperature: f32) -> Vec<f32> {
    let sum: f64 = values.iter().map(|w| f64::from(w.abs())).sum();
    let scale = ((sum / values.len() as f64) as f32).max(f32::MIN_POSITIVE);
    let step = |x: f32| (x / temperature).tanh();
    let code = |w: &f32| match codes {
        Codes::Binary => step(w / scale),
        _ => 0.5 * (step(w / scale - 0.5) + step(w / scale + 0.5)),
    };
    values.iter().map(|w| code(w) * scale).collect()
}
