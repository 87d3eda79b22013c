//! Tools and constraints over a scripted engine: what the engine is asked, and what clients get.

mod common;

use common::told::may_be;
use common::{CHATML, Client, say};
use serde_json::{Value, json};
use sterna_engine::Request;
use sterna_server::{Options, OptionsError};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// A template in the manner of Qwen's.
const HERMES: &str = "{% if tools %}call with <tool_call>: {{ tools | tojson }}\n{% endif %}{% for message in messages %}{{ message.role }}: {{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.arguments.city }}</tool_call>{% endfor %}\n{% endfor %}";

fn tools() -> Value {
    let city = json!({ "$ref": "#/$defs/city" });
    let parameters = json!({
        "type": "object",
        "properties": { "city": city },
        "required": ["city"],
        "additionalProperties": false,
        "$defs": { "city": { "enum": ["Bern", "Ulm"] } },
    });
    json!([
        { "type": "function", "function": { "name": "weather", "parameters": parameters } },
        { "type": "function", "function": { "name": "time" } },
    ])
}

fn asked(more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "a" }], "tools": tools(), "max_tokens": 300 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn hermes(answer: &'static str) -> Client {
    let options = Options::default();
    Client::with(options, Some(HERMES), move |request| say(request, answer))
}

const CALL: &str =
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call>";

#[tokio::test]
async fn calls_are_taken_out_of_the_answer() {
    let answer = "Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"}}\n</tool_call>";
    let client = Client::with(Options { ..Options::default() }, Some(HERMES), move |request| {
        say(request, answer)
    });
    let body = asked(json!({ "max_tokens": 200, "logprobs": true }));
    let whole = client.post(CHAT, body.clone()).await;
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let message = &choice["message"];
    assert_eq!(message["content"], "Let me look.");
    let call = &message["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
    assert_eq!(call["function"]["arguments"], "{\"city\":\"Ulm\"}");
    assert_eq!(call["id"].as_str().unwrap().len(), 9);
    assert!(call.get("index").is_none() && whole.get("warnings").is_none(), "{whole}");
    let n_tokens = choice["logprobs"]["content"].as_array().unwrap().len();
    assert_eq!(n_tokens, answer.len(), "each token has its log probability");

    let mut body = body;
    body["stream"] = true.into();
    let chunks = client.stream(CHAT, body).await;
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let text: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(text, "Let me look.");
    let calls: Vec<&Value> =
        deltas.iter().filter_map(|delta| delta["tool_calls"].as_array()).flatten().collect();
    assert_eq!((calls.len(), &calls[0]["index"]), (1, &json!(0)));
    assert_eq!(calls[0]["function"], call["function"]);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let logprobs = chunks.iter().filter_map(|c| c["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(logprobs.map(Vec::len).sum::<usize>(), answer.len());
}

#[tokio::test]
async fn what_is_no_call_is_text() {
    let answer = "<tool_call>{\"name\": \"fly\"}</tool_call>";
    let client = hermes("<tool_call>{\"name\": \"fly\"}</tool_call>");
    let whole = client.post(CHAT, asked(json!({}))).await;
    assert_eq!(whole["choices"][0]["message"]["content"], answer);
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let chunks = client.stream(CHAT, asked(json!({ "stream": true }))).await;
    let deltas = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str());
    assert_eq!(deltas.collect::<String>(), answer);
    // Where no tools are asked about, nothing is looked for.
    for more in [json!({ "tool_choice": "none" }), json!({ "tools": [] })] {
        let client = hermes(CALL);
        let whole = client.post(CHAT, asked(more)).await;
        assert_eq!(whole["choices"][0]["message"]["content"], CALL);
        let prompt: Vec<u8> =
            client.only_request().prompt[1..].iter().map(|&token| token as u8).collect();
        assert!(!String::from_utf8(prompt).unwrap().contains("tools"), "the model sees none");
    }
    // A call that the limit cuts is no call.
    let whole = hermes(CALL).post(CHAT, asked(json!({ "max_tokens": 30 }))).await;
    assert_eq!(whole["choices"][0]["message"]["content"], CALL[..30]);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn the_number_of_calls_can_be_limited() {
    let answer = "{\"name\": \"time\"}";
    let twice = move |request: &Request| {
        say(
            request,
            "<tool_call>{\"name\": \"time\"}</tool_call> <tool_call>{\"name\": \"time\"}</tool_call>",
        )
    };
    let client = Client::with(Options::default(), Some(HERMES), twice);
    for stream in [false, true] {
        for (parallel, n) in [(true, 2), (false, 1)] {
            let body = asked(json!({ "parallel_tool_calls": parallel, "stream": stream }));
            let found: Vec<Value> = match stream {
                true => client.stream(CHAT, body).await,
                false => vec![client.post(CHAT, body).await],
            };
            let key = if stream { "delta" } else { "message" };
            let calls = found.iter().filter_map(|c| c["choices"][0][key]["tool_calls"].as_array());
            assert_eq!(calls.map(Vec::len).sum::<usize>(), n, "{answer}");
        }
    }
}

#[tokio::test]
async fn calls_can_be_enforced() {
    let time = "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
    let paris = CALL.replace("Ulm", "Paris");
    let named = json!({ "type": "function", "function": { "name": "weather" } });
    for (choice, parallel, good, bad) in [
        (
            json!("required"),
            true,
            vec![CALL.to_owned(), format!("{CALL}\n{time}")],
            vec![paris.clone()],
        ),
        (json!("required"), false, vec![time.to_owned()], vec![format!("{CALL}\n{time}")]),
        (named, true, vec![CALL.to_owned()], vec![time.to_owned(), String::new(), "Hi".to_owned()]),
    ] {
        let client = hermes(CALL);
        let body = asked(json!({ "tool_choice": choice, "parallel_tool_calls": parallel }));
        let answer = client.post(CHAT, body).await;
        assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
        assert_eq!(answer["choices"][0]["message"]["content"], Value::Null);
        let request = client.only_request();
        assert!(good.iter().all(|text| may_be(&request, text)), "{choice}");
        assert!(!bad.iter().any(|text| may_be(&request, text)), "{choice}");
    }
    // What each form enforces is what it finds.
    for (parser, text) in [
        ("hermes", CALL),
        ("mistral", "[{\"name\": \"weather\", \"arguments\": {\"city\": \"Ulm\"}}]"),
        ("json", "[{\"name\": \"weather\", \"arguments\": {\"city\":\"Ulm\"}}]"),
        ("llama3_json", "{\"name\": \"weather\", \"parameters\": {\"city\": \"Ulm\"}}"),
    ] {
        let options = Options { tool_call_parser: Some(parser.into()), ..Options::default() };
        let client = Client::with(options, Some(CHATML), move |request| say(request, text));
        let answer = client.post(CHAT, asked(json!({ "tool_choice": "required" }))).await;
        let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call["arguments"], "{\"city\":\"Ulm\"}", "{parser}: {answer}");
        assert!(may_be(&client.only_request(), text), "{parser}");
    }
}

#[tokio::test]
async fn earlier_calls_and_their_results_reach_the_template() {
    let client = hermes("It rains.");
    let call = json!({
        "id": "123456789", "type": "function",
        "function": { "name": "weather", "arguments": "{\"city\": \"Bern\"}" },
    });
    let body = asked(json!({ "messages": [
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "123456789", "content": "rain" },
    ], "tools": null }));
    let answer = client.post(CHAT, body).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "It rains.");
    let prompt: Vec<u8> =
        client.only_request().prompt[1..].iter().map(|&token| token as u8).collect();
    let prompt = String::from_utf8(prompt).unwrap();
    assert!(prompt.contains("assistant: <tool_call>Bern</tool_call>tool: rain"), "{prompt}");
}

