//! Any text as a `tokenizer.json`: an error, or a tokenizer that encodes and decodes, never a
//! panic that leaves it.
#![no_main]

use sterna_model::Tokenizer;

libfuzzer_sys::fuzz_target!(init: report_panics(), |bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(tokenizer) = Tokenizer::from_json_text(text) {
        sterna_fuzz::exercise(&tokenizer);
    }
});

/// libFuzzer's own hook ends the process at any panic, also at those inside the `tokenizers` crate
/// that are caught and become errors. This one only reports ours; libFuzzer still ends the process
/// when a panic leaves the target.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|l| l.file().contains("crates/")) {
            eprintln!("{panic}");
        }
    }));
}
