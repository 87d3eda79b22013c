//! `POST /v1/embeddings`: texts as vectors of length 1, as OpenAI has it.
//!
//! [`embed`] is what routes of other APIs share: tokens in, vectors out. Inputs go through the
//! engine's scheduler like any request, beside those that generate.

use crate::access::Notes;
use crate::asked::Asked;
use crate::completions::prompts;
use crate::cost::Cost;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::generation::{allowed, class, note};
use crate::hints;
use crate::posted::Posted;
use crate::running::Running;
use crate::tables::EMBEDDINGS;
use axum::Json;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::{Number, Value, json};
use std::time::Duration;
use sterna_engine::embedding::unit;
use sterna_engine::{EngineError, Finished, Output, Request};
use tokio::time::Instant;

/// Inputs at most, as OpenAI has it.
const MAX_INPUTS: usize = 2048;
/// Inputs of one request that the engine has at once: others must find room in its queue.
const AT_ONCE: usize = 64;

/// Vectors of some inputs.
pub struct Embedded {
    /// One for each input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// What they cost.
    pub cost: Cost,
}

/// Embeds inputs; `like` says for whom and how urgently. With `dimensions`, vectors are cut to so
/// many and brought back to length 1.
///
/// # Errors
/// When the model makes no embeddings, or none so long, or the engine does not take an input.
pub async fn embed(
    asked: &Asked,
    inputs: Vec<Vec<u32>>,
    like: &Request,
    dimensions: Option<usize>,
) -> Result<Embedded, ApiError> {
    let Some(pooling) = asked.model.served.pooling else {
        let message = "this model's file asks for a pooling that is not there; mean, last and, for \
                       encoders, first are";
        return Err(ApiError::unsupported("model", message));
    };
    let quotas = asked.policy.quotas;
    let at_once = quotas.concurrent_requests.map_or(AT_ONCE, |most| AT_ONCE.min(most as usize));
    quotas.check(&asked.agent, inputs.len(), 1)?;
    let started = Instant::now();
    let (mut vectors, mut finished) = (Vec::with_capacity(inputs.len()), Vec::new());
    let mut inputs = inputs.into_iter();
    while inputs.len() > 0 {
        let (embed, deadline) = (Some(pooling), left(like.deadline, started.elapsed())?);
        let request = |prompt| Request { prompt, max_tokens: 0, embed, deadline, ..like.clone() };
        let requests = inputs.by_ref().take(at_once).map(request).collect();
        for mut end in all(Running::start(&asked.model, requests, 1)?.uncounted()).await? {
            let ended = || EngineError::Internal("it ended without an embedding".into());
            vectors.push(cut(end.embedding.take().ok_or_else(ended)?, dimensions)?);
            finished.push(end);
        }
    }
    let cost = Cost::of(&finished, 1);
    Notes::current().note().cost = Some(cost.clone());
    Ok(Embedded { vectors, cost })
}

/// What is left of the time until a deadline.
fn left(deadline: Option<Duration>, passed: Duration) -> Result<Option<Duration>, EngineError> {
    let Some(deadline) = deadline else { return Ok(None) };
    let left = deadline.checked_sub(passed).filter(|left| !left.is_zero());
    left.map(Some).ok_or(EngineError::DeadlineMissed)
}

/// The ends of all that run.
async fn all(mut running: Running) -> Result<Vec<Finished>, ApiError> {
    let mut ends = vec![None; running.len()];
    while let Some((index, output)) = running.next().await {
        match output {
            Output::Finished(end) => ends[index] = Some(end),
            Output::Failed(error) => return Err(error.into()),
            Output::Prompt(_) | Output::Token { .. } => {}
        }
    }
    Ok(ends.into_iter().flatten().collect())
}

/// The first `dimensions` of a vector, with length 1 again.
fn cut(vector: Vec<f32>, dimensions: Option<usize>) -> Result<Vec<f32>, ApiError> {
    let Some(n) = dimensions.filter(|&n| n != vector.len()) else { return Ok(vector) };
    if n > vector.len() {
        let message = format!("dimensions is {n}; this model's embeddings have {}", vector.len());
        return Err(ApiError::invalid("dimensions", message));
    }
    let first: Vec<f64> = vector[..n].iter().copied().map(f64::from).collect();
    Ok(unit(&first))
}

/// What a body asks for.
struct Wanted {
    asked: Asked,
    inputs: Vec<Vec<u32>>,
    like: Request,
    dimensions: Option<usize>,
    is_base64: bool,
}

