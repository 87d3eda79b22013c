//! `/v1/embeddings` over a scripted engine.

mod common;

use axum::http::StatusCode;
use common::vocabulary::{BOS, bytes};
use common::{Client, Script, fake, noon, say, served};
use serde_json::{Value, json};
use sterna_engine::{Class, EngineError, Output, Pooling, Request};
use sterna_server::{Options, router};

const EMBEDDINGS: &str = "/v1/embeddings";

/// An engine whose embeddings tell how long the input was.
fn embeds(request: &Request) -> Script {
    let Script::Say(mut outputs) = say(request, "") else { unreachable!() };
    if let Some(Output::Finished(end)) = outputs.last_mut() {
        let long = request.prompt.len() > 2;
        end.embedding = Some(if long { vec![0.6, 0.0, 0.8] } else { vec![0.0, 1.0, 0.0] });
    }
    Script::Say(outputs)
}

#[tokio::test]
async fn texts_become_vectors_in_their_order() {
    let client = Client::new(embeds);
    let body = json!({ "model": "tiny", "input": ["ab", "c"], "user": "me", "zzz": 1 });
    let headers = [("x-agent-id", "scout")];
    let (status, headers, answer) = client.post_with(EMBEDDINGS, &headers, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(headers["x-priority-class"], "default");
    let entry = |index: usize, embedding: Value| json!({ "object": "embedding", "index": index, "embedding": embedding });
    let data = json!([entry(0, json!([0.6, 0.0, 0.8])), entry(1, json!([0.0, 1.0, 0.0]))]);
    let usage = json!({ "prompt_tokens": 5, "total_tokens": 5 });
    let warnings = json!(["zzz is unknown and was ignored"]);
    let expected = json!({
        "object": "list", "data": data, "model": "tiny", "usage": usage, "warnings": warnings,
    });
    assert_eq!(answer, expected);
    let requests = client.fake.requests.lock().unwrap();
    assert_eq!(requests[0].prompt, [vec![BOS], bytes("ab")].concat());
    for request in requests.iter() {
        assert_eq!((request.embed, request.max_tokens), (Some(Pooling::Mean), 0));
        assert_eq!(request.agent, "scout");
    }
}

#[tokio::test]
async fn tokens_base64_and_fewer_dimensions_are_honoured() {
    let client = Client::new(embeds);
    let body = json!({
        "input": [[104, 105, 33], [104]], "encoding_format": "base64", "dimensions": 1,
        "service_tier": "flex", "cache_salt": "s",
    });
    let answer = client.post(EMBEDDINGS, body).await;
    assert_eq!(answer["data"][0]["embedding"], "AACAPw==", "[1.0]");
    assert_eq!(answer["data"][1]["embedding"], "AAAAAA==", "[0.0]");
    let requests = client.fake.requests.lock().unwrap();
    assert_eq!(requests[0].prompt, [104, 105, 33], "tokens are taken as they are");
    assert_eq!((requests[1].class, requests[1].cache_salt.as_deref()), (Class::Batch, Some("s")));
}

#[tokio::test]
async fn many_inputs_are_embedded_in_turns() {
    let client = Client::new(embeds);
    let answer = client.post(EMBEDDINGS, json!({ "input": vec!["a"; 200] })).await;
    assert_eq!(answer["data"].as_array().unwrap().len(), 200);
    assert_eq!(answer["data"][199]["index"], 199);
    let (status, error) = client.refused(EMBEDDINGS, json!({ "input": vec!["a"; 2049] })).await;
    assert_eq!((status, &error["param"]), (400, &json!("input")));
}

// proves A16
#[tokio::test]
async fn what_is_wrong_is_named() {
    let client = Client::new(embeds);
    for (body, param) in [
        (json!({}), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": [{}] }), "input[0]"),
        (json!({ "input": "a", "encoding_format": "int8" }), "encoding_format"),
        (json!({ "input": "a", "dimensions": 0 }), "dimensions"),
        (json!({ "input": "a", "dimensions": 4 }), "dimensions"),
    ] {
        let (status, error) = client.refused(EMBEDDINGS, body).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{error}");
    }
    let client = Client::new(|_| Script::Refuse(EngineError::EmptyPrompt));
    let (status, error) = client.refused(EMBEDDINGS, json!({ "input": "a" })).await;
    assert_eq!((status, &error["code"]), (400, &json!("empty_prompt")));
    let mut model = served("tiny", None, fake(embeds));
    model.pooling = None;
    let options = Options { now: noon, ..Options::default() };
    let client = Client {
        router: router(common::models(model, &options), options).unwrap(),
        fake: fake(embeds),
    };
    let (status, error) = client.refused(EMBEDDINGS, json!({ "input": "a" })).await;
    assert_eq!((status, &error["param"]), (400, &json!("model")));
}

#[tokio::test]
async fn ollamas_clients_are_answered_as_by_ollama() {
    let client = Client::new(embeds);
    let body = json!({ "model": "tiny:latest", "input": ["ab", "c"], "options": { "seed": 1 } });
    let answer = client.post("/api/embed", body).await;
    let expected = json!([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]);
    assert_eq!((&answer["embeddings"], &answer["prompt_eval_count"]), (&expected, &json!(5)));
    let answer = client.post("/api/embeddings", json!({ "prompt": "ab" })).await;
    assert_eq!(answer, json!({ "embedding": [0.6, 0.0, 0.8] }));
    // So clients ask that a model be loaded.
    assert_eq!(client.post("/api/embed", json!({ "input": "" })).await["embeddings"], json!([]));
    assert_eq!(client.post("/api/embeddings", json!({})).await, json!({ "embedding": [] }));
    let (status, _) = client.refused("/api/embed", json!({ "input": [1] })).await;
    assert_eq!(status, 400);
}

// proves A16: nothing is cut in silence
#[tokio::test]
async fn what_is_too_long_for_ollamas_api_is_cut_and_said_or_refused() {
    let client = Client::new(embeds);
    let body = |truncate: Value| json!({ "input": ["a", "b".repeat(300)], "truncate": truncate });
    let answer = client.post("/api/embed", body(Value::Null)).await;
    let warning = "input[1] has 301 tokens and was cut to the first 100";
    assert_eq!(answer["warnings"], json!([warning]));
    assert_eq!(client.fake.requests.lock().unwrap()[1].prompt.len(), 100);
    let (status, error) = client.refused("/api/embed", body(json!(false))).await;
    assert!(status == 400 && error.to_string().contains("301 tokens"), "{error}");
    let body = json!({ "input": "abc", "options": { "num_ctx": 2 } });
    let answer = client.post("/api/embed", body).await;
    assert!(answer["warnings"][0].as_str().unwrap().contains("cut to the first 2"), "{answer}");
}
