//! What is known of a request when it is over, as the log and collectors of traces get it; which
//! web pages may ask.

mod common;

use axum::http::{Method, StatusCode};
use common::{CHATML, Client, Script, say, text};
use serde_json::{Value, json};
use sterna_engine::{EngineError, Request};
use sterna_server::{Access, Collected, Keys, Options, Traces};

const CHAT: &str = "/v1/chat/completions";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn traced(script: impl Fn(&Request) -> Script + Send + Sync + 'static) -> (Client, Collected) {
    let (traces, collected) = Traces::new();
    let keys = Keys::new(["a-secret-key"]);
    let options = Options { traces: Some(traces), keys, ..Options::default() };
    (Client::with(options, Some(CHATML), script), collected)
}

async fn next(collected: &mut Collected) -> Access {
    let mut some = collected.next(8).await;
    assert_eq!(some.len(), 1, "{some:?}");
    some.remove(0)
}

fn chat(stream: bool) -> String {
    let message = json!({ "role": "user", "content": "a private matter" });
    let body = json!({
        "messages": [message], "stream": stream, "service_tier": "flex", "agent_id": "planner",
    });
    body.to_string()
}

const KEY: (&str, &str) = ("authorization", "Bearer a-secret-key");

#[tokio::test]
async fn a_generation_is_known_with_its_cost_streamed_or_not() {
    let (client, mut collected) = traced(|request| say(request, "Hello"));
    for stream in [false, true] {
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        let headers = [KEY, ("x-request-id", "mine-7"), ("traceparent", parent.as_str())];
        let response = client.send(Method::POST, CHAT, &headers, chat(stream)).await;
        assert_eq!(response.headers()["x-request-id"], "mine-7");
        text(response).await;
        let access = next(&mut collected).await;
        assert_eq!((access.id.as_str(), access.status, access.is_cut), ("mine-7", 200, false));
        assert_eq!((access.method.as_str(), access.route.as_str()), ("POST", CHAT));
        assert_eq!(access.trace.as_ref().unwrap().trace_id, TRACE);
        let noted = &access.noted;
        assert_eq!((noted.model.as_deref(), noted.class), (Some("tiny"), Some("batch")));
        assert_eq!((noted.agent.as_deref(), noted.error), (Some("planner"), None));
        assert_eq!(noted.finish_reasons, ["stop"]);
        let cost = noted.cost.as_ref().unwrap();
        assert_eq!((cost.cached_tokens, cost.new_tokens, cost.decode_seconds), (1, 5, 0.1));
        let all = format!("{access:?}");
        assert!(!all.contains("private") && !all.contains("Hello") && !all.contains("secret"));
    }
}

#[tokio::test]
async fn other_apis_are_known_alike() {
    let (client, mut collected) = traced(|request| say(request, "Hello"));
    let messages = json!([{ "role": "user", "content": "a private matter" }]);
    for (path, body) in [
        ("/v1/messages", json!({ "model": "tiny", "max_tokens": 9, "messages": messages })),
        ("/v1/responses", json!({ "model": "tiny", "input": "a private matter" })),
        ("/api/chat", json!({ "model": "tiny", "stream": false, "messages": messages })),
        ("/api/chat", json!({ "model": "tiny", "messages": messages })),
    ] {
        let response = client.send(Method::POST, path, &[KEY], body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        text(response).await;
        let access = next(&mut collected).await;
        assert_eq!((access.route.as_str(), access.noted.model.as_deref()), (path, Some("tiny")));
        assert_eq!(access.noted.cost.as_ref().unwrap().new_tokens, 5, "{path}");
    }
}

#[tokio::test]
async fn an_answer_keeps_its_length() {
    let (client, _collected) = traced(|request| say(request, "Hello"));
    let response = client.send(Method::POST, CHAT, &[KEY], chat(false)).await;
    let length = response.headers()["content-length"].to_str().unwrap().to_owned();
    assert_eq!(text(response).await.len().to_string(), length);
}

#[tokio::test]
async fn refusals_have_their_code_and_whom_they_met() {
    let (client, mut collected) = traced(|_| Script::Refuse(EngineError::QueueFull { waiting: 3 }));
    text(client.send(Method::POST, CHAT, &[KEY], chat(false)).await).await;
    let access = next(&mut collected).await;
    assert_eq!((access.status, access.noted.error), (503, Some("queue_full")));
    assert_eq!((access.noted.model.as_deref(), access.noted.class), (Some("tiny"), Some("batch")));
    text(client.send(Method::POST, CHAT, &[], chat(false)).await).await;
    let access = next(&mut collected).await;
    assert_eq!((access.status, access.noted.error), (401, Some("missing_api_key")));
    text(client.send(Method::GET, "/nowhere?key=x", &[KEY], String::new()).await).await;
    assert_eq!(next(&mut collected).await.route, "/nowhere");
    // What comes every few seconds is not collected, unless it fails.
    client.get("/health", &[]).await;
    client.get("/metrics", &[]).await;
    let access = next(&mut collected).await;
    assert_eq!((access.route.as_str(), access.status), ("/metrics", 401));
}

#[tokio::test]
async fn clients_that_go_away_are_known_to_have_gone() {
    let (client, mut collected) = traced(|_| Script::Wait);
    // Before there is an answer.
    let asked = client.send(Method::POST, CHAT, &[KEY], chat(false));
    let soon = std::time::Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, asked).await.is_err());
    let access = next(&mut collected).await;
    assert_eq!((access.status, access.is_cut), (499, true));
    assert_eq!(access.noted.model.as_deref(), Some("tiny"));
    // In the middle of one.
    let response = client.send(Method::POST, CHAT, &[KEY], chat(true)).await;
    assert_eq!(response.status(), StatusCode::OK);
    drop(response);
    let access = next(&mut collected).await;
    assert_eq!((access.status, access.is_cut), (200, true));
}

