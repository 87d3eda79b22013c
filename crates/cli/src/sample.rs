//! A short text by a model, the same for the same seed on every machine.

use crate::interrupt;
use crate::scoring::Scorer;
use crate::show::bad_input;
use sterna_measure::LanguageModel;
use sterna_runtime::sample::{Sampler, SamplerSettings};

/// The prompt and at most `n` tokens more.
///
/// # Errors
/// When the prompt is empty or too long, or the model cannot be run.
pub fn continuation(
    model: &mut Scorer,
    prompt: &str,
    n: usize,
    settings: SamplerSettings,
) -> anyhow::Result<String> {
    let tokenizer = model.tokenizer()?.clone();
    let mut tokens = tokenizer.encode(prompt, true);
    if tokens.is_empty() {
        return Err(bad_input("the prompt is empty and this model has no BOS to begin with"));
    }
    model.check_context(tokens.len())?;
    let n = n.min(model.context_len() - tokens.len());
    let mut sampler = Sampler::new(settings);
    let mut decoder = tokenizer.continuation();
    let mut text = prompt.to_owned();
    let mut generation = model.generation();
    let mut logits = generation.push(&tokens)?.to_vec();
    for _ in 0..n {
        let token = sampler.sample(&logits, &tokens)?;
        if tokenizer.is_end(token) || interrupt::stopped() {
            break;
        }
        tokens.push(token);
        text += &decoder.push(token);
        logits.copy_from_slice(generation.push(&[token])?);
    }
    Ok(text + &decoder.finish())
}
