//! JSON as Python's `json.dumps` writes it: chat templates put it into prompts, and a space more or
//! less is another prompt than the one that the model was trained on.

use serde_json::Value;
use std::fmt::Write;

/// The arguments of `json.dumps`.
#[derive(Clone, Debug)]
pub struct Style {
    /// Write every character above ASCII as `\uXXXX`.
    pub ensure_ascii: bool,
    /// One entry per line, so many spaces deeper at each level.
    pub indent: Option<usize>,
    /// What parts entries, and keys from values.
    pub separators: (String, String),
    /// Keys in order, not as they come.
    pub sort_keys: bool,
}

impl Style {
    /// What Hugging Face's `tojson` does without arguments.
    pub fn new(indent: Option<usize>) -> Self {
        let item = if indent.is_some() { "," } else { ", " };
        let separators = (item.into(), ": ".into());
        Self { ensure_ascii: false, indent, separators, sort_keys: false }
    }
}

/// The JSON text of a value.
pub fn dumps(value: &Value, style: &Style) -> String {
    let mut out = String::new();
    write_value(value, style, 1, &mut out);
    out
}

fn write_value(value: &Value, style: &Style, depth: usize, out: &mut String) {
    match value {
        Value::String(text) => write_text(text, style, out),
        Value::Number(number) if number.is_f64() => {
            out.push_str(&float(number.as_f64().expect("it is one")));
        }
        Value::Array(values) if !values.is_empty() => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                next_entry(index, style, depth, out);
                write_value(value, style, depth + 1, out);
            }
            end(']', style, depth, out);
        }
        Value::Object(entries) if !entries.is_empty() => {
            let mut entries: Vec<_> = entries.iter().collect();
            if style.sort_keys {
                entries.sort_by_key(|&(key, _)| key);
            }
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                next_entry(index, style, depth, out);
                write_text(key, style, out);
                out.push_str(&style.separators.1);
                write_value(value, style, depth + 1, out);
            }
            end('}', style, depth, out);
        }
        // Python and serde_json write these alike.
        plain => out.push_str(&plain.to_string()),
    }
}

fn next_entry(index: usize, style: &Style, depth: usize, out: &mut String) {
    if index > 0 {
        out.push_str(&style.separators.0);
    }
    break_line(style, depth, out);
}

fn end(bracket: char, style: &Style, depth: usize, out: &mut String) {
    break_line(style, depth - 1, out);
    out.push(bracket);
}

fn break_line(style: &Style, depth: usize, out: &mut String) {
    if let Some(indent) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

fn write_text(text: &str, style: &Style, out: &mut String) {
    let json = Value::from(text).to_string();
    if !style.ensure_ascii {
        return out.push_str(&json);
    }
    for c in json.chars() {
        // Marks of `controls.rs` are taken out again before anybody sees them.
        let is_mark = ('\u{f0000}'..='\u{ffffd}').contains(&c);
        if (c.is_ascii() && c != '\u{7f}') || is_mark {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("writing to a string never fails");
        }
    }
}

/// A float as Python's `repr` writes it: the fewest digits that read back the same, with an
/// exponent below 1e-4 and from 1e16.
fn float(x: f64) -> String {
    if x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').expect("an exponent was asked for");
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_as_python_writes_it() {
        let value = json!({
            "b": [1, 2.0, 1e20, 1e-7, -0.5, true, null], "a": {}, "l": [], "text": "é\"<&>\n\u{7f}",
        });
        let plain = Style::new(None);
        assert_eq!(
            dumps(&value, &plain),
            "{\"b\": [1, 2.0, 1e+20, 1e-07, -0.5, true, null], \"a\": {}, \"l\": [], \
             \"text\": \"é\\\"<&>\\n\u{7f}\"}"
        );
        let style = Style { ensure_ascii: true, sort_keys: true, ..Style::new(None) };
        assert_eq!(
            dumps(&json!({ "b": "é😀", "a": 1 }), &style),
            r#"{"a": 1, "b": "\u00e9\ud83d\ude00"}"#
        );
        let style = Style { separators: (",".into(), ":".into()), ..plain };
        assert_eq!(dumps(&json!([1, { "a": 2 }]), &style), r#"[1,{"a":2}]"#);
    }

    #[test]
    fn indented_text_has_an_entry_per_line() {
        let text = dumps(&json!({ "a": [1, { "b": 2 }], "c": [] }), &Style::new(Some(2)));
        let expected = "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": []\n}";
        assert_eq!(text, expected);
    }
}
