//! Ollama's routes: what is asked of the engine, the lines of an answer, and the lists of models.

mod common;

use axum::http::Method;
use common::vocabulary::{BOS, END, START, bytes};
use common::{Client, Script, say};
use futures_util::StreamExt;
use serde_json::{Value, json};
use sterna_engine::{EngineError, Output, RequestId};
use sterna_server::{Keys, Options};

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";

fn client() -> Client {
    Client::new(|request| say(request, "Hello"))
}

fn chat(more: Value) -> Value {
    let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": "a" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn turn(text: &str) -> Vec<u32> {
    [vec![START], bytes(text), vec![END], bytes("\n")].concat()
}

#[tokio::test]
async fn a_chat_comes_in_lines() {
    let client = Client::new(|request| say(request, "Hi"));
    let lines = client.lines(CHAT, chat(json!({}))).await;
    assert_eq!(lines.len(), 3);
    for (line, text) in lines.iter().zip(["H", "i", ""]) {
        assert_eq!(line["message"], json!({ "role": "assistant", "content": text }));
        assert_eq!(
            (&line["model"], &line["created_at"]),
            (&json!("tiny"), &json!("2026-11-21T12:00:00Z"))
        );
    }
    assert_eq!((&lines[0]["done"], &lines[2]["done"]), (&json!(false), &json!(true)));
    assert!(lines[0].get("done_reason").is_none());
    let n = client.only_request().prompt.len();
    for (key, value) in [
        ("done_reason", json!("stop")),
        ("total_duration", json!(111_000_000)),
        ("load_duration", json!(0)),
        ("prompt_eval_count", json!(n)),
        ("prompt_eval_duration", json!(10_000_000)),
        ("eval_count", json!(2)),
        ("eval_duration", json!(100_000_000)),
    ] {
        assert_eq!(lines[2][key], value, "{key}");
    }
}

#[tokio::test]
async fn options_are_followed_and_have_ollamas_values_where_they_are_absent() {
    let client = client();
    client.post(CHAT, chat(json!({ "stream": false, "model": "tiny:latest" }))).await;
    let options = json!({
        "num_predict": 3, "seed": 7, "temperature": 0.5, "top_k": 9, "top_p": 0.25, "min_p": 0.125,
        "repeat_penalty": 1.5, "repeat_last_n": -1, "frequency_penalty": 0.5,
        "presence_penalty": 0.25, "stop": ["END"],
    });
    let answer = client.post(CHAT, chat(json!({ "stream": false, "options": options }))).await;
    assert_eq!(
        (&answer["done_reason"], &answer["message"]["content"]),
        (&json!("length"), &json!("Hel"))
    );
    let open = json!({ "num_predict": -1, "seed": -1, "num_ctx": 50 });
    client.post(CHAT, chat(json!({ "stream": false, "options": open }))).await;
    let requests = client.fake.requests.lock().unwrap();
    let [absent, given, open] = requests.as_slice() else { panic!("three requests") };
    let sampling = &absent.sampling;
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.8, 40, 0.9));
    assert_eq!((sampling.repetition_penalty, sampling.repetition_window), (1.1, 64));
    assert_eq!((absent.max_tokens, absent.is_seeded), (100 - absent.prompt.len(), false));
    let sampling = &given.sampling;
    assert_eq!((given.max_tokens, given.is_seeded, sampling.seed), (3, true, 7));
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.5, 9, 0.25));
    assert_eq!((sampling.repetition_penalty, sampling.repetition_window), (1.5, usize::MAX));
    assert_eq!((sampling.frequency_penalty, sampling.presence_penalty), (0.5, 0.25));
    assert_eq!((sampling.min_p, given.stop.strings.as_slice()), (0.125, &["END".to_owned()][..]));
    assert_eq!((open.max_tokens, open.is_seeded), (50 - open.prompt.len(), false));
}

