//! `/v1/messages`: what is asked of the engine, and Anthropic's objects, events and errors.

mod common;

use axum::http::Method;
use common::vocabulary::{BOS, END, START, bytes};
use common::{Client, Script, finished, say, text};
use futures_util::StreamExt;
use serde_json::{Value, json};
use sterna_engine::{EngineError, Finished, Output, RequestId};
use sterna_server::{Keys, Options};

const MESSAGES: &str = "/v1/messages";

fn client() -> Client {
    Client::new(|request| say(request, "Hello"))
}

fn ask(more: Value) -> Value {
    let mut body = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": "a" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_message_is_answered() {
    let client = client();
    let cached = json!({ "type": "ephemeral" });
    let body = json!({
        "model": "tiny",
        "max_tokens": 5,
        "system": [{ "type": "text", "text": "Be kind.", "cache_control": cached }],
        "messages": [
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": [{ "type": "text", "text": "two" }] },
            { "role": "user", "content": [
                { "type": "text", "text": "three" }, { "type": "text", "text": "four" },
            ] },
        ],
        "stop_sequences": ["END"], "temperature": 0.5, "top_p": 0.25, "top_k": 7,
        "metadata": { "user_id": "scout" }, "service_tier": "standard_only",
    });
    let headers = [("anthropic-version", "2023-06-01")];
    let (status, headers, answer) = client.post_with(MESSAGES, &headers, body).await;
    assert_eq!(status.as_u16(), 200, "{answer}");
    assert_eq!(headers["request-id"], headers["x-request-id"]);
    let request = client.only_request();
    let turn = |text: &str| [vec![START], bytes(text), vec![END], bytes("\n")].concat();
    let prompt = [
        vec![BOS],
        turn("system\nBe kind."),
        turn("user\none"),
        turn("assistant\ntwo"),
        turn("user\nthree\nfour"),
        vec![START],
        bytes("assistant\n"),
    ];
    assert_eq!(request.prompt, prompt.concat());
    assert_eq!((request.max_tokens, request.agent.as_str()), (5, "scout"));
    let sampling = &request.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (0.5, 0.25, 7));
    assert_eq!(request.stop.strings, ["END"]);
    assert!(answer["id"].as_str().unwrap().starts_with("msg_"));
    let mut answer = answer;
    answer["id"].take();
    let expected = json!({
        "id": null,
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{ "type": "text", "text": "Hello" }],
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "usage": {
            "input_tokens": request.prompt.len() - 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 1,
            "output_tokens": 5,
        },
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn events_come_in_the_documented_order() {
    let client = Client::new(|request| say(request, "Hi"));
    let events = client.events(MESSAGES, ask(json!({ "stream": true }))).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
    let n = client.only_request().prompt.len();
    let start = &events[0].1["message"];
    assert_eq!((&start["content"], &start["stop_reason"]), (&json!([]), &Value::Null));
    assert_eq!(
        (&start["usage"]["input_tokens"], &start["usage"]["output_tokens"]),
        (&json!(n), &json!(0))
    );
    assert_eq!(events[2].1["content_block"], json!({ "type": "text", "text": "" }));
    assert_eq!(events[3].1["delta"], json!({ "type": "text_delta", "text": "H" }));
    assert_eq!(events[4].1["index"], 0);
    let end = json!({ "stop_reason": "end_turn", "stop_sequence": null });
    assert_eq!(events[6].1["delta"], end);
    assert_eq!(events[6].1["usage"]["output_tokens"], 2);
    assert_eq!(events[7].1, json!({ "type": "message_stop" }));
}

#[tokio::test]
async fn why_it_stopped_is_said() {
    let stopped = Client::new(|_| {
        let token = Output::Token { id: 97, text: "a".into(), logprob: None };
        let end = Finished { stop_text: Some("END".into()), new_tokens: 2, ..finished() };
        Script::Say(vec![token, Output::Finished(end)])
    });
    let answer = stopped.post(MESSAGES, ask(json!({ "stop_sequences": ["END"] }))).await;
    let reason = (&answer["stop_reason"], &answer["stop_sequence"]);
    assert_eq!(reason, (&json!("stop_sequence"), &json!("END")));
    let events = stopped.events(MESSAGES, ask(json!({ "stream": true }))).await;
    let delta = events.iter().find(|(name, _)| name == "message_delta").unwrap();
    assert_eq!(delta.1["delta"]["stop_sequence"], "END");
    let client = client();
    let answer = client.post(MESSAGES, ask(json!({ "max_tokens": 2 }))).await;
    assert_eq!(answer["stop_reason"], "max_tokens");
    // Agents ask for more than small contexts have: the answer ends where the context does.
    let long = Client::new(|request| say(request, &"x".repeat(200)));
    let answer = long.post(MESSAGES, ask(json!({ "max_tokens": 32_000 }))).await;
    assert_eq!(answer["stop_reason"], "model_context_window_exceeded");
    let request = long.only_request();
    assert_eq!(request.max_tokens, 100 - request.prompt.len());
}

#[tokio::test]
async fn errors_have_anthropics_shape() {
    for (error, status, kind) in [
        (EngineError::QueueFull { waiting: 5 }, 529, "overloaded_error"),
        (EngineError::Draining, 529, "overloaded_error"),
        (EngineError::Internal("x".into()), 500, "api_error"),
        (EngineError::EmptyPrompt, 400, "invalid_request_error"),
    ] {
        let client = Client::new(move |_| Script::Refuse(error.clone()));
        let (got, headers, answer) = client.post_with(MESSAGES, &[], ask(json!({}))).await;
        assert_eq!((got.as_u16(), &answer["error"]["type"]), (status, &json!(kind)));
        assert_eq!(headers.contains_key("retry-after"), status == 529);
        assert_eq!(answer["type"], "error");
        assert_eq!(answer["request_id"], headers["request-id"].to_str().unwrap());
    }
    let options = Options { keys: Keys::new(["secret"]), ..Options::default() };
    let client = Client::with(options, None, |request| say(request, "x"));
    let (status, _, answer) = client.post_with(MESSAGES, &[], ask(json!({}))).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (401, &json!("authentication_error")));
    let key = [("x-api-key", "secret")];
    let (status, _, answer) = client.post_with(MESSAGES, &key, ask(json!({}))).await;
    assert_eq!(status.as_u16(), 200, "{answer}");
    let named = ask(json!({ "model": "x" }));
    let (status, _, answer) = client.post_with(MESSAGES, &key, named).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (404, &json!("not_found_error")));
}

