//! What clients cannot do to a server: fill its memory, keep its threads, act through somebody
//! else's browser, or with an agent's key as an operator.

mod common;

use axum::Router;
use axum::http::{Method, StatusCode};
use common::{Client, Scripted, fake, noon, say, served, text};
use futures_util::FutureExt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use sterna_server::{Agent, Agents, Keys, Options, Unavailable, router};

const COMPLETIONS: &str = "/v1/completions";
const UNLOAD: &str = "/models/unload";

fn client() -> Client {
    Client::new(|request| say(request, "Hello"))
}

#[tokio::test]
async fn what_is_for_operators_needs_a_key_of_theirs() {
    let key_sha256 = Some(Sha256::digest(b"secret-one").into());
    let one = Agent { name: "one".into(), key_sha256, ..Agent::default() };
    let agents = Arc::new(Agents::new(vec![one], Agent::default()));
    let fake = fake(|request| say(request, "hi"));
    let models = Scripted::new(vec![served("here", None, fake.clone())], Vec::new(), &agents);
    let options = Options { agents, keys: Keys::new(["operator"]), ..Options::default() };
    let client = Client { router: router(models.clone(), options).unwrap(), fake };
    let status = async |method, path: &'static str, key: &str, body: Value| {
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str())];
        client.send(method, path, &headers, body.to_string()).await.status().as_u16()
    };
    for (method, path, body) in [
        (Method::POST, "/v1/cache/limit", json!({ "max_memory_mb": 3 })),
        (Method::POST, "/v1/cache/flush", json!({})),
        (Method::POST, "/models/load", json!({ "model": "here" })),
        (Method::POST, "/models/unload", json!({ "model": "here" })),
        (Method::POST, "/v1/models/here/pin", json!({})),
        (Method::DELETE, "/v1/models/here/pin", json!({})),
    ] {
        assert_eq!(status(method.clone(), path, "secret-one", body.clone()).await, 403, "{path}");
        assert_eq!(status(method.clone(), path, "other", body.clone()).await, 401, "{path}");
        assert_eq!(status(method, path, "operator", body).await, 200, "{path}");
    }
    assert_eq!(models.orders.lock().unwrap().len(), 4);
    let body = json!({ "prompt": "a" });
    assert_eq!(status(Method::POST, COMPLETIONS, "secret-one", body).await, 200);
    assert_eq!(status(Method::GET, "/v1/models", "secret-one", json!({})).await, 200);
}

#[tokio::test]
async fn what_each_choice_would_have_of_its_own_is_bounded() {
    let client = client();
    let biases: Map<String, Value> = (0..4097).map(|id| (id.to_string(), json!(1))).collect();
    for (name, value, code) in [
        ("prompt", json!([vec![65; 101]]), "context_length_exceeded"),
        ("stop", json!("x".repeat(1025)), "invalid_value"),
        ("stop", json!(["a", "x".repeat(1025)]), "invalid_value"),
        ("logit_bias", biases.into(), "invalid_value"),
    ] {
        let mut body = json!({ "prompt": "a", "n": 128, "max_tokens": 1 });
        body[name] = value;
        let (status, error) = client.refused(COMPLETIONS, body).await;
        assert_eq!((status, &error["code"]), (400, &json!(code)), "{name}: {error}");
    }
    assert!(client.fake.requests.lock().unwrap().is_empty());
    let most = json!({ "prompt": vec![65; 100], "max_tokens": 0, "stop": "x".repeat(1024) });
    client.post(COMPLETIONS, most).await;
}

#[tokio::test]
async fn bodies_have_so_much_room_together() {
    let fake = fake(|request| say(request, "hi"));
    let of = |name: &str| vec![served(name, None, fake.clone())];
    let models = Scripted::new(of("here"), of("away"), &Arc::default());
    let options = Options { max_body_bytes: 100, now: noon, ..Options::default() };
    let client = Client { router: router(models.clone(), options).unwrap(), fake };
    // 90 bytes of each wait with it for the model, four times 100 are there for all.
    let body = |model: &str| {
        let body = json!({ "model": model, "prompt": "a", "user": "" }).to_string();
        let user = "x".repeat(90 - body.len());
        json!({ "model": model, "prompt": "a", "user": user })
    };
    let waiting = async {
        let ask = || client.post_with(COMPLETIONS, &[], body("away"));
        tokio::join!(ask(), ask(), ask(), ask())
    };
    let others = async {
        while models.away.lock().unwrap()[0].1.len() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (status, headers, answer) = client.post_with(COMPLETIONS, &[], body("here")).await;
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (503, &json!("bodies_full")));
        assert_eq!(headers["retry-after"], "1");
        client.post(UNLOAD, json!({ "model": "here" })).await;
        models.arrive(Err(Unavailable::Failed("torn".into())));
    };
    let (refused, ()) = tokio::join!(waiting, others);
    assert_eq!(refused.3.2["error"]["code"], "model_load_failed");
    client.post(COMPLETIONS, body("here")).await;
}