#[tokio::test]
async fn control_tokens_of_the_form_are_made_visible() {
    let options = || Options { tool_call_parser: Some("llama3_json".into()), ..Options::default() };
    let client = Client::with(options(), Some(CHATML), |request| say(request, "x"));
    client.post(CHAT, asked(json!({}))).await;
    // This vocabulary has no such token.
    assert!(client.only_request().visible.is_empty());
    let unknown = Options { tool_call_parser: Some("x".into()), ..Options::default() };
    let models = common::Scripted::new(Vec::new(), Vec::new(), &unknown.agents);
    let error = sterna_server::router(models, unknown).unwrap_err();
    assert_eq!(error, OptionsError::ToolCallParser("x".into()));
    assert!(error.to_string().contains("hermes, mistral, llama3_json, json"), "{error}");
}

#[tokio::test]
async fn formats_and_grammars_become_constraints() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } },
        "required": ["a"], "additionalProperties": false });
    let named = json!({ "name": "n", "strict": true, "schema": schema });
    let gbnf = "root ::= pair (\", \" pair)*\npair ::= [a-z]+ ws \"=\" ws (num | \"(\" root \")\")\nws ::= [ \\t]*\nnum ::= \"-\"? [0-9]{1,3}";
    for (body, good, bad) in [
        (json!({ "response_format": { "type": "json_object" } }), "{\"x\": [1]}", "[1]"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": named } }),
            "{\"a\": 7}",
            "{\"a\": \"7\"}",
        ),
        (
            json!({ "response_format": { "type": "json_object", "schema": schema } }),
            "{\n  \"a\": 7\n}",
            "{}",
        ),
        (json!({ "json_schema": schema }), "{\"a\":-1}", "{\"b\": 1}"),
        (json!({ "guided_json": schema.to_string() }), "{\"a\": 7}", "7"),
        (json!({ "guided_regex": "[ab]+" }), "abba", "abc"),
        (json!({ "guided_choice": ["yes", "no"] }), "no", "maybe"),
        (json!({ "structured_outputs": { "choice": ["yes", "yes!"] } }), "yes!", "no"),
        (json!({ "structured_outputs": { "json_object": true } }), "{}", "x"),
        (json!({ "guided_grammar": "start: \"a\" start \"b\" | \"c\"" }), "aacbb", "aacb"),
        (json!({ "grammar": gbnf }), "a = (b=1, c =-20)", "a = 1000"),
        (json!({ "grammar": "root ::= [^\\\"]* \"\\\"\"" }), "any/thing é\"", "x"),
    ] {
        for (path, key, value) in [
            (CHAT, "messages", json!([{ "role": "user", "content": "a" }])),
            (COMPLETIONS, "prompt", json!("a")),
        ] {
            let client = Client::new(|request| say(request, "x"));
            let mut body = body.clone();
            body[key] = value;
            let answer = client.post(path, body.clone()).await;
            assert!(answer.get("warnings").is_none(), "{answer}");
            let request = client.only_request();
            assert!(may_be(&request, good), "{body}: {good}");
            assert!(!may_be(&request, bad), "{body}: {bad}");
        }
    }
    for nothing in [
        json!({ "response_format": { "type": "text" }, "grammar": "", "guided_json": null }),
        json!({ "structured_outputs": { "json_object": false } }),
    ] {
        let client = Client::new(|request| say(request, "x"));
        let mut body = nothing;
        body["prompt"] = "a".into();
        client.post(COMPLETIONS, body).await;
        assert!(client.only_request().constraint.is_none());
    }
}

