//! Streams, and clients that go away.

mod common;

use axum::http::Method;
use common::{Client, Script, bodies, say, text};
use serde_json::{Value, json};
use std::time::Duration;
use sterna_engine::{EngineError, Output, RequestId};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn chat(more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "a" }], "stream": true });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn events_are_framed_and_proxies_told_not_to_wait() {
    let client = Client::new(|request| say(request, "a\n"));
    let body = json!({ "prompt": "x", "stream": true }).to_string();
    let response = client.send(Method::POST, COMPLETIONS, &[], body).await;
    let headers = response.headers();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["x-accel-buffering"], "no");
    assert_eq!(headers["cache-control"], "no-cache");
    assert_eq!(headers["x-priority-class"], "default");
    let text = text(response).await;
    assert_eq!(text.matches("\n\n").count(), 4, "two tokens, the end, [DONE]: {text}");
    assert!(text.split_terminator("\n\n").all(|event| event.starts_with("data: ")));
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert!(text.contains(r#""text":"a""#) && text.contains(r#""text":"\n""#), "{text}");
}

#[tokio::test]
async fn a_chat_comes_in_chunks() {
    let client = Client::new(|request| say(request, "Hi"));
    let more = json!({ "stream_options": { "include_usage": true }, "temprature": 1 });
    let chunks = client.stream(CHAT, chat(more)).await;
    assert_eq!(chunks.len(), 4);
    let id = &chunks[0]["id"];
    for chunk in &chunks {
        assert_eq!((&chunk["id"], &chunk["object"]), (id, &json!("chat.completion.chunk")));
        assert_eq!(chunk["system_fingerprint"], "plan-build");
    }
    let delta = |i: usize| &chunks[i]["choices"][0]["delta"];
    assert_eq!(delta(0), &json!({ "role": "assistant", "content": "H" }));
    assert_eq!(delta(1), &json!({ "content": "i" }));
    assert_eq!(delta(2), &json!({}));
    let reasons: Vec<_> =
        chunks[..3].iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &Value::Null, &json!("stop")]);
    assert!(chunks[0]["warnings"][0].as_str().unwrap().contains("temprature"));
    assert!(chunks[1..].iter().all(|chunk| chunk.get("warnings").is_none()));
    assert!(chunks[..3].iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(chunks[2]["timings"]["predicted_n"], 2);
    assert_eq!(
        (&chunks[3]["choices"], &chunks[3]["usage"]["completion_tokens"]),
        (&json!([]), &json!(2))
    );
}

#[tokio::test]
async fn tokens_of_thoughts_are_counted_streamed_or_not() {
    // A token is a byte here, and the marks are of the thoughts.
    let (client, n_thought) = (bodies::client(), "<think>b</think>".len());
    let details = json!({ "reasoning_tokens": n_thought });
    let chunks = client.stream(CHAT, chat(json!({ "stream_options": { "include_usage": true } })));
    let usage = chunks.await.pop().unwrap()["usage"].take();
    assert_eq!(usage["completion_tokens_details"], details, "{usage}");
    let answer = client.post(CHAT, chat(json!({ "stream": false, "n": 2 }))).await;
    let details = json!({ "reasoning_tokens": 2 * n_thought });
    assert_eq!(answer["usage"]["completion_tokens_details"], details);
    assert_eq!(answer["choices"][1]["message"]["reasoning_content"], "b");
    let answer = client.post(CHAT, chat(json!({ "stream": false, "reasoning_format": "none" })));
    assert!(answer.await["usage"].get("completion_tokens_details").is_none());
}

#[tokio::test]
async fn every_choice_has_its_own_chunks() {
    let client = Client::new(|request| say(request, "Hi"));
    let chunks = client.stream(CHAT, chat(json!({ "n": 2, "logprobs": true }))).await;
    assert_eq!(chunks.len(), 6);
    for index in 0..2 {
        let own: Vec<&Value> =
            chunks.iter().map(|c| &c["choices"][0]).filter(|c| c["index"] == index).collect();
        assert_eq!(own.len(), 3);
        assert_eq!(own[0]["delta"]["role"], "assistant");
        assert_eq!(own[0]["logprobs"]["content"][0]["token"], "H");
        assert_eq!(own[2]["logprobs"], Value::Null);
    }
    assert!(chunks[..5].iter().all(|chunk| chunk.get("timings").is_none()));
}

