//! A vocabulary small enough to follow by hand: a token for each byte, whose id is the byte, and
//! the control tokens of a chat model.
#![allow(dead_code, reason = "not every test spells every token")]

use serde_json::{Map, Value, json};
use sterna_model::Tokenizer;

/// `<s>`, which begins every text.
pub const BOS: u32 = 256;
/// `<|im_start|>`.
pub const START: u32 = 258;
/// `<|im_end|>`, which ends a generation.
pub const END: u32 = 259;

/// The token of a byte.
pub fn byte(byte: u8) -> u32 {
    u32::from(byte)
}

/// The tokens of a text without control tokens.
pub fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(byte).collect()
}

/// The tokenizer.
pub fn tokenizer() -> Tokenizer {
    let controls = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];
    let added = controls.iter().zip(256..).map(|(text, id)| {
        json!({
            "id": id, "content": text, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        })
    });
    let spelled = (0..=255u8).map(|byte| (character(byte).to_string(), json!(byte)));
    let vocab: Map<String, Value> = spelled.collect();
    let json = json!({
        "version": "1.0",
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [256], "tokens": ["<s>"] } },
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    Tokenizer::from_json_text(&json.to_string()).unwrap()
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, the other 68 bytes follow from U+0100.
fn character(byte: u8) -> char {
    let shifted = match byte {
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
        _ => u32::from(byte),
    };
    char::from_u32(shifted).unwrap()
}
