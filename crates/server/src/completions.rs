//! `POST /v1/completions`: text, or tokens, and what follows them.
//!
//! With `echo` and `logprobs` the prompt's own tokens come back with their log probabilities, which
//! is how lm-evaluation-harness' `local-completions` scores texts.

use crate::answer::{Answer, Piece, Shape};
use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{Fields, integer, wrong};
use crate::generation::{Generation, Limit};
use crate::hints::{PrivateFrom, private_from};
use crate::logprobs::{Columns, n_characters};
use crate::posted::Posted;
use crate::tables::COMPLETIONS;
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use sterna_model::Tokenizer;

/// Tokens to generate where nothing is said, as OpenAI has it.
const DEFAULT_TOKENS: usize = 16;
/// The likeliest tokens that may be listed with each: vLLM's limit.
const MAX_LOGPROBS: i64 = 20;

/// Continues prompts.
pub async fn create(posted: Posted) -> Result<Response, ApiError> {
    posted.read(prepare).await?.respond().await
}

fn prepare(posted: &Posted) -> Result<Answer, ApiError> {
    let mut asked = Asked::read(posted, COMPLETIONS)?;
    let mut generation = Generation::read(&mut asked, &posted.headers)?;
    let fields = asked.fields();
    check_best_of(fields, generation.n)?;
    let has_echo = fields.flag("echo")?.unwrap_or(false);
    let top = fields.integer("logprobs", 0, MAX_LOGPROBS)?.map(|n| n as usize);
    let max_tokens = fields.integer("max_tokens", 0, i64::MAX)?.map(|n| n as usize);
    let request = &mut generation.request;
    request.logprobs = top;
    request.prompt_logprobs = top.filter(|_| has_echo);
    // Whoever scores a prompt asks for one token more and drops the last entry of the columns,
    // so there must be one, even where the model would end its text.
    request.stop.ignore_eos |= request.prompt_logprobs.is_some() && max_tokens == Some(1);
    request.public_tokens = match private_from(fields)? {
        PrivateFrom::Token(n) => n,
        PrivateFrom::System => {
            let message = "cache_salt_from is \"system\", but a text has no system message; give \
                           the number of tokens that everybody may share";
            return Err(ApiError::invalid("cache_salt_from", message));
        }
    };
    let tokenizer = asked.model.served.tokenizer.clone();
    let prompts = prompts(fields, "prompt", &tokenizer)?;
    let context_len = asked.model.served.context_len;
    let limit = Limit { max_tokens, default: DEFAULT_TOKENS, context_len };
    let tokens: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
    let requests = generation.requests(&posted.app, &tokens, limit)?;
    let shape = CompletionShape {
        tokenizer,
        prompts,
        n: generation.n,
        has_echo,
        has_logprobs: top.is_some(),
        offsets: vec![None; requests.len()],
    };
    Answer::start(&posted.app, asked, &generation, requests, Box::new(shape))
}

/// `best_of` candidates, of which the `n` likeliest are shown: here none is thrown away.
fn check_best_of(fields: Fields<'_>, n: usize) -> Result<(), ApiError> {
    match fields.integer("best_of", 1, i64::MAX)? {
        Some(best_of) if best_of != n as i64 => {
            let message = format!("best_of is {best_of} and n is {n}; they must be equal here");
            Err(ApiError::unsupported("best_of", message))
        }
        _ => Ok(()),
    }
}