#[tokio::test]
async fn errors_in_streams_are_known() {
    let (client, mut collected) = traced(|_| {
        Script::Say(vec![sterna_engine::Output::Failed(EngineError::Internal("x".into()))])
    });
    text(client.send(Method::POST, CHAT, &[KEY], chat(true)).await).await;
    let access = next(&mut collected).await;
    assert_eq!((access.status, access.noted.error), (200, Some("internal_error")));
}

#[tokio::test]
async fn traces_that_their_client_drops_are_not_collected() {
    let (client, mut collected) = traced(|request| say(request, "x"));
    let dropped = format!("00-{TRACE}-b7ad6b7169203331-00");
    text(client.send(Method::POST, CHAT, &[KEY, ("traceparent", &dropped)], chat(false)).await)
        .await;
    text(client.send(Method::POST, CHAT, &[KEY], chat(false)).await).await;
    assert_eq!(next(&mut collected).await.trace, None);
}

#[tokio::test]
async fn long_bodies_are_noted_from_the_other_thread_too() {
    let (client, mut collected) = traced(|request| say(request, "x"));
    let mut body: Value = serde_json::from_str(&chat(false)).unwrap();
    body["metadata"] = json!({ "filler": "x".repeat(20_000) });
    text(client.send(Method::POST, CHAT, &[KEY], body.to_string()).await).await;
    let access = next(&mut collected).await;
    assert_eq!((access.status, access.noted.agent.as_deref()), (200, Some("planner")));
    assert!(access.noted.cost.is_some());
}

#[tokio::test]
async fn pages_of_named_hosts_may_ask_and_others_not() {
    let cors_origins = vec!["https://app.example".to_owned()];
    let options = Options { keys: Keys::new(["a-secret-key"]), cors_origins, ..Options::default() };
    let client = Client::with(options, Some(CHATML), |request| say(request, "x"));
    let question = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let response = client.send(Method::OPTIONS, CHAT, &question, String::new()).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], "https://app.example");
    assert_eq!(headers["access-control-allow-headers"], "authorization,content-type");
    assert!(headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    let from = |origin| [KEY, ("origin", origin)];
    let headers = from("https://app.example");
    let response = client.send(Method::POST, CHAT, &headers, chat(false)).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    assert!(response.headers()["access-control-expose-headers"].to_str().unwrap().contains("id"));
    for other in ["https://app.example.evil", "http://app.example"] {
        let response = client.send(Method::POST, CHAT, &from(other), chat(false)).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{other}");
    }
    // A page that may ask still needs a key.
    let no_key = [("origin", "https://app.example")];
    let response = client.send(Method::POST, CHAT, &no_key, chat(false)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}