#[tokio::test]
async fn an_echo_comes_with_the_first_chunk() {
    let client = Client::new(|request| say(request, "Hi"));
    let body = json!({ "prompt": "ab", "stream": true, "echo": true, "logprobs": 0 });
    let chunks = client.stream(COMPLETIONS, body).await;
    let choice = |i: usize| &chunks[i]["choices"][0];
    assert_eq!((&choice(0)["text"], &choice(1)["text"]), (&json!("abH"), &json!("i")));
    let columns = &choice(0)["logprobs"];
    assert_eq!(columns["tokens"], json!(["<s>", "a", "b", "H"]));
    assert_eq!(columns["text_offset"], json!([0, 0, 1, 2]));
    assert_eq!(choice(1)["logprobs"]["text_offset"], json!([3]));
}

#[tokio::test]
async fn a_failure_on_the_way_is_the_last_chunk() {
    let client = Client::new(|_| {
        let failed = Output::Failed(EngineError::Internal("x".into()));
        Script::Say(vec![Output::Token { id: 97, text: "a".into(), logprob: None }, failed])
    });
    let chunks = client.stream(COMPLETIONS, json!({ "prompt": "x", "stream": true, "n": 2 })).await;
    assert_eq!(chunks.last().unwrap()["error"]["code"], "internal_error");
    let (status, error) = client.refused(COMPLETIONS, json!({ "prompt": "x" })).await;
    assert_eq!((status, &error["code"]), (500, &json!("internal_error")));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_what_is_not_finished() {
    let client = Client::new(|request| match request.sampling.seed {
        7 => say(request, "done"),
        _ => Script::Wait,
    });
    let cancelled = || std::mem::take(&mut *client.fake.cancelled.lock().unwrap());
    let ids = |ids: [u64; 2]| ids.map(RequestId).to_vec();

    // Seed 7 has ended, 8 and 9 have not.
    let body = json!({ "prompt": "x", "seed": 7, "n": 3, "stream": true }).to_string();
    let response = client.send(Method::POST, COMPLETIONS, &[], body).await;
    let mut stream = response.into_body().into_data_stream();
    // What has ended is read, so that it is known to have.
    for _ in 0..5 {
        futures_util::StreamExt::next(&mut stream).await.unwrap().unwrap();
    }
    assert!(cancelled().is_empty());
    drop(stream);
    assert_eq!(cancelled(), ids([1, 2]));

    let body = json!({ "prompt": "x", "seed": 8, "n": 2 });
    let waiting = client.post(COMPLETIONS, body);
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    assert_eq!(cancelled(), ids([3, 4]));
}

#[tokio::test]
async fn a_request_that_is_not_taken_takes_the_others_with_it() {
    let client = Client::new(|request| match request.sampling.seed {
        1 => Script::Wait,
        _ => Script::Refuse(EngineError::QueueFull { waiting: 1 }),
    });
    let body = json!({ "prompt": "x", "seed": 1, "n": 2 });
    assert_eq!(client.refused(COMPLETIONS, body).await.0, 503);
    assert_eq!(*client.fake.cancelled.lock().unwrap(), [RequestId(0)]);
}

#[tokio::test]
async fn what_waits_for_a_slow_reader_is_bounded() {
    // All of it comes before anybody reads.
    let token = Output::Token { id: 97, text: "a".into(), logprob: None };
    let client = Client::new(move |_| Script::Say(vec![token.clone(); 70_000]));
    let chunks = client.stream(CHAT, chat(json!({}))).await;
    assert_eq!(chunks.len(), 65_536 + 1);
    let message = chunks.last().unwrap()["error"]["message"].as_str().unwrap();
    assert!(message.contains("faster than its client read it"), "{message}");
}
