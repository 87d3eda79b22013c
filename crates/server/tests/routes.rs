//! The list of routes and the document that is made of it; what operators ask.

mod common;

use axum::http::{Method, StatusCode};
use common::{Client, say, text};
use serde_json::{Value, json};
use sterna_server::{Keys, Options};

fn client() -> Client {
    Client::new(|request| say(request, "x"))
}

async fn get(client: &Client, path: &str) -> Value {
    let (status, text) = client.get(path, &[]).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn the_document_has_the_routes_of_the_server_and_no_others() {
    let client = client();
    let api = get(&client, "/openapi.json").await;
    assert_eq!(api["openapi"], "3.1.0");
    let paths = api["paths"].as_object().unwrap();
    assert!(paths.len() > 35, "{}", paths.len());
    for (path, methods) in paths {
        let at = path.replace("{id}", "x");
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let is_listed = methods.get(method.as_str().to_ascii_lowercase()).is_some();
            let response = client.send(method.clone(), &at, &[], "{".into()).await;
            let is_known = response.status() != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_known, is_listed, "{method} {path}");
            // Only errors are read: what is found may be a stream that goes on.
            if response.status() == StatusCode::NOT_FOUND {
                let text = text(response).await;
                assert!(!text.contains("unknown_route"), "{method} {path}: {text}");
            }
        }
        for operation in methods.as_object().unwrap().values() {
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let ids = operation["parameters"].as_array().unwrap();
            let has_id = ids.iter().any(|one| one["name"] == "id" && one["in"] == "path");
            assert_eq!(has_id, path.contains("{id}"), "{path}");
        }
    }
}

#[tokio::test]
async fn what_a_route_needs_it_does_not_go_without() {
    let client = client();
    let api = get(&client, "/openapi.json").await;
    for (path, methods) in api["paths"].as_object().unwrap() {
        let body = &methods["post"]["requestBody"]["content"]["application/json"]["schema"];
        if let Some(needs) = body["required"].as_array().filter(|needs| !needs.is_empty()) {
            let (status, error) = client.refused(path, json!({})).await;
            let named = |name: &Value| error.to_string().contains(name.as_str().unwrap());
            assert!(status == 400 && needs.iter().any(named), "{path}: {error}");
        }
    }
}

#[tokio::test]
async fn the_page_of_routes_needs_no_other_host_and_no_key() {
    let options = Options { keys: Keys::new(["secret"]), ..Options::default() };
    let client = Client::with(options, None, |request| say(request, "x"));
    for path in ["/docs", "/docs.js", "/openapi.json"] {
        let (status, text) = client.get(path, &[]).await;
        assert_eq!(status, 200, "{path}");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
    }
    let (_, page) = client.get("/docs", &[]).await;
    assert!(page.contains("src=\"/docs.js\"") && page.contains("/style.css"), "{page}");
    assert_eq!(client.get("/slots", &[]).await.0, 401);
}

#[tokio::test]
async fn operators_see_what_is_served_and_who_is() {
    let client = client();
    let props = get(&client, "/props").await;
    for (key, value) in [
        ("model_alias", json!("tiny")),
        ("total_slots", json!(8)),
        ("bos_token", json!("<s>")),
        ("eos_token", Value::Null),
        ("build_info", json!("plan-build")),
        ("modalities", json!({ "vision": false, "audio": false })),
    ] {
        assert_eq!(props[key], value, "{key}");
    }
    let settings = &props["default_generation_settings"];
    assert_eq!(
        (&settings["n_ctx"], &settings["params"]["temperature"]),
        (&json!(100), &json!(1.0))
    );
    let slots = get(&client, "/slots?model=org%2Ftiny").await;
    let slots = slots.as_array().unwrap();
    assert_eq!(slots.len(), 1, "an agent without open requests has no line");
    assert_eq!(slots[0]["agent"], "scout");
    assert_eq!((&slots[0]["running"], &slots[0]["waiting"]), (&json!(1), &json!(2)));
    assert_eq!(client.get("/slots?model=none", &[]).await.0, 404);
    let load = get(&client, "/load").await;
    assert_eq!((&load["server_load"], &load["models"][0]["max_running"]), (&json!(3), &json!(8)));
}

#[tokio::test]
async fn defaults_that_are_shown_are_those_of_a_request() {
    let client = client();
    client.post("/v1/completions", json!({ "prompt": "a" })).await;
    let sampling = client.only_request().sampling;
    let params = get(&client, "/props").await["default_generation_settings"]["params"].take();
    for (key, value) in [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("top_k", sampling.top_k as f32),
        ("min_p", sampling.min_p),
        ("repeat_penalty", sampling.repetition_penalty),
        ("repeat_last_n", sampling.repetition_window as f32),
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ] {
        assert_eq!(params[key].as_f64(), Some(f64::from(value)), "{key}");
    }
}
