//! Any bytes as a gguf file: an error or a checkpoint that can be read, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if !bytes.is_empty() {
        sterna_fuzz::walk(&sterna_fuzz::file("m.gguf", bytes));
    }
});
