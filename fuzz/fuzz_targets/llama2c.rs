//! Any bytes as a llama2.c checkpoint and its tokenizer, cut apart where the first two bytes say:
//! an error or a checkpoint that can be read, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((cut, rest)) = bytes.split_first_chunk::<2>() else { return };
    let cut = usize::from(u16::from_le_bytes(*cut)).min(rest.len());
    let (model, tokenizer) = rest.split_at(cut);
    if model.is_empty() || tokenizer.is_empty() {
        return;
    }
    sterna_fuzz::file("tokenizer.bin", tokenizer);
    sterna_fuzz::walk(&sterna_fuzz::file("m.bin", model));
});
