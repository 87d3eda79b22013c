//! `POST /tokenize` and `/detokenize`, as llama.cpp has them.

use crate::asked::Asked;
use crate::errors::ApiError;
use crate::fields::{integer, wrong};
use crate::posted::Posted;
use crate::tables::{DETOKENIZE, TOKENIZE};
use axum::Json;
use serde_json::{Value, json};

/// The tokens of a text. With `add_special` those that the model expects around it too; spellings
/// of control tokens are tokens, unless `parse_special` is false; `with_pieces` shows each token's
/// text, or its bytes where they are no text on their own.
pub async fn tokenize(posted: Posted) -> Result<Json<Value>, ApiError> {
    let work = |posted: &Posted| {
        let asked = Asked::read(posted, TOKENIZE)?;
        let fields = asked.fields();
        let tokenizer = &asked.model.served.tokenizer;
        let Some(content) = fields.text("content")? else {
            return Err(ApiError::invalid("content", "content is missing; it is the text"));
        };
        let add_special = fields.flag("add_special")?.unwrap_or(false);
        let parse_special = fields.flag("parse_special")?.unwrap_or(true);
        let tokens = tokenizer.encode_special(content, add_special, parse_special);
        let piece = |&id: &u32| {
            let bytes = tokenizer.token_bytes(id);
            // A control token adds no bytes to a text; its spelling says what it is.
            let spelling = || tokenizer.token(id).unwrap_or_default().into();
            let piece: Value = match std::str::from_utf8(&bytes) {
                Ok("") => spelling(),
                Ok(text) => text.into(),
                Err(_) => bytes.to_vec().into(),
            };
            json!({ "id": id, "piece": piece })
        };
        let tokens: Value = match fields.flag("with_pieces")?.unwrap_or(false) {
            true => tokens.iter().map(piece).collect(),
            false => tokens.into(),
        };
        Ok(Json(asked.with_warnings(json!({ "tokens": tokens }))))
    };
    posted.read(work).await
}

/// The text of tokens.
pub async fn detokenize(posted: Posted) -> Result<Json<Value>, ApiError> {
    let work = |posted: &Posted| {
        let asked = Asked::read(posted, DETOKENIZE)?;
        let tokenizer = &asked.model.served.tokenizer;
        let Some(values) = asked.fields().list("tokens")? else {
            return Err(ApiError::invalid("tokens", "tokens is missing; it is an array of them"));
        };
        let wanted = format!("a token from 0 to {}", tokenizer.vocab_len().saturating_sub(1));
        let token = |(index, value): (usize, &Value)| {
            let id = integer(value).and_then(|id| u32::try_from(id).ok());
            let id = id.filter(|&id| (id as usize) < tokenizer.vocab_len());
            id.ok_or_else(|| wrong(&format!("tokens[{index}]"), value, &wanted))
        };
        let tokens: Vec<u32> = values.iter().enumerate().map(token).collect::<Result<_, _>>()?;
        let content = tokenizer.decode(&tokens);
        Ok(Json(asked.with_warnings(json!({ "content": content }))))
    };
    posted.read(work).await
}
