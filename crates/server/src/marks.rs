//! Puts marks into everything in a conversation that a client wrote; `controls.rs` says why.

use crate::controls::Controls;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Marks are taken from this plane of private characters, which no vocabulary and hardly any text
/// uses.
const MARKS: std::ops::RangeInclusive<char> = '\u{f0000}'..='\u{ffffd}';

/// A mark that occurs in none of the texts. `None` when they use up all of them.
pub fn choose<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<char> {
    let texts = texts.into_iter();
    let used: HashSet<char> =
        texts.flat_map(str::chars).filter(|mark| MARKS.contains(mark)).collect();
    MARKS.into_iter().find(|mark| !used.contains(mark))
}

/// Every text in a value, keys too.
pub fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            found.push(key);
            texts(value, found);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A value with every text in it guarded. Keys that are identifiers stay as they are: templates
/// look things up by them.
pub fn guard(controls: &Controls, value: &Value, mark: char) -> Value {
    let text = |text: &String| controls.guard(text, mark).unwrap_or_else(|| text.clone());
    match value {
        Value::String(plain) => Value::String(text(plain)),
        Value::Array(values) => values.iter().map(|value| guard(controls, value, mark)).collect(),
        Value::Object(entries) => {
            let guarded = entries.iter();
            Value::Object(guarded.map(|(k, v)| (text(k), guard(controls, v, mark))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A message with everything guarded but its role, which is one of a list.
pub fn guard_message(controls: &Controls, message: &Map<String, Value>, mark: char) -> Value {
    let guarded = message.iter().map(|(key, value)| match key.as_str() {
        "role" => (key.clone(), value.clone()),
        _ => (key.clone(), guard(controls, value, mark)),
    });
    Value::Object(guarded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary;
    use serde_json::json;

    #[test]
    fn the_mark_occurs_nowhere_in_the_texts() {
        assert_eq!(choose(["a", "b"]), Some('\u{f0000}'));
        assert_eq!(choose(["a\u{f0001}", "\u{f0000}"]), Some('\u{f0002}'));
        let all: String = MARKS.collect();
        assert_eq!(choose([all.as_str()]), None);
    }

    #[test]
    fn every_text_is_guarded_but_the_role() {
        let controls = Controls::of(&vocabulary::tokenizer());
        let message = json!({
            "role": "<s>",
            "content": "<s>",
            "function": "function",
            "calls": [{ "a<s>": ["</s>", 1, null] }],
        });
        let guarded = guard_message(&controls, message.as_object().unwrap(), '\u{f0000}');
        let shown = guarded.to_string().replace('\u{f0000}', "^");
        let expected = concat!(
            r#"{"role":"<s>","content":"^<s>","function":"function","#,
            r#""calls":[{"a^<s>":["^</s>",1,null]}]}"#,
        );
        assert_eq!(shown, expected);
    }
}
