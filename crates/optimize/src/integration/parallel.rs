//! What all workers do in less time than one: interleaved, with the same bits (K-4).

use crate::engine::Engine;
use crate::error::Result;
use crate::pipeline::speed;
use sterna_measure::compare::{self, timed};
use sterna_measure::quality::Passages;
use sterna_measure::{Clock, Figure, LanguageModel, MeasureError, Unit};
use sterna_model::Model;

/// Rounds of one worker and all.
const N_ROUNDS: usize = 10;
/// Tokens of a run at most.
const N_TOKENS: usize = 128;
/// The figure's name.
pub const NAME: &str = "parallel_speedup";

/// Measures a model on one worker and on many.
///
/// # Errors
/// When it cannot be run, or does not say the same.
pub fn speedup(
    model: &Model,
    one: &dyn Engine,
    many: &dyn Engine,
    text: &Passages,
    clock: &dyn Clock,
) -> Result<Figure> {
    let method = format!(
        "time of 1 worker over that of {}: the artifact reads a prompt, interleaved; the logits \
         are the same to the bit",
        many.n_threads()
    );
    if many.n_threads() < 2 {
        let reason = "there is only one worker here";
        return Ok(Figure::unavailable(NAME, Unit::Ratio, &method, reason)?);
    }
    let (mut a, mut b) = (many.load(&model.graph, model)?, one.load(&model.graph, model)?);
    let tokens = speed::tokens(text);
    let tokens = &tokens[..tokens.len().min(N_TOKENS).min(a.context_len())];
    if bits(&mut *a, tokens)? != bits(&mut *b, tokens)? {
        let why = "one worker and all do not say the same".into();
        return Err(MeasureError::Failed { what: NAME.into(), why }.into());
    }
    let settings = compare::Settings {
        n_warmup: 1,
        max_rounds: N_ROUNDS,
        min_rounds: N_ROUNDS,
        ..compare::Settings::default()
    };
    let run = |model: &mut dyn LanguageModel| model.score(tokens, &mut |_, _| {});
    let comparison = compare::compare(
        &mut timed(clock, || run(&mut *a)),
        &mut timed(clock, || run(&mut *b)),
        &settings,
    )?;
    Ok(comparison.figure(NAME, &method)?)
}

/// A hash of all logits.
fn bits(
    model: &mut dyn LanguageModel,
    tokens: &[u32],
) -> std::result::Result<blake3::Hash, MeasureError> {
    let mut hasher = blake3::Hasher::new();
    let mut sink = |_: usize, logits: &[f32]| {
        logits.iter().for_each(|logit| {
            hasher.update(&logit.to_le_bytes());
        });
    };
    let scored = model.score(tokens, &mut sink);
    scored.map_err(|why| MeasureError::Failed { what: NAME.into(), why })?;
    Ok(hasher.finalize())
}
