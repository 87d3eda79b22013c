//! `POST /api/embed`, and `/api/embeddings`, which is older and takes one text.
//!
//! Inputs that are too long are cut at their end, as Ollama does where nothing else is said; here
//! the answer says so.

use super::body_of;
use crate::asked::Asked;
use crate::embeddings::{self, Embedded, check_number, dimensions, like, numbers, respond};
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::params::{Table, check};
use crate::posted::Posted;
use crate::tables::{OLLAMA_EMBED, OLLAMA_EMBED_OPTIONS, OLLAMA_EMBEDDINGS};
use axum::response::Response;
use serde_json::{Value, json};
use sterna_engine::Request;

/// Embeds texts.
pub async fn embed(posted: Posted) -> Result<Response, ApiError> {
    let (wanted, found) = answer(posted, OLLAMA_EMBED).await?;
    let nanoseconds = |seconds: f64| (seconds * 1e9).round() as u64;
    let cost = &found.cost;
    let answer = json!({
        "model": wanted.asked.model.served.name,
        "embeddings": found.vectors.iter().map(|vector| numbers(vector)).collect::<Vec<_>>(),
        "total_duration": nanoseconds(cost.queue_seconds + cost.prefill_seconds),
        "load_duration": 0,
        "prompt_eval_count": cost.prompt_tokens,
    });
    Ok(respond(wanted.asked.with_warnings(answer), cost, &wanted.like))
}

/// Embeds a text; without one there is nothing to say, which loads a model at Ollama's.
pub async fn embeddings(posted: Posted) -> Result<Response, ApiError> {
    let (wanted, found) = answer(posted, OLLAMA_EMBEDDINGS).await?;
    let vector = found.vectors.first().map_or(json!([]), |vector| numbers(vector));
    let answer = json!({ "embedding": vector });
    Ok(respond(wanted.asked.with_warnings(answer), &found.cost, &wanted.like))
}

/// What a body asks for.
struct Wanted {
    asked: Asked,
    like: Request,
    inputs: Vec<Vec<u32>>,
    dimensions: Option<usize>,
}

async fn answer(posted: Posted, table: Table) -> Result<(Wanted, Embedded), ApiError> {
    let mut wanted = posted.read(move |posted| prepare(posted, table)).await?;
    let inputs = std::mem::take(&mut wanted.inputs);
    let found = embeddings::embed(&wanted.asked, inputs, &wanted.like, wanted.dimensions).await?;
    Ok((wanted, found))
}

fn prepare(posted: &Posted, table: Table) -> Result<Wanted, ApiError> {
    let mut asked = Asked::of(posted, body_of(posted)?, table)?;
    let context_len = window(&mut asked)?;
    let fields = asked.fields();
    let dimensions = dimensions(fields)?;
    let is_cut = fields.flag("truncate")?.unwrap_or(true);
    let texts = texts(fields)?;
    check_number(texts.len())?;
    let tokenizer = asked.model.served.tokenizer.clone();
    let encode = |text: &String| tokenizer.encode_special(text, true, false);
    let mut inputs: Vec<Vec<u32>> = texts.iter().map(encode).collect();
    for (index, input) in inputs.iter_mut().enumerate().filter(|(_, i)| i.len() > context_len) {
        let n_tokens = input.len();
        if !is_cut {
            let message = format!(
                "input[{index}] has {n_tokens} tokens, and the context {context_len}; send less, \
                 or `truncate`"
            );
            return Err(ApiError::invalid("input", message));
        }
        // What the tokenizer puts behind a text stays there.
        let suffix = tokenizer.suffix();
        input.truncate(context_len.saturating_sub(suffix.len()));
        input.extend(suffix);
        input.truncate(context_len);
        asked.warnings.push(format!(
            "input[{index}] has {n_tokens} tokens and was cut to the first {context_len}"
        ));
    }
    let like = like(&mut asked, &posted.headers)?;
    Ok(Wanted { asked, like, inputs, dimensions })
}

/// The texts to embed: none where a client only wants the model to be loaded.
fn texts(fields: Fields<'_>) -> Result<Vec<String>, ApiError> {
    let wanted = "a text or an array of texts";
    let text = |(index, value): (usize, &Value)| {
        let path = format!("input[{index}]");
        value.as_str().map(str::to_owned).ok_or_else(|| wrong(&path, value, "a text"))
    };
    let prompt = fields.text("prompt")?;
    let texts = match fields.get("input") {
        None => prompt.map(str::to_owned).into_iter().collect(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => {
            values.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?
        }
        Some(other) => return Err(wrong("input", other, wanted)),
    };
    let is_empty = matches!(texts.as_slice(), [only] if only.is_empty());
    Ok(if is_empty { Vec::new() } else { texts })
}

/// Tokens that an input may have: `num_ctx`, or as many as the model is served with.
fn window(asked: &mut Asked) -> Result<usize, ApiError> {
    let most = asked.model.served.context_len;
    let Some(options) = asked.fields().object("options")? else { return Ok(most) };
    let warnings = check("options.", options, OLLAMA_EMBED_OPTIONS, asked.is_strict)?;
    let num_ctx = Fields(options).integer("num_ctx", 1, i64::MAX);
    let num_ctx = num_ctx.map_err(|error| error.renamed("num_ctx", "options.num_ctx"))?;
    asked.warnings.extend(warnings);
    Ok(num_ctx.map_or(most, |n| most.min(n as usize)))
}
