//! Every parameter of every API, with values of all kinds: honoured, rejected, or warned of, and
//! never passed over. `/openapi.json` lists them; what it says of each is what is tested.

mod common;

use axum::http::StatusCode;
use common::bodies::{body_of, document, parameters, send, tool};
use serde_json::{Value, json};

/// Parameters that go with others only.
fn beside(path: &str, name: &str) -> Value {
    match (path, name) {
        ("/v1/chat/completions" | "/api/chat" | "/api/generate", "top_logprobs") => {
            json!({ "logprobs": true })
        }
        ("/v1/chat/completions", "prediction" | "type" | "content") => {
            json!({ "prediction": { "type": "content", "content": "a" } })
        }
        (_, "cache_salt_from") => json!({ "cache_salt": "mine" }),
        (_, "cache" | "no-cache" | "no-store" | "ttl" | "s-maxage" | "namespace") => {
            json!({ "cache": {} })
        }
        ("/v1/messages", "type" | "name" | "disable_parallel_tool_use") => {
            let choice =
                json!({ "type": if name == "name" { "tool" } else { "any" }, "name": "f" });
            json!({ "tools": [tool(path), { "name": "g", "input_schema": {} }], "tool_choice": choice })
        }
        (_, "budget_tokens" | "display") => json!({ "thinking": { "type": "disabled" } }),
        (_, "tool_choice") => json!({ "tools": [tool(path)] }),
        (_, "parallel_tool_calls") => {
            json!({ "tools": [tool(path)], "tool_choice": "required" })
        }
        (_, "stream_options" | "include_usage" | "include_obfuscation") => {
            json!({ "stream": true })
        }
        _ => json!({}),
    }
}

/// Parameters that are read and, with the only values that there are for them here, change nothing.
const SILENT: [(&str, &str); 19] = [
    // What is called, or held to, shows in the answer, not in the count.
    ("/v1/responses/input_tokens", "parallel_tool_calls"),
    ("/v1/responses/input_tokens", "format"),
    ("/v1/messages/count_tokens", "format"),
    // It can only be what it is anyway.
    ("/v1/chat/completions", "type"),
    // What they cut is longer; `embeddings.rs` has tests of it.
    ("/api/embed", "truncate"),
    ("/api/embed", "num_ctx"),
    ("/api/embeddings", "num_ctx"),
    // What is called shows in the answer, not in the prompt.
    ("/apply-template", "tool_choice"),
    ("/apply-template", "parallel_tool_calls"),
    ("", "model"),
    ("/api/show", "name"),
    ("/v1/completions", "best_of"),
    ("", "stream_options"),
    ("", "text"),
    ("", "thinking"),
    ("", "output_config"),
    ("", "options"),
    // It shows in how long the model stays; `models.rs` has tests of it.
    ("", "keep_alive"),
    // Of a response that there is; `responses.rs` has tests of it.
    ("", "previous_response_id"),
];

/// A body with a parameter, which may be within an object.
fn with(path: &str, parameter: &[&str], value: &Value) -> Value {
    let mut body = body_of(path);
    let more = beside(path, parameter.last().unwrap());
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut at = &mut body;
    for name in parameter {
        at = &mut at[*name];
    }
    *at = value.clone();
    body
}

/// Values that are not what a schema says.
fn wrong(schema: &Value) -> Vec<Value> {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        several => several.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect(),
    };
    let has = |kind: &str| types.contains(&kind);
    let mut wrong = vec![
        ("boolean", json!(true)),
        ("number", json!(7.5)),
        ("string", json!("zz")),
        ("object", json!({ "zz": 1 })),
        ("array", json!([{ "zz": 1 }])),
    ];
    wrong.retain(|(kind, _)| !has(kind));
    let mut wrong: Vec<Value> = wrong.into_iter().map(|(_, value)| value).collect();
    if let Some(least) = schema["minimum"].as_f64() {
        wrong.push(json!(least - 1.0));
    }
    if let Some(most) = schema["maximum"].as_f64() {
        wrong.push(json!(most + 1.0));
    }
    if schema.get("enum").is_some() {
        wrong.push(json!("zz"));
    }
    if schema.get("minLength").is_some() {
        wrong.extend([json!(""), json!("z".repeat(1_000))]);
    }
    wrong
}

async fn check_honoured(path: &str, parameter: &[&str], schema: &Value) {
    let place = format!("{path} {}", parameter.join("."));
    let name = *parameter.last().unwrap();
    for value in wrong(schema) {
        let got = send(path, &with(path, parameter, &value), false).await;
        assert!(got.status.is_client_error(), "{place}: {value} was taken: {}", got.text);
        assert!(got.request.is_none(), "{place}: {value} came to the engine");
        let said = got.text.contains(name);
        assert!(said, "{place}: {value}: the error does not name it: {}", got.text);
    }
    let example = &schema["examples"][0];
    let without = send(path, &with(path, parameter, &Value::Null), false).await;
    let got = send(path, &with(path, parameter, example), false).await;
    if SILENT.contains(&(path, name)) || SILENT.contains(&("", name)) {
        if name != "previous_response_id" {
            assert_eq!(got.status, StatusCode::OK, "{place}: {}", got.text);
        }
        return;
    }
    assert_eq!(got.status, StatusCode::OK, "{place}: {}", got.text);
    assert!(!got.text.contains("ignored"), "{place}: {}", got.text);
    let changes = got.request != without.request || got.text != without.text;
    assert!(changes, "{place} is {example}, and nothing follows it");
}

