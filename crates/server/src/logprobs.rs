//! Log probabilities as the two endpoints write them.

use serde_json::{Map, Value, json};
use sterna_engine::TokenLogprob;
use sterna_model::Tokenizer;

/// What is written for a probability of zero: JSON has no infinity, and OpenAI writes this.
const IMPOSSIBLE: f64 = -9999.0;

/// A token's text, and its bytes where it has any. Bytes that are no text on their own are written
/// as `bytes:\xe2\x82`, and control tokens as the vocabulary spells them.
fn spell(tokenizer: &Tokenizer, token: u32) -> (String, Option<Vec<u8>>) {
    let bytes = tokenizer.token_bytes(token).into_owned();
    if bytes.is_empty() {
        return (tokenizer.token(token).unwrap_or_default().to_owned(), None);
    }
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let escaped = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", escaped.collect::<String>())
        }
    };
    (text, Some(bytes))
}

fn number(logprob: f32) -> f64 {
    if logprob.is_finite() { f64::from(logprob) } else { IMPOSSIBLE }
}

/// `logprobs` of a choice of `/v1/chat/completions`.
pub fn chat(tokenizer: &Tokenizer, tokens: &[TokenLogprob]) -> Value {
    let entry = |token: u32, logprob: f32| {
        let (text, bytes) = spell(tokenizer, token);
        let mut entry = Map::new();
        entry.insert("token".into(), text.into());
        entry.insert("logprob".into(), number(logprob).into());
        entry.insert("bytes".into(), bytes.into());
        entry
    };
    let content = tokens.iter().map(|token| {
        let top = token.top.iter().map(|&(token, logprob)| Value::Object(entry(token, logprob)));
        let top: Vec<Value> = top.collect();
        let mut object = entry(token.token, token.logprob);
        object.insert("top_logprobs".into(), top.into());
        Value::Object(object)
    });
    json!({ "content": content.collect::<Vec<_>>(), "refusal": null })
}

/// `logprobs` of a choice of `/v1/completions`: columns with an entry for each token.
#[derive(Debug, Default)]
pub struct Columns {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
}

impl Columns {
    /// Adds a token that follows nothing: the first of a prompt has no probability.
    pub fn add_first(&mut self, tokenizer: &Tokenizer, token: u32, offset: usize) {
        self.tokens.push(spell(tokenizer, token).0.into());
        self.logprobs.push(Value::Null);
        self.top.push(Value::Null);
        self.offsets.push(offset.into());
    }

    /// Adds a token; `offset` is where it begins in the text, in characters. The likeliest tokens
    /// are listed with it, and itself where it is none of them.
    pub fn add(&mut self, tokenizer: &Tokenizer, token: &TokenLogprob, offset: usize) {
        let (text, _) = spell(tokenizer, token.token);
        let mut top = Map::new();
        for &(token, logprob) in &token.top {
            // Of tokens that are spelled alike the likeliest, which comes first, stays.
            let (text, _) = spell(tokenizer, token);
            top.entry(text).or_insert_with(|| number(logprob).into());
        }
        top.entry(text.clone()).or_insert_with(|| number(token.logprob).into());
        self.tokens.push(text.into());
        self.logprobs.push(number(token.logprob).into());
        self.top.push(Value::Object(top));
        self.offsets.push(offset.into());
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The object.
    pub fn json(self) -> Value {
        let Self { tokens, logprobs, top, offsets } = self;
        json!({
            "tokens": tokens,
            "token_logprobs": logprobs,
            "top_logprobs": top,
            "text_offset": offsets,
        })
    }
}

/// Characters that begin in a token's bytes: what it adds to offsets into a text.
pub fn n_characters(tokenizer: &Tokenizer, token: u32) -> usize {
    // Every byte of UTF-8 but 10xxxxxx begins a character.
    tokenizer.token_bytes(token).iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{self, END, byte};

    fn logprob(token: u32, logprob: f32, top: &[(u32, f32)]) -> TokenLogprob {
        TokenLogprob { token, logprob, top: top.to_vec() }
    }

    #[test]
    fn chat_lists_tokens_with_their_bytes() {
        let tokenizer = vocabulary::tokenizer();
        let top = [(byte(b'a'), -0.5), (END, f32::NEG_INFINITY)];
        let json = chat(&tokenizer, &[logprob(byte(0xe2), -1.0, &top)]);
        let expected = json!({
            "content": [{
                "token": "bytes:\\xe2",
                "logprob": -1.0,
                "bytes": [0xe2],
                "top_logprobs": [
                    { "token": "a", "logprob": -0.5, "bytes": [97] },
                    { "token": "<|im_end|>", "logprob": -9999.0, "bytes": null },
                ],
            }],
            "refusal": null,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn columns_list_the_token_itself() {
        let tokenizer = vocabulary::tokenizer();
        let mut columns = Columns::default();
        columns.add_first(&tokenizer, byte(b'x'), 0);
        let (a, b) = (byte(b'a'), byte(b'b'));
        columns.add(&tokenizer, &logprob(a, -2.0, &[(b, -0.25)]), 1);
        columns.add(&tokenizer, &logprob(b, -0.25, &[(b, -0.25)]), 2);
        let expected = json!({
            "tokens": ["x", "a", "b"],
            "token_logprobs": [null, -2.0, -0.25],
            "top_logprobs": [null, { "b": -0.25, "a": -2.0 }, { "b": -0.25 }],
            "text_offset": [0, 1, 2],
        });
        assert_eq!(columns.json(), expected);
        assert_eq!(n_characters(&tokenizer, byte(0xe2)), 1);
        assert_eq!(n_characters(&tokenizer, byte(0x82)), 0);
        assert_eq!(n_characters(&tokenizer, END), 0);
    }
}
