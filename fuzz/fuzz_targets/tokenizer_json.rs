//! Any text as a `tokenizer.json`: an error or a tokenizer that encodes and decodes, never a panic.
#![no_main]

use sterna_model::Tokenizer;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(tokenizer) = Tokenizer::from_json_text(text) {
        let ids = tokenizer.encode("Once upon a time, naïve\n\0<s> 日本", true);
        std::hint::black_box(tokenizer.decode(&ids));
        let _ = std::hint::black_box(tokenizer.to_metadata());
    }
});
