//! `/v1/responses`: what is asked of the engine, the object, the events in their order, and the
//! responses that are kept.

mod common;

use axum::http::Method;
use common::vocabulary::{BOS, END, START, bytes};
use common::{Client, Script, say, text};
use futures_util::StreamExt;
use serde_json::{Value, json};
use sterna_engine::{EngineError, Output, RequestId};
use sterna_server::{Keys, Options};

const RESPONSES: &str = "/v1/responses";

fn client() -> Client {
    Client::new(|request| say(request, "Hello"))
}

fn turn(text: &str) -> Vec<u32> {
    [vec![START], bytes(text), vec![END], bytes("\n")].concat()
}

fn asks() -> Vec<u32> {
    [vec![START], bytes("assistant\n")].concat()
}

async fn get(client: &Client, id: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let (status, text) = client.get(&format!("{RESPONSES}/{id}"), headers).await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn an_input_is_a_conversation_and_the_answer_a_message() {
    let client = client();
    let body = json!({
        "model": "tiny",
        "instructions": "Be kind.",
        "input": [
            { "role": "user", "content": "one" },
            { "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
              "content": [{ "type": "output_text", "text": "two", "annotations": [] }] },
            { "type": "message", "role": "user",
              "content": [{ "type": "input_text", "text": "three" }] },
        ],
        "max_output_tokens": 5, "temperature": 0.5, "top_p": 0.25, "metadata": { "k": "v" },
        "service_tier": "flex",
    });
    let answer = client.post(RESPONSES, body).await;
    let request = client.only_request();
    let prompt = [
        vec![BOS],
        turn("system\nBe kind."),
        turn("user\none"),
        turn("assistant\ntwo"),
        turn("user\nthree"),
        asks(),
    ];
    assert_eq!(request.prompt, prompt.concat());
    assert_eq!((request.max_tokens, request.class.name()), (5, "batch"));
    assert_eq!((request.sampling.temperature, request.sampling.top_p), (0.5, 0.25));
    let id = answer["id"].as_str().unwrap();
    assert!(id.starts_with("resp_"));
    for (key, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("model", json!("tiny")),
        ("created_at", json!(1_795_262_400)),
        ("metadata", json!({ "k": "v" })),
        ("temperature", json!(0.5)),
        ("max_output_tokens", json!(5)),
        ("instructions", json!("Be kind.")),
        ("service_tier", json!("flex")),
        ("parallel_tool_calls", json!(true)),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
    ] {
        assert_eq!(answer[key], value, "{key}");
    }
    let message = &answer["output"][0];
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    let part = json!({ "type": "output_text", "text": "Hello", "annotations": [], "logprobs": [] });
    assert_eq!(message["content"], json!([part]));
    let n_prompt = request.prompt.len();
    let usage = json!({
        "input_tokens": n_prompt,
        "input_tokens_details": { "cached_tokens": 1, "cache_write_tokens": 0 },
        "output_tokens": 5,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": n_prompt + 5,
    });
    assert_eq!(answer["usage"], usage);
    assert!(answer.get("warnings").is_none());
}

#[tokio::test]
async fn events_come_in_the_documented_order() {
    let client = Client::new(|request| say(request, "Hi"));
    let events = client.events(RESPONSES, json!({ "input": "a", "stream": true })).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names, expected);
    let numbers: Vec<u64> =
        events.iter().map(|(_, data)| data["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<u64>>());
    let data = |at: usize| &events[at].1;
    assert_eq!(data(0)["response"]["status"], "in_progress");
    assert_eq!(data(0)["response"]["output"], json!([]));
    let item = &data(2)["item"]["id"];
    assert_eq!(data(2)["item"]["content"], json!([]));
    for at in 3..8 {
        assert_eq!((&data(at)["item_id"], &data(at)["output_index"]), (item, &json!(0)));
        assert_eq!(data(at)["content_index"], 0);
    }
    assert_eq!((&data(4)["delta"], &data(5)["delta"]), (&json!("H"), &json!("i")));
    assert_eq!((&data(4)["logprobs"], &data(6)["text"]), (&json!([]), &json!("Hi")));
    assert_eq!(data(7)["part"]["text"], "Hi");
    assert_eq!(data(8)["item"]["status"], "completed");
    let response = &data(9)["response"];
    assert_eq!(response["output"][0], data(8)["item"]);
    assert_eq!(
        (&response["status"], &response["usage"]["output_tokens"]),
        (&json!("completed"), &json!(2))
    );
    let (status, kept) = get(&client, response["id"].as_str().unwrap(), &[]).await;
    assert_eq!((status, &kept), (200, response));
}

#[tokio::test]
async fn an_answer_that_is_cut_is_incomplete() {
    let client = client();
    let body = json!({ "input": "a", "max_output_tokens": 2 });
    let answer = client.post(RESPONSES, body.clone()).await;
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(answer["incomplete_details"], json!({ "reason": "max_output_tokens" }));
    assert_eq!(answer["output"][0]["status"], "incomplete");
    let mut body = body;
    body["stream"] = true.into();
    let events = client.events(RESPONSES, body).await;
    assert_eq!(events.last().unwrap().0, "response.incomplete");
}

#[tokio::test]
async fn log_probabilities_are_listed_where_they_are_included() {
    let client = Client::new(|request| say(request, "Hi"));
    let body = json!({
        "input": "a", "include": ["message.output_text.logprobs"], "top_logprobs": 1,
    });
    let answer = client.post(RESPONSES, body).await;
    assert_eq!(client.only_request().logprobs, Some(1));
    let listed = &answer["output"][0]["content"][0]["logprobs"];
    assert_eq!(
        (&listed[0]["token"], &listed[1]["top_logprobs"][0]["token"]),
        (&json!("H"), &json!("i"))
    );
}

#[tokio::test]
async fn a_response_is_continued_without_its_instructions() {
    let client = client();
    let first = client.post(RESPONSES, json!({ "input": "a", "instructions": "x" })).await;
    let second = json!({ "input": "b", "previous_response_id": first["id"], "instructions": "y" });
    let second = client.post(RESPONSES, second).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let input = json!([{ "role": "user", "content": "c" }]);
    let third = json!({ "input": input, "previous_response_id": second["id"] });
    client.post(RESPONSES, third).await;
    let requests = client.fake.requests.lock().unwrap();
    let [_, second, third] = requests.as_slice() else { panic!("three requests") };
    let before = [turn("user\na"), turn("assistant\nHello")].concat();
    let expected = [vec![BOS], turn("system\ny"), before.clone(), turn("user\nb"), asks()];
    assert_eq!(second.prompt, expected.concat());
    let more = [turn("user\nb"), turn("assistant\nHello"), turn("user\nc")].concat();
    assert_eq!(third.prompt, [vec![BOS], before, more, asks()].concat());
}

#[tokio::test]
async fn what_is_not_kept_or_forgotten_is_not_found() {
    let client = client();
    let answer = client.post(RESPONSES, json!({ "input": "a", "store": false })).await;
    assert_eq!(answer["store"], false);
    let (status, error) = get(&client, answer["id"].as_str().unwrap(), &[]).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("response_not_found")));
    let answer = client.post(RESPONSES, json!({ "input": "a" })).await;
    let id = answer["id"].as_str().unwrap();
    let path = format!("{RESPONSES}/{id}");
    let cancelled = client.refused(&format!("{path}/cancel"), json!({})).await;
    assert_eq!((cancelled.0, &cancelled.1["code"]), (400, &json!("response_ended")));
    let response = client.send(Method::DELETE, &path, &[], String::new()).await;
    let deleted: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(deleted, json!({ "id": id, "object": "response", "deleted": true }));
    let response = client.send(Method::DELETE, &path, &[], String::new()).await;
    assert_eq!(response.status().as_u16(), 404);
    let body = json!({ "input": "b", "previous_response_id": id });
    let (status, error) = client.refused(RESPONSES, body).await;
    assert_eq!((status, &error["param"]), (404, &json!("previous_response_id")));
}