#[tokio::test]
async fn a_prompt_is_put_into_the_template_or_taken_as_it_is() {
    let client = client();
    let body = json!({ "model": "tiny", "prompt": "a", "system": "x", "stream": false });
    let answer = client.post(GENERATE, body).await;
    assert_eq!((&answer["response"], &answer["done"]), (&json!("Hello"), &json!(true)));
    let raw = "<s><|im_start|>b<|im_end|>";
    client.post(GENERATE, json!({ "prompt": raw, "raw": true, "stream": false })).await;
    client.post(GENERATE, json!({ "prompt": "b", "raw": true, "stream": false })).await;
    let requests = client.fake.requests.lock().unwrap();
    let [asked, raw, plain] = requests.as_slice() else { panic!("three requests") };
    let prompt = [turn("system\nx"), turn("user\na"), vec![START], bytes("assistant\n")].concat();
    assert_eq!(asked.prompt, [vec![BOS], prompt].concat());
    assert_eq!(raw.prompt, [vec![BOS, START], bytes("b"), vec![END]].concat());
    assert_eq!(plain.prompt, [vec![BOS], bytes("b")].concat());
}

#[tokio::test]
async fn a_request_for_nothing_says_that_the_model_is_loaded() {
    let client = client();
    for (path, body, reason) in [
        (GENERATE, json!({ "model": "tiny" }), "load"),
        (GENERATE, json!({ "model": "tiny", "keep_alive": 0 }), "unload"),
        (CHAT, json!({ "model": "tiny", "messages": [] }), "load"),
    ] {
        let answer = client.post(path, body).await;
        assert_eq!((&answer["done"], &answer["done_reason"]), (&json!(true), &json!(reason)));
    }
    assert!(client.fake.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn log_probabilities_are_listed_with_their_pieces() {
    let client = Client::new(|request| say(request, "Hi"));
    let more = json!({ "logprobs": true, "top_logprobs": 1 });
    let lines = client.lines(CHAT, chat(more.clone())).await;
    assert_eq!(lines[0]["logprobs"][0]["token"], "H");
    assert_eq!(lines[1]["logprobs"][0]["top_logprobs"][0]["token"], "i");
    assert!(lines[2].get("logprobs").is_none());
    let mut whole = more;
    whole["stream"] = false.into();
    let answer = client.post(CHAT, chat(whole)).await;
    assert_eq!(answer["logprobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn errors_are_a_sentence() {
    let client = client();
    let options = |options: Value| chat(json!({ "options": options }));
    let message = |message: Value| json!({ "messages": [message] });
    for (path, body, begins) in [
        (CHAT, options(json!({ "temperature": "hot" })), "options.temperature is"),
        (CHAT, options(json!({ "num_predict": 0 })), "options.num_predict is 0"),
        (CHAT, options(json!({ "num_ctx": 0 })), "options.num_ctx is 0"),
        (CHAT, options(json!({ "mirostat": 2 })), "options.mirostat:"),
        (CHAT, options(json!({ "num_ctx": 5 })), "the prompt has"),
        (CHAT, chat(json!({ "format": "xml" })), "format is"),
        (CHAT, chat(json!({ "tools": [{ "type": "function" }] })), "tools[0].function is"),
        (
            CHAT,
            message(json!({ "role": "user", "content": "a", "images": ["x"] })),
            "messages[0].images:",
        ),
        (CHAT, message(json!({ "role": "king", "content": "a" })), "messages[0].role is"),
        (GENERATE, json!({ "prompt": 7 }), "prompt is 7"),
        (GENERATE, json!({ "prompt": "a", "template": "x" }), "template:"),
        (GENERATE, json!({ "prompt": "a", "images": ["x"] }), "images:"),
        (GENERATE, json!({ "prompt": "a", "raw": true, "system": "x" }), "system goes"),
    ] {
        let (status, error) = client.refused(path, body).await;
        let error = error.as_str().unwrap_or_else(|| panic!("{begins}: {error}"));
        assert!(status == 400 && error.starts_with(begins), "{error}");
    }
    let (status, error) = client.refused(CHAT, chat(json!({ "model": "x:latest" }))).await;
    assert!(status == 404 && error.as_str().unwrap().contains("x:latest"), "{error}");
    assert!(client.fake.requests.lock().unwrap().is_empty());
    let body = chat(json!({
        "think": true, "stream": false,
        "options": { "num_ctx": 4096, "num_thread": 4, "zz": 1 },
    }));
    let answer = client.post(CHAT, body).await;
    let warnings = answer["warnings"].to_string();
    for part in ["think", "options.num_ctx", "options.num_thread", "options.zz"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

#[tokio::test]
async fn a_failure_on_the_way_is_the_last_line() {
    let client = Client::new(|_| {
        let failed = Output::Failed(EngineError::Internal("x".into()));
        Script::Say(vec![Output::Token { id: 97, text: "a".into(), logprob: None }, failed])
    });
    let lines = client.lines(CHAT, chat(json!({}))).await;
    assert_eq!(lines[1], json!({ "error": "this request failed: x" }));
    let (status, error) = client.refused(CHAT, chat(json!({ "stream": false }))).await;
    assert_eq!((status, error), (500, json!("this request failed: x")));
}

#[tokio::test]
async fn a_client_that_goes_away_cancels() {
    let client = Client::new(|request| match request.prompt.len() {
        0..20 => Script::Wait,
        _ => {
            let token = Output::Token { id: 97, text: "a".into(), logprob: None };
            Script::SayThenWait(vec![token])
        }
    });
    let body = chat(json!({ "messages": [{ "role": "user", "content": "a long message" }] }));
    let response = client.send(Method::POST, CHAT, &[], body.to_string()).await;
    let mut stream = response.into_body().into_data_stream();
    stream.next().await.unwrap().unwrap();
    assert!(client.fake.cancelled.lock().unwrap().is_empty());
    drop(stream);
    assert_eq!(*client.fake.cancelled.lock().unwrap(), [RequestId(0)]);
}

#[tokio::test]
async fn models_are_listed_with_tags() {
    let client = client();
    let get = async |path: &str| -> Value {
        let (status, text) = client.get(path, &[]).await;
        assert_eq!(status, 200);
        serde_json::from_str(&text).unwrap()
    };
    let tags = get("/api/tags").await;
    let names: Vec<&Value> =
        tags["models"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(names, ["tiny:latest", "org/tiny:latest"]);
    let model = &tags["models"][0];
    assert_eq!(
        (&model["size"], &model["modified_at"]),
        (&json!(1_000), &json!("1970-01-01T00:00:07Z"))
    );
    assert_eq!(model["digest"].as_str().unwrap().len(), 64);
    let running = get("/api/ps").await;
    assert_eq!(running["models"][0]["context_length"], 100);
    assert!(running["models"][0]["expires_at"].as_str().unwrap() > "2100");
    assert_eq!(get("/api/version").await["version"], env!("CARGO_PKG_VERSION"));
    for body in [json!({ "model": "tiny:latest" }), json!({ "name": "org/tiny" })] {
        let shown = client.post("/api/show", body).await;
        assert_eq!(shown["model_info"]["general.name"], "tiny");
        assert!(shown["parameters"].as_str().unwrap().contains("temperature 0.8\n"));
        assert!(shown["template"].as_str().unwrap().contains("im_start"));
        assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    }
    let (status, error) = client.refused("/api/show", json!({ "model": "none" })).await;
    assert!(status == 404 && error.is_string(), "{error}");
}

#[tokio::test]
async fn keys_guard_these_routes_too() {
    let options = Options { keys: Keys::new(["secret"]), ..Options::default() };
    let client = Client::with(options, None, |request| say(request, "x"));
    let (status, text) = client.get("/api/tags", &[]).await;
    assert_eq!(status, 401);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert!(error["error"].is_string(), "{error}");
    assert_eq!(client.get("/api/tags", &[("authorization", "Bearer secret")]).await.0, 200);
}
