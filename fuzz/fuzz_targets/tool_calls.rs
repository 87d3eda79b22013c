//! Any text as a model's answer, in pieces and at once, in each form of tool calls: the same comes
//! out, the calls have arguments that are JSON objects, and what is no call is all there.
#![no_main]

use sterna_server::calls::{FORMATS, Format, Reader, Said};

/// All that is said of these pieces.
fn read(format: &'static dyn Format, pieces: &[&str]) -> Said {
    let names = ["get", "get_weather"].map(str::to_owned).to_vec();
    let mut reader = Reader::new(format, names);
    let mut all = Said::default();
    for piece in pieces {
        let said = reader.push(piece);
        all.text += &said.text;
        all.calls.extend(said.calls);
    }
    let last = reader.finish();
    all.text += &last.text;
    all.calls.extend(last.calls);
    all
}

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, &str)| {
    let (lens, answer) = input;
    let mut pieces = Vec::new();
    let mut rest = answer;
    for len in lens {
        let n = rest.char_indices().map(|(at, _)| at).nth(len.into()).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(n);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    for &format in FORMATS {
        let whole = read(format, &[answer]);
        assert_eq!(read(format, &pieces), whole, "{}", format.name());
        assert!(whole.calls.is_empty() == (whole.text == answer), "{}", format.name());
        for call in &whole.calls {
            let object = call.arguments.trim();
            assert!(object.starts_with('{') && object.ends_with('}'), "{object}");
        }
    }
});