async fn check_other(path: &str, parameter: &[&str], schema: &Value, rule: &str) {
    let place = format!("{path} {}", parameter.join("."));
    let value = json!({ "zz": 1 });
    let got = send(path, &with(path, parameter, &value), false).await;
    let strict = send(path, &with(path, parameter, &value), true).await;
    let name = parameter.join(".");
    match rule {
        "no_effect" => {
            let plain = send(path, &with(path, parameter, &Value::Null), false).await;
            assert_eq!((got.status, strict.status), (StatusCode::OK, StatusCode::OK), "{place}");
            assert_eq!(got.request, plain.request, "{place}");
        }
        "ignored" => {
            let warning = format!("{name} is ignored: ");
            assert_eq!(got.status, StatusCode::OK, "{place}: {}", got.text);
            assert!(got.text.contains(&warning), "{place}: no warning in {}", got.text);
            assert_eq!(strict.status, StatusCode::BAD_REQUEST, "{place}");
        }
        "refused" => {
            assert_eq!(got.status, StatusCode::BAD_REQUEST, "{place}");
            assert!(got.text.contains(&format!("{name}: ")), "{place}: {}", got.text);
            for harmless in schema["x-sterna-accepts"].as_array().unwrap() {
                let body = with(path, parameter, harmless);
                let got = send(path, &body, true).await;
                assert_eq!(got.status, StatusCode::OK, "{place}: {harmless}: {}", got.text);
            }
        }
        other => panic!("{place}: {other} is no rule"),
    }
}

// proves A16
#[tokio::test]
async fn every_parameter_is_honoured_rejected_or_warned_of() {
    let api = document().await;
    let mut n_checked = 0;
    for path in api["paths"].as_object().unwrap().keys() {
        for (parameter, schema) in parameters(&api, path) {
            let parameter: Vec<&str> = parameter.iter().map(String::as_str).collect();
            match schema["x-sterna-rule"].as_str().unwrap() {
                "honoured" => check_honoured(path, &parameter, &schema).await,
                rule => check_other(path, &parameter, &schema, rule).await,
            }
            n_checked += 1;
        }
    }
    assert!(n_checked > 250, "{n_checked}");
}

/// What the official clients can send: openai 3.54.0, anthropic 2.12.0 and ollama 0.6.3 for Python.
const DOCUMENTED: [(&str, &str); 12] = [
    (
        "/v1/completions",
        "best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty \
         prompt seed stop stream stream_options suffix temperature top_p user",
    ),
    (
        "/v1/responses",
        "access_programs background background_options context_management conversation image \
         include input instructions max_output_tokens max_tool_calls metadata model moderation \
         parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options \
         prompt_cache_retention reasoning safety_identifier service_tier store stream \
         stream_options stream_options.include_obfuscation temperature text text.format \
         text.verbosity tool_choice tools top_logprobs top_p truncation user",
    ),
    (
        "/v1/responses/input_tokens",
        "conversation input instructions model parallel_tool_calls personality \
         previous_response_id reasoning text tool_choice tools truncation",
    ),
    (
        "/v1/messages",
        "max_tokens messages model cache_control container diagnostics inference_geo metadata \
         metadata.user_id output_config output_config.effort output_config.format service_tier \
         speed stop_sequences stream system thinking tool_choice tools user_profile_id \
         workspace_id temperature top_k top_p mcp_servers context_management",
    ),
    (
        "/v1/messages/count_tokens",
        "messages model cache_control output_config speed system thinking tool_choice tools \
         user_profile_id workspace_id",
    ),
    (
        "/api/chat",
        "model stream format keep_alive messages tools think logprobs top_logprobs options \
         options.numa options.num_ctx options.num_batch options.num_gpu options.main_gpu \
         options.low_vram options.f16_kv options.logits_all options.vocab_only options.use_mmap \
         options.use_mlock options.embedding_only options.num_thread options.num_keep \
         options.seed options.num_predict options.top_k options.top_p options.min_p options.tfs_z \
         options.typical_p options.repeat_last_n options.temperature options.repeat_penalty \
         options.presence_penalty options.frequency_penalty options.mirostat \
         options.mirostat_tau options.mirostat_eta options.penalize_newline options.stop",
    ),
    (
        "/api/generate",
        "model stream format keep_alive prompt suffix system template context raw images think \
         logprobs top_logprobs width height steps options options.num_predict options.num_ctx",
    ),
    ("/api/show", "model"),
    ("/v1/embeddings", "input model dimensions encoding_format user"),
    ("/api/embed", "model input truncate dimensions options options.num_ctx keep_alive"),
    ("/api/embeddings", "model prompt options options.num_ctx keep_alive"),
    (
        "/v1/chat/completions",
        "messages model audio frequency_penalty function_call functions logit_bias logprobs \
         max_completion_tokens max_tokens metadata modalities n parallel_tool_calls prediction \
         presence_penalty prompt_cache_key reasoning_effort response_format safety_identifier seed \
         service_tier stop store stream stream_options temperature tool_choice tools top_logprobs \
         top_p user verbosity web_search_options",
    ),
];

// proves A16
#[tokio::test]
async fn what_the_official_clients_send_is_known() {
    let api = document().await;
    for (path, names) in DOCUMENTED {
        let known: Vec<String> =
            parameters(&api, path).iter().map(|(parameter, _)| parameter.join(".")).collect();
        for name in names.split_whitespace() {
            assert!(known.iter().any(|known| known == name), "{path}: {name} has no rule");
        }
    }
}
