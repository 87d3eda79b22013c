//! Text by a model, as it comes; the same for the same seed on every machine.

use crate::interrupt;
use crate::scoring::Scorer;
use crate::show::bad_input;
use sterna_measure::clock::RealClock;
use sterna_measure::{Clock, LanguageModel};
use sterna_runtime::sample::{Sampler, SamplerSettings};

/// What to go on from, and how far.
pub struct Request<'a> {
    /// The text to go on from.
    pub prompt: &'a str,
    /// Read special tokens in it as tokens, not as text.
    pub special: bool,
    /// Tokens at most.
    pub n_predict: usize,
    /// Go on past the end-of-text token.
    pub ignore_eos: bool,
}

/// What a generation came to: seconds and tokens of the two phases.
pub struct Generated {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Seconds that reading it took.
    pub prompt_seconds: f64,
    /// Tokens that came.
    pub new_tokens: usize,
    /// Seconds that they took.
    pub new_seconds: f64,
    /// Whether the context is full.
    pub is_full: bool,
}

/// Gives the prompt and what follows to `sink`, piece by piece, until the model ends, the request's
/// limit or the context is reached, or the user stops it.
///
/// # Errors
/// When the prompt is empty or too long, the model cannot be run, or the sink fails.
pub fn stream(
    model: &mut Scorer,
    request: &Request<'_>,
    settings: SamplerSettings,
    sink: &mut dyn FnMut(&str) -> std::io::Result<()>,
) -> anyhow::Result<Generated> {
    let clock = RealClock::new();
    let tokenizer = model.tokenizer()?.clone();
    let mut tokens = tokenizer.encode_special(request.prompt, true, request.special);
    if tokens.is_empty() {
        return Err(bad_input("the prompt is empty and this model has no BOS to begin with"));
    }
    model.check_context(tokens.len())?;
    let (context_len, n_prompt) = (model.context_len(), tokens.len());
    let mut sampler = Sampler::new(settings);
    let mut decoder = tokenizer.continuation();
    sink(request.prompt)?;
    let start = clock.now();
    let mut generation = model.generation();
    let mut logits = generation.push(&tokens)?.to_vec();
    let prompt_seconds = (clock.now() - start).as_secs_f64();
    let start = clock.now();
    let mut is_full = false;
    while tokens.len() - n_prompt < request.n_predict && !interrupt::stopped() {
        let token = sampler.sample(&logits, &tokens)?;
        if tokenizer.is_end(token) && !request.ignore_eos {
            break;
        }
        tokens.push(token);
        sink(&decoder.push(token))?;
        is_full = tokens.len() >= context_len;
        if is_full {
            break;
        }
        logits.copy_from_slice(generation.push(&[token])?);
    }
    let new_seconds = (clock.now() - start).as_secs_f64();
    sink(&decoder.finish())?;
    let new_tokens = tokens.len() - n_prompt;
    Ok(Generated { prompt_tokens: n_prompt, prompt_seconds, new_tokens, new_seconds, is_full })
}

/// The prompt and at most `n_predict` tokens more, as one text.
///
/// # Errors
/// As [`stream`].
pub fn continuation(
    model: &mut Scorer,
    prompt: &str,
    n_predict: usize,
    settings: SamplerSettings,
) -> anyhow::Result<String> {
    let mut text = String::new();
    let request = Request { prompt, special: false, n_predict, ignore_eos: false };
    stream(model, &request, settings, &mut |part| {
        text += part;
        Ok(())
    })?;
    Ok(text)
}
