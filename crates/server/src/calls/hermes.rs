//! The form of Hermes and Qwen: `<tool_call>{"name": .., "arguments": ..}</tool_call>`, anywhere in
//! the answer and any number of times.

use super::{Format, Frame, Marker, Next, Parsed, Seen, begins, calls, find, parse};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// The form.
pub struct Hermes;

impl Format for Hermes {
    fn name(&self) -> &'static str {
        "hermes"
    }

    fn fits(&self, template: &str) -> bool {
        template.contains(OPEN)
    }

    fn controls(&self) -> &'static [&'static str] {
        // Most vocabularies have them as plain text, some as control tokens.
        &[OPEN, CLOSE]
    }

    fn frame(&self) -> Frame {
        let (first, last) = ("", "");
        let (open, close) = ("<tool_call>\n", "\n</tool_call>");
        Frame { first, open, key: "arguments", close, between: "\n", last }
    }

    fn next(&self, text: &str, seen: &Seen<'_>) -> Next {
        match find(text, OPEN, seen.is_over) {
            Marker::Here => {}
            Marker::Later(n) => return Next::Text(n),
            Marker::Perhaps => return Next::Wait,
        }
        let inner = &text[OPEN.len()..];
        let no_call = Next::Text(OPEN.len());
        let (value, n) = match parse(inner) {
            Parsed::Value(value, n) => (value, n),
            Parsed::Open if !seen.is_over => return Next::Wait,
            Parsed::Open | Parsed::No => return no_call,
        };
        let Some(calls) = calls(&value, seen.names) else { return no_call };
        let after = inner[n..].trim_start();
        match begins(after, CLOSE, seen.is_over) {
            None => Next::Wait,
            Some(true) => Next::Calls(calls, text.len() - after.len() + CLOSE.len()),
            // The end is missing, as when the answer was cut: the call is whole all the same.
            Some(false) => Next::Calls(calls, OPEN.len() + n),
        }
    }
}
