//! Each form on answers good and bad, and all of them however an answer is cut.

use super::*;
use proptest::prelude::*;

fn names() -> Vec<String> {
    ["get", "get_weather", "sum"].map(str::to_owned).to_vec()
}

/// All of an answer that comes in pieces.
fn read(format: &'static dyn Format, pieces: &[&str]) -> Said {
    let mut reader = Reader::new(format, names());
    let mut all = Said::default();
    for said in pieces.iter().map(|piece| reader.push(piece)).collect::<Vec<_>>() {
        all.text += &said.text;
        all.calls.extend(said.calls);
    }
    let last = reader.finish();
    all.text += &last.text;
    all.calls.extend(last.calls);
    all
}

/// An answer as text, and its calls as `name arguments`.
fn shown(name: &str, answer: &str) -> (String, Vec<String>) {
    let said = read(by_name(name).unwrap(), &[answer]);
    let calls = said.calls.iter().map(|call| format!("{} {}", call.name, call.arguments));
    (said.text, calls.collect())
}

fn check(name: &str, answer: &str, text: &str, calls: &[&str]) {
    let calls: Vec<String> = calls.iter().map(|&call| call.to_owned()).collect();
    assert_eq!(shown(name, answer), (text.to_owned(), calls), "{name}: {answer}");
}

#[test]
fn hermes_calls_are_found_anywhere() {
    let call = r#"<tool_call>
{"name": "sum", "arguments": {"a": 1, "b": "</tool_call>"}}
</tool_call>"#;
    let arguments = r#"sum {"a":1,"b":"</tool_call>"}"#;
    check("hermes", call, "", &[arguments]);
    check("hermes", &format!("Let me see.\n{call}\n{call}\n"), "Let me see.", &[arguments; 2]);
    check("hermes", &format!("{call} Done."), " Done.", &[arguments]);
    // The end is missing: cut off, or forgotten.
    let short = r#"<tool_call>{"name": "get"}"#;
    check("hermes", short, "", &["get {}"]);
    check("hermes", &format!("{short}</tool"), "</tool", &["get {}"]);
    check("hermes", &format!("{short}{call}"), "", &["get {}", arguments]);
    // What is no call is text, to the last byte.
    for text in [
        "a < b",
        "<tool",
        "<tool_call>",
        "<tool_call>{\"name\": \"sum\", \"argu",
        "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"sum\", \"arguments\": 7}</tool_call>",
        "<tool_call>sum(1)</tool_call>",
        " \n x \n",
    ] {
        check("hermes", text, text, &[]);
    }
}

#[test]
fn llama_calls_begin_the_answer() {
    let call = r#"{"name": "get_weather", "parameters": {"city": "Zürich"}}"#;
    let arguments = r#"get_weather {"city":"Zürich"}"#;
    check("llama3_json", call, "", &[arguments]);
    check("llama3_json", &format!("<|python_tag|>{call}; {call}"), "", &[arguments; 2]);
    let wrapped = r#"{"type": "function", "function": {"name": "get", "arguments": "{\"x\": 1}"}}"#;
    check("llama3_json", wrapped, "", &[r#"get {"x": 1}"#]);
    for text in [
        r#"{"name": "John", "age": 3}"#,
        "<|python_tag|>print(1)",
        "<|python",
        r#"{"name": "get""#,
        "I would call {\"name\": \"get\"}",
    ] {
        check("llama3_json", text, text, &[]);
    }
    check("llama3_json", &format!("{call}; and so on"), "; and so on", &[arguments]);
}

#[test]
fn mistral_calls_follow_a_marker_or_begin_the_answer() {
    let array = r#"[{"name": "sum", "arguments": {"a": 1}}, {"name": "get", "arguments": {}}]"#;
    let calls = [r#"sum {"a":1}"#, "get {}"];
    check("mistral", &format!("[TOOL_CALLS]{array}"), "", &calls);
    check("mistral", &format!("[TOOL_CALLS] {array}"), "", &calls);
    check("mistral", array, "", &calls);
    check("mistral", &format!("Well. [TOOL_CALLS]{array}"), "Well.", &calls);
    let newer = r#"[TOOL_CALLS]get_weather[ARGS]{"city": "Bern"}[TOOL_CALLS]get{}"#;
    check("mistral", newer, "", &[r#"get_weather {"city":"Bern"}"#, "get {}"]);
    for text in
        ["[1, 2]", "[TOOL_CALLS]", "[TOOL_CALLS][]", "[TOOL_CALLS]get_", "[TOOL", "x [TOOL_"]
    {
        check("mistral", text, text, &[]);
    }
}

#[test]
fn plain_calls_are_objects_or_arrays_of_them() {
    check("json", r#" {"name": "get", "arguments": {"x": null}} "#, "", &[r#"get {"x":null}"#]);
    check("json", r#"[{"name": "get"}, {"name": "sum"}]"#, "", &["get {}", "sum {}"]);
    for text in [r#"[{"name": "get"}, 1]"#, "[]", "{", "{]", "text {\"name\": \"get\"}"] {
        check("json", text, text, &[]);
    }
}

#[test]
fn templates_show_the_form() {
    for (template, name) in [
        ("...<tool_call>...", "hermes"),
        ("{{ '[TOOL_CALLS]' }}", "mistral"),
        ("<|start_header_id|> {\"name\": .., \"parameters\": ..}", "llama3_json"),
        ("{{ tools | tojson }}", "json"),
        ("", "json"),
    ] {
        assert_eq!(of_template(template).name(), name, "{template}");
    }
    assert!(FORMATS.iter().all(|format| by_name(format.name()).is_some()));
}

/// Texts of the pieces that matter, in any order, as models in trouble write them.
fn answer() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        r#"{"name": "get", "arguments": {"x": [1, "é\"}"]}}"#,
        r#"{"name": "sum", "parameters": {}}"#,
        r#"{"name": "no", "arguments": {}}"#,
        "get_weather",
        "get",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        ";",
        " ",
        "\n",
        "1e999",
        "\\ud800",
        "<",
        "text",
        "ü",
        "",
    ]);
    let parts =
        prop::collection::vec(prop_oneof![8 => part.prop_map(str::to_owned), 1 => ".{0,3}"], 0..12);
    parts.prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn however_it_is_cut_an_answer_says_the_same(
        answer in answer(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let bounds: Vec<usize> = answer.char_indices().map(|(at, _)| at).collect();
        let mut at: Vec<usize> = match bounds.is_empty() {
            true => Vec::new(),
            false => cuts.iter().map(|cut| bounds[cut.index(bounds.len())]).collect(),
        };
        at.extend([0, answer.len()]);
        at.sort_unstable();
        let pieces: Vec<&str> = at.windows(2).map(|pair| &answer[pair[0]..pair[1]]).collect();
        let single: Vec<String> = answer.chars().map(String::from).collect();
        let single: Vec<&str> = single.iter().map(String::as_str).collect();
        for &format in FORMATS {
            let whole = read(format, &[&answer]);
            prop_assert_eq!(&read(format, &pieces), &whole, "{}: {:?}", format.name(), pieces);
            prop_assert_eq!(&read(format, &single), &whole, "{}: {}", format.name(), answer);
            if whole.calls.is_empty() {
                prop_assert_eq!(&whole.text, &answer, "{}: nothing is lost", format.name());
            }
        }
    }
}