#[test]
fn long_bodies_are_read_beside_the_threads_that_serve_connections() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        // The only thread beside has something else to do, so what needs it waits.
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || wait.recv());
        let client = client();
        for path in [
            COMPLETIONS,
            "/v1/sessions/known/fork",
            "/v1/cache/flush",
            "/v1/cache/limit",
            "/models/load",
            UNLOAD,
            "/api/show",
        ] {
            let body = |filler: usize| {
                let filler = "x".repeat(filler);
                json!({ "model": "tiny", "prompt": "a", "max_memory_mb": 3, "x": filler })
            };
            let ask = |filler| client.send(Method::POST, path, &[], body(filler).to_string());
            let at_once = ask(9).now_or_never().expect(path);
            assert_eq!(at_once.status(), StatusCode::OK, "{path}: {}", text(at_once).await);
            assert!(ask(20_000).now_or_never().is_none(), "{path}");
        }
        drop(done);
        assert!(busy.await.unwrap().is_err(), "nothing was sent");
    });
}

#[tokio::test]
async fn many_unknown_names_and_tools_take_no_time() {
    let client = client();
    let mut body: Map<String, Value> =
        (0..100_000).map(|n| (format!("repetition_penalty_{n}"), json!(n))).collect();
    body.insert("prompt".into(), "a".into());
    let answer = client.post(COMPLETIONS, body.into()).await;
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 33);
    let tool = |n| json!({ "type": "function", "function": { "name": format!("tool_{n}") } });
    let mut tools: Vec<Value> = (0..20_000).map(tool).collect();
    tools.push(tool(7));
    let messages = json!([{ "role": "user", "content": "a" }]);
    let body = json!({ "messages": messages, "tools": tools });
    let (status, error) = client.refused("/v1/chat/completions", body).await;
    assert_eq!((status, &error["param"]), (400, &json!("tools[20000].function.name")));
}

/// The status of what is sent with these headers; a refusal must say what to do.
async fn met(router: &Router, method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
    let client = Client { router: router.clone(), fake: fake(|request| say(request, "hi")) };
    let body = match method {
        Method::POST => json!({ "model": "tiny", "prompt": "a" }).to_string(),
        _ => String::new(),
    };
    let response = client.send(method, path, headers, body).await;
    let status = response.status().as_u16();
    let text = text(response).await;
    assert!(status != 403 || text.contains("--cors-origin"), "{text}");
    status
}

#[tokio::test]
async fn web_pages_of_other_hosts_do_nothing() {
    let cors_origins = vec!["https://app.example".to_owned()];
    let client = Client::with(Options { cors_origins, ..Options::default() }, None, |request| {
        say(request, "hi")
    });
    let host = ("host", "127.0.0.1:8000");
    // What a browser sends without asking first, as a form does.
    let form = ("content-type", "text/plain");
    for (origin, status) in [
        ("https://evil.example", 403),
        ("http://127.0.0.1:8001", 403),
        ("http://127.0.0.1:8000.evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:8000", 200),
        ("https://app.example", 200),
    ] {
        for (method, path) in [
            (Method::POST, UNLOAD),
            (Method::POST, COMPLETIONS),
            (Method::GET, "/health/ready"),
            (Method::GET, "/"),
        ] {
            let headers = [host, form, ("origin", origin)];
            assert_eq!(met(&client.router, method, path, &headers).await, status, "{origin}");
        }
    }
    let anybody = [host, form];
    assert_eq!(met(&client.router, Method::POST, UNLOAD, &anybody).await, 200);
    let options = Options { cors_origins: vec!["*".into()], ..Options::default() };
    let open = Client::with(options, None, |request| say(request, "hi"));
    let headers = [host, ("origin", "https://any.example")];
    assert_eq!(met(&open.router, Method::POST, COMPLETIONS, &headers).await, 200);
}

#[tokio::test]
async fn on_loopback_without_keys_other_names_are_not_this_host() {
    let server = |keys: Keys, loopback_name: Option<&str>| {
        let cors_origins = vec!["https://proxy.example".to_owned()];
        let loopback_name = loopback_name.map(str::to_owned);
        let options = Options { keys, cors_origins, loopback_name, ..Options::default() };
        Client::with(options, None, |request| say(request, "hi")).router
    };
    let (own, key) = (Some("my-laptop"), ("authorization", "Bearer a"));
    // A page whose host's name came to mean this machine: its browser takes it for our own.
    let rebound = [("host", "evil.example:8000"), ("origin", "http://evil.example:8000"), key];
    let names =
        ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "my-laptop:8000", "proxy.example"];
    for (server, status) in [
        (server(Keys::default(), own), 403),
        (server(Keys::new(["a"]), own), 200),
        (server(Keys::default(), None), 200),
    ] {
        assert_eq!(met(&server, Method::POST, UNLOAD, &rebound).await, status);
        let seen = met(&server, Method::GET, "/v1/models", &[rebound[0], key]).await;
        assert_eq!(seen, status);
        for name in names {
            let headers = [("host", name), key];
            assert_eq!(met(&server, Method::POST, UNLOAD, &headers).await, 200, "{name}");
        }
    }
}
