//! Mistral's form: `[TOOL_CALLS]` and an array of `{"name": .., "arguments": ..}`, or for newer
//! models `[TOOL_CALLS]NAME[ARGS]{..}`; without the marker an array that begins the answer.

use super::{Call, Format, Frame, Marker, Next, Parsed, Seen, begins, calls, find, parse, plain};

const MARKER: &str = "[TOOL_CALLS]";
const ARGUMENTS: &str = "[ARGS]";

/// The form.
pub struct Mistral;

impl Format for Mistral {
    fn name(&self) -> &'static str {
        "mistral"
    }

    fn fits(&self, template: &str) -> bool {
        template.contains(MARKER)
    }

    fn controls(&self) -> &'static [&'static str] {
        &[MARKER, ARGUMENTS]
    }

    fn frame(&self) -> Frame {
        let (open, key, close) = ("", "arguments", "");
        Frame { first: "[", open, key, close, between: ", ", last: "]" }
    }

    fn next(&self, text: &str, seen: &Seen<'_>) -> Next {
        match begins(text, MARKER, seen.is_over) {
            Some(true) => return marked(text, seen),
            None => return Next::Wait,
            Some(false) => {}
        }
        if !seen.has_text && text.starts_with('[') {
            match plain(text, seen, &[]) {
                Next::Text(_) => {}
                found => return found,
            }
        }
        match find(text, MARKER, seen.is_over) {
            Marker::Later(n) => Next::Text(n),
            Marker::Here | Marker::Perhaps => Next::Wait,
        }
    }
}

/// What follows the marker.
fn marked(text: &str, seen: &Seen<'_>) -> Next {
    let no_call = Next::Text(MARKER.len());
    let inner = text[MARKER.len()..].trim_start();
    let wait = if seen.is_over { no_call.clone() } else { Next::Wait };
    if inner.is_empty() {
        return wait;
    }
    if inner.starts_with(['[', '{']) {
        return match parse(inner) {
            Parsed::Open => wait,
            Parsed::No => no_call,
            Parsed::Value(value, n) => match calls(&value, seen.names) {
                Some(calls) => Next::Calls(calls, text.len() - inner.len() + n),
                None => no_call,
            },
        };
    }
    // The longest first: a name may begin another one.
    let mut names: Vec<&String> = seen.names.iter().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        match begins(inner, name, seen.is_over) {
            None => return Next::Wait,
            Some(false) => continue,
            Some(true) => {}
        }
        let after = inner[name.len()..].trim_start();
        let after = match begins(after, ARGUMENTS, seen.is_over) {
            None => return Next::Wait,
            Some(true) => &after[ARGUMENTS.len()..],
            Some(false) => after,
        };
        return match parse(after) {
            Parsed::Open => wait,
            Parsed::Value(value, n) if value.is_object() => {
                let call = Call { name: name.clone(), arguments: value.to_string() };
                Next::Calls(vec![call], text.len() - after.len() + n)
            }
            Parsed::Value(..) | Parsed::No => no_call,
        };
    }
    no_call
}
