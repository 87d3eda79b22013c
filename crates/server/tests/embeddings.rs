//! `/v1/embeddings` over a scripted engine.

mod common;

use axum::http::StatusCode;
use common::vocabulary::{BOS, bytes};
use common::{Client, Script, fake, noon, say, served};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use sterna_engine::{Class, EngineError, Output, Pooling, Request};
use sterna_server::{Agent, Agents, Options, Quotas, Traces, router};

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

#[tokio::test]
async fn all_turns_are_one_request_and_no_answer() {
    let (traces, mut collected) = Traces::new();
    let options = Options { traces: Some(traces), ..Options::default() };
    let client = Client::with(options, None, embeds);
    client.post(EMBEDDINGS, json!({ "input": vec!["a"; 200] })).await;
    let noted = collected.next(8).await.remove(0).noted;
    assert_eq!((noted.cost.unwrap().prompt_tokens, noted.finish_reasons.len()), (400, 0));
    let (_, metrics) = client.get("/metrics", &[]).await;
    for name in ["vllm:request_params_n", "vllm:request_max_num_generation_tokens"] {
        let line = format!("{name}_count{{model_name=\"tiny\",engine=\"0\"}} 0\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_deadline_is_that_of_all_turns_together() {
    let took = Duration::from_millis(20);
    let client = Client::new(move |request| {
        // A turn of it, which takes its time.
        if request.prompt[1] == u32::from(b's') {
            std::thread::sleep(took);
        }
        embeds(request)
    });
    let body = |ms: u64| {
        let inputs: Vec<&str> = std::iter::once("s").chain(["a"; 64]).collect();
        json!({ "input": inputs, "deadline_ms": ms })
    };
    client.post(EMBEDDINGS, body(60_000)).await;
    let all = Duration::from_secs(60);
    let left = |n: usize| client.fake.requests.lock().unwrap()[n].deadline.unwrap();
    assert!(left(0) > left(64) && left(64) <= all - took, "{:?} {:?}", left(0), left(64));
    let (status, error) = client.refused(EMBEDDINGS, body(10)).await;
    assert_eq!((status, &error["code"]), (504, &json!("deadline_missed")));
    assert_eq!(client.fake.requests.lock().unwrap().len(), 65 + 64);
}

#[tokio::test]
async fn turns_keep_to_an_agents_quotas() {
    let (requests_per_minute, concurrent_requests) = (Some(9), Some(4));
    let quotas = Quotas { requests_per_minute, concurrent_requests, ..Quotas::default() };
    let agents = vec![Agent { name: "few".into(), quotas, ..Agent::default() }];
    let agents = Arc::new(Agents::new(agents, Agent::default()));
    let client = Client::with(Options { agents, ..Options::default() }, None, embeds);
    let body = |n: usize| json!({ "input": vec!["a"; n], "agent_id": "few" });
    let (status, error) = client.refused(EMBEDDINGS, body(10)).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_value")), "{error}");
    assert!(client.fake.requests.lock().unwrap().is_empty());
    assert_eq!(client.post(EMBEDDINGS, body(9)).await["data"].as_array().unwrap().len(), 9);
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
