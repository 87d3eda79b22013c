//! Llama 3's form: the answer is `{"name": .., "parameters": ..}`, perhaps after
//! `<|python_tag|>`, and several calls have `;` between them.

use super::{Format, Frame, Next, Seen, begins, plain};

/// The control token before a call.
const TAG: &str = "<|python_tag|>";

/// The form.
pub struct Llama;

impl Format for Llama {
    fn name(&self) -> &'static str {
        "llama3_json"
    }

    fn fits(&self, template: &str) -> bool {
        template.contains(TAG)
            || template.contains("<|start_header_id|>") && template.contains("parameters")
    }

    fn controls(&self) -> &'static [&'static str] {
        &[TAG]
    }

    fn frame(&self) -> Frame {
        let (first, open, key) = ("", "", "parameters");
        Frame { first, open, key, close: "", between: "; ", last: "" }
    }

    fn next(&self, text: &str, seen: &Seen<'_>) -> Next {
        if seen.has_text {
            return Next::Text(text.len());
        }
        match begins(text, TAG, seen.is_over) {
            None => Next::Wait,
            Some(false) => plain(text, seen, &[';']),
            Some(true) => match plain(&text[TAG.len()..], seen, &[';']) {
                Next::Calls(calls, n) => Next::Calls(calls, TAG.len() + n),
                // Code for a tool that is not ours to run: text, with the tag that says so.
                Next::Text(_) => Next::Text(text.len()),
                Next::Wait => Next::Wait,
            },
        }
    }
}
