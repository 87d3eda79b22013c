//! Any bytes as a GGUF file's vocabulary: an error, or a tokenizer that encodes and decodes, never
//! a panic.
#![no_main]

use sterna_formats::Checkpoint;
use sterna_model::Tokenizer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if bytes.is_empty() {
        return;
    }
    let Ok(checkpoint) = Checkpoint::open(&sterna_fuzz::file("t.gguf", bytes)) else { return };
    if let Ok(tokenizer) = Tokenizer::from_metadata(&checkpoint.metadata) {
        sterna_fuzz::exercise(&tokenizer);
    }
});