/// What to continue, or to embed.
pub struct Prompt {
    text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

/// One prompt or several, as texts or as tokens. Texts get what the model expects around them;
/// tokens are taken as they are.
///
/// # Errors
/// When the parameter of that name is missing or is something else.
pub fn prompts(
    fields: Fields<'_>,
    name: &str,
    tokenizer: &Tokenizer,
) -> Result<Vec<Prompt>, ApiError> {
    let wanted = "a text, an array of texts, an array of tokens, or an array of such arrays";
    let Some(value) = fields.get(name) else {
        return Err(ApiError::invalid(name, format!("{name} is missing; it is {wanted}")));
    };
    let of_text = |text: &str| {
        let tokens = tokenizer.encode_special(text, true, false);
        Prompt { text: text.to_owned(), tokens }
    };
    let of_tokens = |tokens: Vec<u32>| Prompt { text: tokenizer.decode(&tokens), tokens };
    let one = |value: &Value| match value {
        Value::String(text) => Some(of_text(text)),
        value => token_ids(value).map(of_tokens),
    };
    if let Some(prompt) = one(value) {
        return Ok(vec![prompt]);
    }
    let Some(values) = value.as_array().filter(|values| !values.is_empty()) else {
        return Err(wrong(name, value, wanted));
    };
    let path = |index: usize| format!("{name}[{index}]");
    let each = values.iter().enumerate();
    each.map(|(i, value)| one(value).ok_or_else(|| wrong(&path(i), value, wanted))).collect()
}

/// An array of tokens; not an empty one, which could be texts too.
fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let values = value.as_array().filter(|values| !values.is_empty())?;
    values.iter().map(|id| integer(id).and_then(|id| u32::try_from(id).ok())).collect()
}

/// How choices of a completion are written.
struct CompletionShape {
    tokenizer: Arc<Tokenizer>,
    prompts: Vec<Prompt>,
    /// Choices of each prompt.
    n: usize,
    has_echo: bool,
    has_logprobs: bool,
    /// Characters of each choice's text so far, by its tokens; `None` before its first piece.
    offsets: Vec<Option<usize>>,
}

impl CompletionShape {
    /// The columns of a piece; those of the first begin with the prompt, where that is echoed.
    fn columns(&mut self, index: usize, piece: &Piece, is_first: bool) -> Columns {
        let tokenizer = &self.tokenizer;
        let mut columns = Columns::default();
        let offset = self.offsets[index].get_or_insert_default();
        let prompt = &self.prompts[index / self.n].tokens;
        if let Some(&first) = prompt.first().filter(|_| self.has_echo && is_first) {
            // Some tokenizers put a space in front of a text, which is not part of it.
            let mut n_strange = n_strange(tokenizer, prompt);
            let mut advance = |token: u32, offset: &mut usize| {
                let n = n_characters(tokenizer, token);
                *offset += n.saturating_sub(n_strange);
                n_strange = n_strange.saturating_sub(n);
            };
            columns.add_first(tokenizer, first, *offset);
            advance(first, offset);
            for token in &piece.prompt {
                columns.add(tokenizer, token, *offset);
                advance(token.token, offset);
            }
        }
        for token in &piece.tokens {
            columns.add(tokenizer, token, *offset);
            *offset += n_characters(tokenizer, token.token);
        }
        columns
    }
}

/// Bytes that encoding put in front of a text: the tokens have them and their text has not.
fn n_strange(tokenizer: &Tokenizer, tokens: &[u32]) -> usize {
    let n_bytes: usize = tokens.iter().map(|&token| tokenizer.token_bytes(token).len()).sum();
    n_bytes.saturating_sub(tokenizer.decode_bytes(tokens).len())
}

impl Shape for CompletionShape {
    fn id_prefix(&self) -> &'static str {
        "cmpl-"
    }

    fn object(&self, _is_chunk: bool) -> &'static str {
        "text_completion"
    }

    fn entry(&mut self, index: usize, piece: &Piece, is_chunk: bool) -> Value {
        let mut text = String::new();
        let is_first = self.offsets[index].is_none();
        if self.has_echo && is_first {
            text += &self.prompts[index / self.n].text;
        }
        text += &piece.text;
        let columns = self.columns(index, piece, is_first);
        let is_shown = self.has_logprobs && !(is_chunk && columns.is_empty());
        let logprobs = if is_shown { columns.json() } else { Value::Null };
        json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": piece.finish_reason(),
        })
    }
}
