//! Plain JSON: the answer is `{"name": .., "arguments": ..}`, or an array of such objects.

use super::{Format, Frame, Next, Seen, plain};

/// The form.
pub struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn fits(&self, _template: &str) -> bool {
        // What is left when no other does.
        false
    }

    fn frame(&self) -> Frame {
        let (open, key, close) = ("", "arguments", "");
        Frame { first: "[", open, key, close, between: ", ", last: "]" }
    }

    fn next(&self, text: &str, seen: &Seen<'_>) -> Next {
        plain(text, seen, &[])
    }
}