// proves A16
#[tokio::test]
async fn what_is_wrong_is_named_with_its_place() {
    let client = hermes("x");
    let bad = json!({ "type": "object", "properties": { "a": { "type": "strange" } } });
    let tool = |function: Value| json!([{ "type": "function", "function": function }]);
    for (more, param) in [
        (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
        (json!({ "response_format": {} }), "response_format.type"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format.json_schema"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "n" } } }),
            "response_format.json_schema.schema",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": bad } } }),
            "response_format.json_schema.schema.properties.a",
        ),
        (json!({ "json_schema": [1] }), "json_schema"),
        (json!({ "guided_regex": "a(" }), "guided_regex"),
        (json!({ "guided_choice": [] }), "guided_choice"),
        (json!({ "guided_choice": ["a", 1] }), "guided_choice"),
        (json!({ "grammar": "root ::= nothing" }), "grammar"),
        (json!({ "structured_outputs": { "json": 7 } }), "structured_outputs.json"),
        (
            json!({ "structured_outputs": { "structural_tag": {} } }),
            "structured_outputs.structural_tag",
        ),
        (json!({ "guided_regex": "a", "guided_choice": ["a"] }), "guided_choice"),
        (json!({ "response_format": { "type": "json_object" }, "tools": tools() }), "tools"),
        (json!({ "tools": tool(json!({})) }), "tools[0].function.name"),
        (
            json!({ "tools": tool(json!({ "name": "f", "parameters": 1 })) }),
            "tools[0].function.parameters",
        ),
        (
            json!({ "tools": tool(json!({ "name": "f", "parameters": bad })), "tool_choice": "required" }),
            "tools[0].function.parameters.properties.a",
        ),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0]"),
        (
            json!({ "tools": [tool(json!({ "name": "f" }))[0], tool(json!({ "name": "f" }))[0]] }),
            "tools[1].function.name",
        ),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (json!({ "tool_choice": "maybe" }), "tool_choice"),
        (
            json!({ "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "x" } } }),
            "tool_choice.function.name",
        ),
        (
            json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "id": "1" }] }] }),
            "messages[0].tool_calls[0]",
        ),
    ] {
        let mut body = json!({ "messages": [{ "role": "user", "content": "a" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, error) = client.refused(CHAT, body).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{more}: {error}");
        let name = param.split(['.', '[']).next().unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(name) || name == "tools", "{error}");
    }
    assert!(client.fake.requests.lock().unwrap().is_empty());
}

// proves A16
#[tokio::test]
async fn what_is_not_as_asked_is_a_warning() {
    let client = hermes("x");
    let object = json!({ "type": "object" });
    let body =
        json!({ "prompt": "a", "response_format": { "type": "json_object", "shema": object } });
    let answer = client.post(COMPLETIONS, body).await;
    let warning = "response_format.shema is unknown and was ignored; did you mean schema?";
    assert_eq!(answer["warnings"], json!([warning]));
    // A schema of a tool that only may be called need not compile; one that says `strict` is told.
    let function = json!({ "name": "f", "strict": true });
    let strict = json!([{ "type": "function", "function": function }]);
    let body = json!({ "messages": [{ "role": "user", "content": "a" }], "tools": strict });
    let answer = client.post(CHAT, body).await;
    assert!(
        answer["warnings"][0].as_str().unwrap().contains("tools[0].function.strict"),
        "{answer}"
    );
}