#[tokio::test]
async fn room_is_bounded() {
    let options = Options { max_stored_responses: 2, ..Options::default() };
    let client = Client::with(options, None, |request| say(request, "x"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = client.post(RESPONSES, json!({ "input": "a" })).await;
        ids.push(answer["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(get(&client, &ids[0], &[]).await.0, 404);
    assert_eq!(get(&client, &ids[2], &[]).await.0, 200);
    let options = Options { max_stored_bytes: 100, ..Options::default() };
    let client = Client::with(options, None, |request| say(request, "x"));
    let answer = client.post(RESPONSES, json!({ "input": "a" })).await;
    assert_eq!(answer["store"], false, "it says that it was not kept");
}

#[tokio::test]
async fn a_response_is_its_keys_own() {
    let options = Options { keys: Keys::new(["one", "two"]), ..Options::default() };
    let client = Client::with(options, None, |request| say(request, "x"));
    let one = [("authorization", "Bearer one")];
    let (_, _, answer) = client.post_with(RESPONSES, &one, json!({ "input": "a" })).await;
    let id = answer["id"].as_str().unwrap();
    assert_eq!(get(&client, id, &one).await.0, 200);
    assert_eq!(get(&client, id, &[("x-api-key", "one")]).await.0, 200);
    assert_eq!(get(&client, id, &[("x-api-key", "two")]).await.0, 404);
    let body = json!({ "input": "b", "previous_response_id": id });
    assert_eq!(client.post_with(RESPONSES, &[("x-api-key", "two")], body).await.0.as_u16(), 404);
}

#[tokio::test]
async fn a_response_can_be_cancelled_from_elsewhere() {
    let client = Client::new(|_| Script::Wait);
    let body = json!({ "input": "a", "stream": true }).to_string();
    let response = client.send(Method::POST, RESPONSES, &[], body).await;
    let mut stream = response.into_body().into_data_stream();
    let created = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    let at = created.find("resp_").unwrap();
    let id = created[at..at + 37].to_owned();
    let (_, kept) = get(&client, &id, &[]).await;
    assert_eq!(kept["status"], "in_progress");
    let body = json!({ "input": "b", "previous_response_id": id });
    assert_eq!(client.refused(RESPONSES, body).await.0, 400, "it has not ended");
    let cancelled = client.post(&format!("{RESPONSES}/{id}/cancel"), json!({})).await;
    assert_eq!((&cancelled["id"], &cancelled["status"]), (&json!(id), &json!("cancelled")));
    assert_eq!(*client.fake.cancelled.lock().unwrap(), [RequestId(0)]);
    let mut rest = String::new();
    while let Some(part) = stream.next().await {
        rest += std::str::from_utf8(&part.unwrap()).unwrap();
    }
    assert!(rest.contains("event: response.incomplete"), "{rest}");
    assert_eq!(get(&client, &id, &[]).await.1["status"], "cancelled");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_response() {
    let client = Client::new(|_| Script::Wait);
    let body = json!({ "input": "a", "stream": true }).to_string();
    let response = client.send(Method::POST, RESPONSES, &[], body).await;
    let mut stream = response.into_body().into_data_stream();
    let created = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    let at = created.find("resp_").unwrap();
    let id = created[at..at + 37].to_owned();
    assert!(client.fake.cancelled.lock().unwrap().is_empty());
    drop(stream);
    assert_eq!(*client.fake.cancelled.lock().unwrap(), [RequestId(0)]);
    assert_eq!(get(&client, &id, &[]).await.1["status"], "cancelled");
}

#[tokio::test]
async fn a_failure_on_the_way_is_the_last_event() {
    let client = Client::new(|_| {
        let failed = Output::Failed(EngineError::Internal("x".into()));
        Script::Say(vec![Output::Token { id: 97, text: "a".into(), logprob: None }, failed])
    });
    let events = client.events(RESPONSES, json!({ "input": "a", "stream": true })).await;
    let (name, data) = events.last().unwrap();
    assert_eq!(name, "response.failed");
    assert_eq!(data["response"]["status"], "failed");
    assert_eq!(data["response"]["error"]["code"], "server_error");
    assert_eq!(data["response"]["output"][0]["status"], "incomplete", "what came is shown");
    let (status, error) = client.refused(RESPONSES, json!({ "input": "a" })).await;
    assert_eq!((status, &error["code"]), (500, &json!("internal_error")));
}

#[tokio::test]
async fn errors_name_what_the_client_sent() {
    let client = client();
    for (body, param) in [
        (json!({}), "input"),
        (json!({ "input": 7 }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": "a", "max_output_tokens": 0 }), "max_output_tokens"),
        (json!({ "input": "a", "instructions": 7 }), "instructions"),
        (json!({ "input": [{ "role": "king", "content": "a" }] }), "input[0].role"),
        (json!({ "input": [{ "role": "user" }], "instructions": "x" }), "input[0].content"),
        (json!({ "input": [{ "type": "web_search_call" }] }), "input[0].type"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }),
            "input[0].content[0].type",
        ),
        (json!({ "input": "a", "tools": [{ "type": "function" }] }), "tools[0].name"),
        (json!({ "input": "a", "text": { "format": { "type": "x" } } }), "text.format.type"),
        (json!({ "input": "a", "background": true }), "background"),
        (json!({ "input": "a", "metadata": { "k": 7 } }), "metadata.k"),
        (json!({ "input": "a", "include": ["zz"] }), "include[0]"),
    ] {
        let (status, error) = client.refused(RESPONSES, body).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with(param), "{message}");
    }
    assert!(client.fake.requests.lock().unwrap().is_empty());
    let body = json!({ "input": [{ "role": "user", "content": "a", "mood": 1 }], "reasoning": {} });
    let answer = client.post(RESPONSES, body).await;
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("input[0].mood") && warnings.contains("reasoning"), "{warnings}");
}

#[tokio::test]
async fn an_input_is_counted() {
    let client = client();
    let body = json!({ "input": "abc", "instructions": "x" });
    let counted = client.post("/v1/responses/input_tokens", body.clone()).await;
    client.post(RESPONSES, body).await;
    let n = client.only_request().prompt.len();
    assert_eq!(counted, json!({ "object": "response.input_tokens", "input_tokens": n }));
}

#[tokio::test]
async fn the_query_of_a_kept_response_is_not_passed_over() {
    let client = client();
    let answer = client.post(RESPONSES, json!({ "input": "a" })).await;
    let id = answer["id"].as_str().unwrap();
    assert_eq!(get(&client, &format!("{id}?stream=true"), &[]).await.0, 400);
    assert_eq!(get(&client, &format!("{id}?stream=false"), &[]).await, (200, answer.clone()));
    let (_, shown) = get(&client, &format!("{id}?include%5B%5D=x&zz=1"), &[]).await;
    let warnings = shown["warnings"].to_string();
    assert!(warnings.contains("include") && warnings.contains("zz"), "{warnings}");
}
