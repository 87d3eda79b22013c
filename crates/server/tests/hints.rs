//! What agents tell about their requests, sessions and caches, over a scripted engine.

mod common;

use axum::http::{Method, StatusCode};
use common::{Client, Script, say, text};
use serde_json::{Value, json};
use std::time::Duration;
use sterna_engine::{EngineError, Finished, Output};

const CHAT: &str = "/v1/chat/completions";

fn chat(more: Value) -> Value {
    let mut body = json!({
        "messages": [
            { "role": "system", "content": "Be kind." },
            { "role": "user", "content": "secret" },
        ],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

// proves A16
#[tokio::test]
async fn hints_reach_the_engine() {
    let client = Client::new(|request| say(request, "Hello"));
    let answer = client.post(
        CHAT,
        chat(json!({
            "cache": { "no-cache": true, "no-store": false, "ttl": 5, "s-maxage": 7,
                       "namespace": "n", "colour": 1 },
            "deadline_ms": 1500, "expected_output_tokens": 20, "session_id": "one",
        })),
    );
    let answer = answer.await;
    let warnings = answer["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{answer}");
    assert!(warnings[0].as_str().unwrap().contains("cache.colour"));
    let request = client.only_request();
    assert!(request.cache.no_cache && !request.cache.no_store);
    assert_eq!(request.cache.ttl, Some(Duration::from_secs(5)));
    assert_eq!(request.cache.max_age, Some(Duration::from_secs(7)));
    assert_eq!(request.cache.namespace.as_deref(), Some("n"));
    assert_eq!(request.deadline, Some(Duration::from_millis(1500)));
    assert_eq!(request.expected_tokens, Some(20));
    assert!(request.session.unwrap().ends_with("/one"));
}

#[tokio::test]
async fn a_salted_prompt_is_private_from_where_the_client_says() {
    let public = async |from: Value| {
        let client = Client::new(|request| say(request, "Hello"));
        client.post(CHAT, chat(json!({ "cache_salt": "s", "cache_salt_from": from }))).await;
        client.only_request().public_tokens
    };
    assert_eq!(public(Value::Null).await, 0);
    assert_eq!(public(json!("start")).await, 0);
    assert_eq!(public(json!(12)).await, 12);
    // BOS, the turn of the system with its two control tokens and the line's end, and the control
    // token of whatever turn is next.
    assert_eq!(public(json!("system")).await, 1 + "system\nBe kind.\n".len() + 2);
    let client = Client::new(|request| say(request, "Hello"));
    let (status, error) = client.refused(CHAT, chat(json!({ "cache_salt_from": 3 }))).await;
    assert_eq!((status, &error["param"]), (400, &json!("cache_salt_from")));
    let body = json!({ "prompt": "a", "cache_salt": "s", "cache_salt_from": "system" });
    let (status, error) = client.refused("/v1/completions", body).await;
    assert_eq!((status, &error["param"]), (400, &json!("cache_salt_from")));
}

// proves B31
#[tokio::test]
async fn who_would_be_too_late_is_told_so_by_the_status_even_in_a_stream() {
    let late =
        |error: EngineError| Client::new(move |_| Script::Say(vec![Output::Failed(error.clone())]));
    for stream in [false, true] {
        let early = EngineError::TooLate { answered_in_ms: 90, deadline_ms: 50, retry_after: 3 };
        let body = chat(json!({ "deadline_ms": 50, "stream": stream }));
        let (status, headers, answer) = late(early).post_with(CHAT, &[], body.clone()).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(headers["retry-after"], "3");
        assert_eq!(answer["error"]["code"], "deadline_too_early");
        let (status, error) = late(EngineError::DeadlineMissed).refused(CHAT, body).await;
        assert_eq!((status, &error["code"]), (504, &json!("deadline_missed")));
    }
    // What has begun goes on as it would.
    let client = Client::new(|request| say(request, "Hello"));
    let chunks = client.stream(CHAT, chat(json!({ "deadline_ms": 50, "stream": true }))).await;
    let texts = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(texts.collect::<String>(), "Hello");
}

#[tokio::test]
async fn an_answer_that_was_kept_says_so_and_how_old_it_is() {
    let client = Client::new(|request| {
        let Script::Say(mut said) = say(request, "Hello") else { unreachable!() };
        if let Some(Output::Finished(end)) = said.last_mut() {
            *end = Finished { age: Some(Duration::from_secs(61)), ..end.clone() };
        }
        Script::Say(said)
    });
    let (_, headers, answer) = client.post_with(CHAT, &[], chat(json!({}))).await;
    assert_eq!(
        (&headers["x-cache"], &headers["age"]),
        (&"HIT".parse().unwrap(), &"61".parse().unwrap())
    );
    assert_eq!(answer["timings"]["cache"], "HIT");
}

#[tokio::test]
async fn sessions_are_forked_and_ended() {
    let client = Client::new(|request| say(request, "Hello"));
    let fork = "/v1/sessions/known/fork";
    let answer = client.post(fork, json!({ "session_id": "child" })).await;
    let expected = json!({ "id": "child", "object": "session", "parent": "known", "tokens": 40 });
    assert_eq!(answer, expected);
    assert!(client.post(fork, json!({})).await["id"].as_str().unwrap().starts_with("session-"));
    let (status, error) = client.refused(fork, json!({ "session_id": "taken" })).await;
    assert_eq!((status, &error["code"]), (409, &json!("session_exists")));
    assert!(error["message"].as_str().unwrap().contains("`taken`"), "{error}");
    let (status, error) = client.refused("/v1/sessions/other/fork", json!({})).await;
    assert_eq!((status, &error["code"]), (404, &json!("session_not_found")));
    let delete = async |path: &str| {
        let response = client.send(Method::DELETE, path, &[], String::new()).await;
        (response.status().as_u16(), text(response).await)
    };
    let (status, body) = delete("/v1/sessions/known").await;
    assert_eq!((status, body.contains("\"deleted\":true")), (200, true));
    assert_eq!(delete("/v1/sessions/other?model=tiny").await.0, 404);
    assert_eq!(delete("/v1/sessions/known?model=none").await.0, 404);
    let flushed = client.post("/v1/cache/flush", json!({})).await;
    assert_eq!(flushed, json!({ "answers": 2, "kv_pages": 3, "disk_files": 4 }));
}
