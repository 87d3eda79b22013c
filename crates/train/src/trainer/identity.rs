//! What makes two runs the same: decisions as text, and the content that they are about as a hash.
//! Where files lie, and how a run is computed, makes no other run of it.

use super::Job;
use crate::config::{Config, Run};
use crate::distill::Tutor;

/// The parts of a config that a resumed run must share.
pub fn decisions(config: &Config) -> String {
    let mut config = config.clone();
    let Run { seed, precision, .. } = config.run;
    config.run = Run { seed, precision, ..Run::default() };
    (config.data.text, config.data.held_out, config.data.tokenizer) = (vec![], vec![], None);
    (config.model.init, config.model.name) = (None, None);
    (config.teacher.model, config.teacher.cache) = (None, None);
    config.to_toml()
}

/// A hash of the tokens, the weights that training starts from, and the teacher.
pub fn content(job: &Job<'_>, tutor: Option<&Tutor>) -> String {
    let mut hasher = blake3::Hasher::new();
    for tokens in [&job.corpus.train, &job.corpus.held_out] {
        hasher.update(&(tokens.len() as u64).to_le_bytes());
        hasher.update(bytemuck::cast_slice(tokens));
    }
    for (decl, values) in job.graph.weights.iter().zip(&job.weights) {
        hasher.update(decl.name.as_bytes());
        hasher.update(bytemuck::cast_slice(values));
    }
    if let Some(tutor) = tutor {
        hasher.update(tutor.identity().as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