/// Embeds the inputs of a body.
pub async fn create(posted: Posted) -> Result<Response, ApiError> {
    let Wanted { asked, inputs, like, dimensions, is_base64 } = posted.read(prepare).await?;
    let found = embed(&asked, inputs, &like, dimensions).await?;
    let entry = |(index, vector): (usize, &Vec<f32>)| {
        let embedding = if is_base64 { base64(vector).into() } else { numbers(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let tokens = found.cost.prompt_tokens;
    let answer = json!({
        "object": "list",
        "data": found.vectors.iter().enumerate().map(entry).collect::<Vec<_>>(),
        "model": asked.model.served.name,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    Ok(respond(asked.with_warnings(answer), &found.cost, &like))
}

/// An answer with what it cost and how urgent it was.
pub fn respond(answer: Value, cost: &Cost, like: &Request) -> Response {
    let mut response = Json(answer).into_response();
    cost.show_in(response.headers_mut());
    let class = HeaderValue::from_static(like.class.name());
    response.headers_mut().insert("x-priority-class", class);
    response
}

fn prepare(posted: &Posted) -> Result<Wanted, ApiError> {
    let mut asked = Asked::read(posted, EMBEDDINGS)?;
    let fields = asked.fields();
    let is_base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("encoding_format is \"{other}\"; it must be float or base64");
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let dimensions = dimensions(fields)?;
    let inputs = prompts(fields, "input", &asked.model.served.tokenizer)?;
    check_number(inputs.len())?;
    let inputs = inputs.into_iter().map(|input| input.tokens).collect();
    let like = like(&mut asked, &posted.headers)?;
    Ok(Wanted { inputs, like, dimensions, is_base64, asked })
}

/// For whom embeddings are, and how urgently.
///
/// # Errors
/// For the first parameter that is wrong.
pub fn like(asked: &mut Asked, headers: &HeaderMap) -> Result<Request, ApiError> {
    let fields = asked.fields();
    let class = class(fields)?;
    let (agent, share) = (asked.agent.clone(), asked.policy.share);
    let mut like = Request { agent, share, ..Request::default() };
    let warnings = hints::read(fields, headers, asked.is_strict, &mut like)?;
    asked.warnings.extend(warnings);
    like.class = allowed(class, asked)?;
    note(&like);
    // Of a prompt that nothing follows, nothing is kept for later.
    Ok(Request { session: None, expected_tokens: None, ..like })
}

/// How many numbers an embedding is to have.
///
/// # Errors
/// When it is no number above 0.
pub fn dimensions(fields: Fields<'_>) -> Result<Option<usize>, ApiError> {
    Ok(fields.integer("dimensions", 1, i64::MAX)?.map(|n| n as usize))
}

/// Checks the number of inputs.
///
/// # Errors
/// When there are too many.
pub fn check_number(n_inputs: usize) -> Result<(), ApiError> {
    if n_inputs <= MAX_INPUTS {
        return Ok(());
    }
    let message = format!("input has {n_inputs} texts; at most {MAX_INPUTS} are taken at once");
    Err(ApiError::invalid("input", message))
}

/// Numbers with the digits that a 32-bit one has, and no more.
pub fn numbers(vector: &[f32]) -> Value {
    let number = |x: &f32| x.to_string().parse().ok().and_then(Number::from_f64);
    vector.iter().map(|x| number(x).map_or(Value::Null, Value::Number)).collect()
}

/// The bytes of 32-bit numbers, the least significant first, as RFC 4648 writes bytes.
fn base64(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let at = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= three.len() { DIGITS[at as usize].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_written_as_numbers_or_bytes() {
        assert_eq!(numbers(&[0.6, -1.0, 0.0]).to_string(), "[0.6,-1.0,0.0]");
        // As Python's base64 and struct write them.
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(base64(&[1.0, -2.5, 0.1]), "AACAPwAAIMDNzMw9");
    }

    #[test]
    fn cut_vectors_have_length_one_again() {
        let vector = vec![0.6, 0.0, 0.8];
        assert_eq!(cut(vector.clone(), None).unwrap(), vector);
        assert_eq!(cut(vector.clone(), Some(3)).unwrap(), vector);
        assert_eq!(cut(vector.clone(), Some(2)).unwrap(), [1.0, 0.0]);
        assert!(cut(vector, Some(4)).is_err());
    }
}
