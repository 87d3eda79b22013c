//! Bodies of every route that takes one, and what becomes of them.

use super::{CHATML, Client, say, text};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use sterna_engine::Request;
use sterna_server::Options;

/// A template that shows the variables which parameters set, and how its model thinks.
pub fn template() -> String {
    format!("{CHATML}{{{{ extra }}}}{{% if enable_thinking %}}think{{% endif %}}{{# </think> #}}")
}

pub fn client() -> Client {
    let template = template();
    let answer = "<think>b</think>Hello";
    Client::with(Options::default(), Some(&template), move |request| say(request, answer))
}

/// The smallest body of each route that takes one.
pub fn body_of(path: &str) -> Value {
    let messages = json!([{ "role": "user", "content": "a" }]);
    match path {
        "/v1/completions" => json!({ "prompt": "a" }),
        "/v1/chat/completions" | "/apply-template" | "/v1/messages/count_tokens" => {
            json!({ "messages": messages })
        }
        "/v1/responses" | "/v1/responses/input_tokens" => json!({ "input": "a" }),
        "/v1/messages" => json!({ "messages": messages, "max_tokens": 9 }),
        "/api/chat" => json!({ "messages": messages, "options": {} }),
        "/api/generate" => json!({ "prompt": "a", "options": {} }),
        "/api/show" | "/v1/cache/flush" | "/v1/sessions/{id}/fork" => json!({}),
        "/models/load" | "/models/unload" => json!({ "model": "tiny" }),
        "/v1/cache/limit" => json!({ "max_memory_mb": 9 }),
        "/v1/embeddings" => json!({ "input": "a" }),
        "/api/embed" => json!({ "input": "a", "options": {} }),
        "/api/embeddings" => json!({ "prompt": "a", "options": {} }),
        "/tokenize" => json!({ "content": "<s>a" }),
        "/detokenize" => json!({ "tokens": [97] }),
        other => panic!("{other} takes a body; say here which"),
    }
}

/// A tool as the API of a route has it.
pub fn tool(path: &str) -> Value {
    match path {
        _ if path.starts_with("/v1/messages") => json!({ "name": "f", "input_schema": {} }),
        _ if path.starts_with("/v1/responses") => json!({ "type": "function", "name": "f" }),
        _ => json!({ "type": "function", "function": { "name": "f" } }),
    }
}

/// What became of a request: the status, the engine's request, and the answer but for its ids.
pub struct Got {
    pub status: StatusCode,
    pub request: Option<Request>,
    pub text: String,
}

pub async fn send(path: &str, body: &Value, is_strict: bool) -> Got {
    let client = client();
    let headers: &[(&str, &str)] = if is_strict { &[("x-strict", "true")] } else { &[] };
    let url = path.replace("{id}", "known");
    let response = client.send(Method::POST, &url, headers, body.to_string()).await;
    let status = response.status();
    let mut text = text(response).await;
    // Ids are 32 digits after a prefix.
    while let Some(at) = ["resp_", "msg_", "cmpl-"].iter().find_map(|id| text.find(id)) {
        text.replace_range(at..(at + 37).min(text.len()), "");
    }
    let mut request = client.fake.requests.lock().unwrap().pop();
    if let Some(request) = request.as_mut().filter(|request| !request.is_seeded) {
        request.sampling.seed = 0;
    }
    Got { status, request, text }
}

/// The document.
pub async fn document() -> Value {
    let (_, text) = client().get("/openapi.json", &[]).await;
    serde_json::from_str(&text).unwrap()
}

/// The parameters of a route's body, and of the objects within it.
pub fn parameters(api: &Value, path: &str) -> Vec<(Vec<String>, Value)> {
    let schema =
        &api["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let mut all = Vec::new();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        all.push((vec![name.clone()], schema.clone()));
        for (inner, schema) in schema["properties"].as_object().into_iter().flatten() {
            all.push((vec![name.clone(), inner.clone()], schema.clone()));
        }
    }
    all
}

/// Bodies with the objects that there may be in them.
pub fn rich() -> Vec<(&'static str, Value)> {
    let part = json!({ "type": "text", "text": "a" });
    let function = json!({ "name": "f", "arguments": {} });
    let call = json!({ "id": "c", "type": "function", "function": function });
    let chat = json!([
        { "role": "user", "content": [part] },
        { "role": "assistant", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c", "content": [part] },
    ]);
    let ollama = json!([
        { "role": "user", "content": "a" },
        { "role": "assistant", "content": "", "tool_calls": [{ "function": function }] },
    ]);
    let text = json!({ "type": "input_text", "text": "a" });
    let items = json!([
        { "role": "user", "content": [text] },
        { "type": "reasoning", "content": [{ "type": "reasoning_text", "text": "b" }] },
        { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" },
        { "type": "function_call_output", "call_id": "c", "output": [text] },
    ]);
    let used = json!({ "type": "tool_use", "id": "c", "name": "f", "input": {} });
    let result = json!({ "type": "tool_result", "tool_use_id": "c", "content": [part] });
    let messages = json!([
        { "role": "user", "content": [part] },
        { "role": "assistant", "content": [{ "type": "thinking", "thinking": "b" }, part, used] },
        { "role": "user", "content": [result, part] },
    ]);
    let asked = json!([{ "role": "user", "content": "a" }]);
    let schema = json!({ "type": "json_schema", "schema": {} });
    let own = json!({ "type": "json_schema", "json_schema": { "schema": {} } });
    let prediction = json!({ "type": "content", "content": [part] });
    let [ours, theirs, anthropics] =
        ["", "/v1/responses", "/v1/messages"].map(|api| json!([tool(api)]));
    let named = json!({ "type": "function", "function": { "name": "f" } });
    let by_name = |kind: &str| json!({ "type": kind, "name": "f" });
    vec![
        ("/v1/completions", json!({ "prompt": "a", "cache": {} })),
        (
            "/v1/chat/completions",
            json!({ "messages": chat, "tools": ours, "tool_choice": named, "cache": {},
                    "prediction": prediction }),
        ),
        ("/v1/chat/completions", json!({ "messages": asked, "response_format": own })),
        (
            "/v1/chat/completions",
            json!({ "messages": asked, "structured_outputs": { "regex": "a" } }),
        ),
        ("/apply-template", json!({ "messages": chat, "tools": ours })),
        ("/v1/embeddings", json!({ "input": "a", "cache": {} })),
        (
            "/v1/responses",
            json!({ "input": items, "tools": theirs, "tool_choice": by_name("function") }),
        ),
        ("/v1/responses", json!({ "input": "a", "text": { "format": schema } })),
        (
            "/v1/messages",
            json!({ "max_tokens": 9, "system": [part], "messages": messages, "tools": anthropics,
                    "tool_choice": by_name("tool"), "metadata": {},
                    "thinking": { "type": "disabled" } }),
        ),
        (
            "/v1/messages",
            json!({ "max_tokens": 9, "messages": asked, "output_config": { "format": schema } }),
        ),
        ("/api/chat", json!({ "messages": ollama, "tools": ours, "options": {}, "stream": false })),
    ]
}

/// The objects in a body, as JSON pointers; those in which anything may be are left out.
pub fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
    const FREE: [&str; 5] = ["parameters", "input_schema", "schema", "arguments", "input"];
    match value {
        Value::Object(entries) => {
            found.push(at.to_owned());
            for (key, value) in entries {
                if !(value.is_object() && FREE.contains(&key.as_str())) {
                    objects(value, &format!("{at}/{key}"), found);
                }
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                objects(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}