#[tokio::test]
async fn errors_name_what_the_client_sent() {
    let client = client();
    let messages = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    for (more, param) in [
        (json!({ "max_tokens": null }), "max_tokens"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "stop_sequences": [""] }), "stop_sequences"),
        (json!({ "system": 7 }), "system"),
        (json!({ "system": [{ "type": "image" }] }), "system[0].type"),
        (json!({ "messages": [] }), "messages"),
        (messages(json!([{ "type": "text", "text": 7 }])), "messages[0].content[0].text"),
        (messages(json!([{ "type": "image" }])), "messages[0].content[0].type"),
        (json!({ "messages": [{ "role": "tool", "content": "a" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "assistant", "content": "a" }] }), "messages[0].role"),
        (json!({ "metadata": { "user_id": 7 } }), "metadata.user_id"),
        (json!({ "tools": [{ "type": "x" }] }), "tools[0].type"),
        (json!({ "output_config": { "format": {} } }), "output_config.format"),
    ] {
        // A system text comes before the messages, and must not change what they are called.
        let with_system = match more.get("system") {
            Some(_) => more.clone(),
            None => {
                let mut more = more.clone();
                more["system"] = "x".into();
                more
            }
        };
        for more in [more, with_system] {
            let (status, error) = client.refused(MESSAGES, ask(more)).await;
            assert_eq!((status, &error["type"]), (400, &json!("invalid_request_error")));
            let message = error["message"].as_str().unwrap();
            assert!(message.starts_with(param), "{param}: {message}");
        }
    }
    assert!(client.fake.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_followed_is_said() {
    let client = client();
    let body = ask(json!({
        "thinking": { "type": "enabled", "budget_tokens": 1_024 },
        "output_config": { "effort": "low" }, "zz": 1,
    }));
    let beta = [("anthropic-beta", "context-1m")];
    let (_, _, answer) = client.post_with(MESSAGES, &beta, body.clone()).await;
    let warnings = answer["warnings"].to_string();
    for part in ["thinking", "output_config.effort", "zz", "context-1m"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    let (status, _, _) = client.post_with(MESSAGES, &[("x-strict", "true")], body).await;
    assert_eq!(status.as_u16(), 400);
    let body = ask(json!({ "thinking": { "type": "disabled" } }));
    assert!(client.post(MESSAGES, body).await.get("warnings").is_none());
}

#[tokio::test]
async fn the_agent_is_the_header_where_both_are_given() {
    let client = client();
    let body = ask(json!({ "metadata": { "user_id": "user" } }));
    client.post_with(MESSAGES, &[("x-agent-id", "scout")], body).await;
    assert_eq!(client.only_request().agent, "scout");
}

#[tokio::test]
async fn messages_are_counted() {
    let client = client();
    let body = json!({ "system": "x", "messages": [{ "role": "user", "content": "abc" }] });
    let counted = client.post("/v1/messages/count_tokens", body.clone()).await;
    let mut body = body;
    body["max_tokens"] = 1.into();
    client.post(MESSAGES, body).await;
    assert_eq!(counted, json!({ "input_tokens": client.only_request().prompt.len() }));
}

#[tokio::test]
async fn a_failure_on_the_way_is_an_error_event() {
    let client = Client::new(|_| {
        let failed = Output::Failed(EngineError::Internal("x".into()));
        Script::Say(vec![Output::Token { id: 97, text: "a".into(), logprob: None }, failed])
    });
    let events = client.events(MESSAGES, ask(json!({ "stream": true }))).await;
    let (name, data) = events.last().unwrap();
    assert_eq!((name.as_str(), &data["error"]["type"]), ("error", &json!("api_error")));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels() {
    let client = Client::new(|_| Script::Wait);
    let body = ask(json!({ "stream": true })).to_string();
    let response = client.send(Method::POST, MESSAGES, &[], body).await;
    let mut stream = response.into_body().into_data_stream();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(*client.fake.cancelled.lock().unwrap(), [RequestId(0)]);
    let response = client.send(Method::GET, MESSAGES, &[], String::new()).await;
    assert_eq!(response.headers()["allow"], "POST");
    let error: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(error["type"], "error");
}
