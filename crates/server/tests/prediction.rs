//! `prediction`: what a client expects of an answer.

mod common;

use common::vocabulary::bytes;
use common::{Client, say};
use serde_json::json;
use sterna_engine::{Guessed, Output, Request, Stats};

const CHAT: &str = "/v1/chat/completions";

/// An engine that finds some of what was predicted to be right.
fn guesses(request: &Request) -> common::Script {
    let common::Script::Say(mut outputs) = say(request, "Hello") else { unreachable!() };
    if let Some(Output::Finished(end)) = outputs.last_mut() {
        end.guessed = Guessed { drafted: 7, accepted: 4 };
        let predicted = Guessed { drafted: 5, accepted: 3 };
        end.predicted = (!request.prediction.is_empty()).then_some(predicted);
    }
    common::Script::Say(outputs)
}

#[tokio::test]
async fn it_goes_to_the_engine_and_what_it_saved_is_told() {
    let client = Client::new(guesses);
    let messages = json!([{ "role": "user", "content": "a" }]);
    let parts = json!([{ "type": "text", "text": "He" }, { "type": "text", "text": "llo" }]);
    for content in [json!("Hello"), parts] {
        let prediction = json!({ "type": "content", "content": content });
        let answer = client.post(CHAT, json!({ "messages": messages, "prediction": prediction }));
        let answer = answer.await;
        let details = json!({ "accepted_prediction_tokens": 3, "rejected_prediction_tokens": 2 });
        assert_eq!(answer["usage"]["completion_tokens_details"], details);
        assert_eq!(answer["timings"]["draft_n"], 7);
        assert_eq!(answer["timings"]["draft_n_accepted"], 4);
        let request = client.fake.requests.lock().unwrap().pop().unwrap();
        assert_eq!(request.prediction.to_vec(), bytes("Hello"));
    }
    let answer = client.post(CHAT, json!({ "messages": messages })).await;
    assert!(answer["usage"].get("completion_tokens_details").is_none(), "{answer}");
}

// proves A16
#[tokio::test]
async fn what_is_wrong_is_named_and_what_is_ignored_is_said() {
    let client = Client::new(guesses);
    let messages = json!([{ "role": "user", "content": "a" }]);
    for (prediction, param) in [
        (json!("Hello"), "prediction"),
        (json!({ "type": "content" }), "prediction.content"),
        (json!({ "type": "content", "content": 7 }), "prediction.content"),
        (json!({ "type": "content", "content": [{ "type": "image" }] }), "prediction.content"),
        (json!({ "type": "other", "content": "a" }), "prediction.type"),
    ] {
        let body = json!({ "messages": messages, "prediction": prediction });
        let (status, error) = client.refused(CHAT, body).await;
        assert_eq!((status, &error["param"]), (400, &json!(param)), "{error}");
    }
    // A server that does not guess.
    *client.fake.stats.lock().unwrap() = Some(Stats::default());
    let prediction = json!({ "type": "content", "content": "Hello" });
    let answer = client.post(CHAT, json!({ "messages": messages, "prediction": prediction }));
    let warning = "prediction is ignored: this server was started with --speculative off";
    assert_eq!(answer.await["warnings"], json!([warning]));
}
