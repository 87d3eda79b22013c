//! Requests for models that are not in memory yet, and the agents that ask for them.

mod common;

use axum::http::{Method, StatusCode};
use common::scripted::here_and_away;
use common::{Client, Script, Scripted, fake, say, served, text};
use futures_util::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use sterna_engine::{Class, EngineError, Output};
use sterna_server::{Agent, Options, Quotas, Unavailable, router};

const COMPLETIONS: &str = "/v1/completions";

/// A server of `here`, and of `away`, which has to be loaded.
fn client(agents: Vec<Agent>) -> (Client, Arc<Scripted>) {
    here_and_away(fake(|request| say(request, "hi")), agents)
}

fn agent(name: &str) -> Agent {
    Agent { name: name.into(), ..Agent::default() }
}

/// Lets everybody ask who is about to.
async fn settle(models: &Scripted, n_waiting: usize) {
    while models.away.lock().unwrap()[0].1.len() < n_waiting {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn all_who_wait_for_a_load_are_answered_by_it() {
    let (client, models) = client(Vec::new());
    let body = json!({ "prompt": "a", "model": "org/away" });
    let load = json!({ "model": "org/away" }).to_string();
    let why = Unavailable::Failed("model `org/away`: torn".into());
    let asked = async {
        tokio::join!(
            client.post_with(COMPLETIONS, &[], body.clone()),
            client.post_with(COMPLETIONS, &[], body.clone()),
            client.send(Method::POST, "/models/load", &[], load),
        )
    };
    let failing = async {
        settle(&models, 3).await;
        models.arrive(Err(why));
    };
    let ((a, b, c), ()) = tokio::join!(asked, failing);
    for (status, error) in [(a.0, a.2), (b.0, b.2)] {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error["error"]["code"], "model_load_failed");
        assert_eq!(error["error"]["message"], "model `org/away`: torn");
    }
    assert_eq!(c.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(client.fake.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_goes_away_waits_no_longer() {
    let (client, models) = client(Vec::new());
    let body = json!({ "prompt": "a", "model": "org/away" });
    let request = client.post_with(COMPLETIONS, &[], body);
    let gone = tokio::time::timeout(Duration::from_millis(20), request).await;
    assert!(gone.is_err());
    assert!(models.away.lock().unwrap()[0].1[0].is_closed());
}

#[tokio::test]
async fn who_asks_no_model_loads_none() {
    let (client, models) = client(Vec::new());
    for (path, body, status) in [
        ("/api/generate", json!({ "model": "org/away", "keep_alive": 0 }), 200),
        ("/api/chat", json!({ "model": "org/away", "keep_alive": "0s", "messages": [] }), 200),
        ("/v1/no/such/route", json!({ "model": "org/away", "prompt": "a" }), 404),
        ("/v1/responses/resp_1/cancel", json!({ "model": "org/away" }), 404),
        ("/v1/cache/flush", json!({ "model": "org/away" }), 200),
        ("/api/show", json!({ "model": "org/away" }), 200),
    ] {
        let (got, _, answer) = client.post_with(path, &[], body).await;
        assert_eq!(got.as_u16(), status, "{path}: {answer}");
        assert!(models.away.lock().unwrap()[0].1.is_empty(), "{path} waits for a model");
        assert!(status != 200 || answer["done_reason"].as_str().unwrap_or("unload") == "unload");
    }
    // With something to answer it is loaded, however soon it may go again.
    let body = json!({ "model": "org/away", "keep_alive": 0, "prompt": "a" });
    let request = client.post_with("/api/generate", &[], body);
    assert!(tokio::time::timeout(Duration::from_millis(20), request).await.is_err());
    assert_eq!(models.away.lock().unwrap()[0].1.len(), 1);
}

#[tokio::test]
async fn a_limit_that_pinned_models_exceed_says_so() {
    let fake = fake(|request| say(request, "hi"));
    let mut large = served("large", None, fake.clone());
    large.memory = vec![("weights", 3 << 20)];
    let models = Scripted::new(vec![large], Vec::new(), &Arc::default());
    let client = Client { router: router(models, Options::default()).unwrap(), fake };
    client.send(Method::POST, "/v1/models/large/pin", &[], String::new()).await;
    for (mb, warned) in [(4, false), (2, true)] {
        let answer = client.post("/v1/cache/limit", json!({ "max_memory_mb": mb })).await;
        let warning = answer["warnings"][0].as_str().unwrap_or_default();
        assert_eq!(warning.contains("hold 3145728 bytes"), warned, "{answer}");
    }
}

#[tokio::test]
async fn a_queue_that_is_full_is_said_at_once() {
    let (client, models) = client(Vec::new());
    let body = json!({ "prompt": "a", "model": "org/away" });
    let full = async {
        settle(&models, 1).await;
        models.arrive(Err(Unavailable::QueueFull(7)));
    };
    let ((status, headers, error), ()) =
        tokio::join!(client.post_with(COMPLETIONS, &[], body), full);
    assert_eq!(
        (status, &error["error"]["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("queue_full"))
    );
    assert_eq!(headers["retry-after"], "1");
}

#[tokio::test]
async fn a_listener_hears_where_models_are_until_the_server_ends() {
    let (client, models) = client(Vec::new());
    let response = client.send(Method::GET, "/models/sse", &[], String::new()).await;
    let mut heard = response.into_body().into_data_stream();
    let mut told = Vec::new();
    for _ in 0..2 {
        let frame = heard.next().await.unwrap().unwrap();
        let line = std::str::from_utf8(&frame).unwrap().strip_prefix("data: ").unwrap();
        told.push(serde_json::from_str::<Value>(line).unwrap());
    }
    let [here, away] = &told[..] else { unreachable!("there are two") };
    assert_eq!((&here["model"], &here["event"]), (&json!("here"), &json!("model_status")));
    assert_eq!(here["data"]["status"], "loaded");
    assert_eq!(here["data"]["info"]["id"], "here");
    assert_eq!(away["data"], json!({ "status": "unloaded" }));
    models.is_ending.store(true, Ordering::Relaxed);
    assert!(heard.next().await.is_none());
}

#[tokio::test]
async fn models_are_listed_with_where_they_are() {
    let (client, models) = client(Vec::new());
    let (_, text) = client.get("/models", &[]).await;
    let list: Value = serde_json::from_str(&text).unwrap();
    let shown: Vec<(&str, &str)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["id"].as_str().unwrap(), m["status"]["value"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("here", "loaded"), ("org/away", "unloaded")]);
    let send =
        |method, path: &'static str, body: Value| client.send(method, path, &[], body.to_string());
    for (method, path, body, status) in [
        (Method::POST, "/v1/models/org/away/pin", json!({}), 200),
        (Method::DELETE, "/v1/models/here/pin", json!({}), 200),
        (Method::POST, "/v1/models/none/pin", json!({}), 404),
        (Method::POST, "/v1/models/here/oops", json!({}), 404),
        (Method::POST, "/models/unload", json!({ "model": "here" }), 200),
        (Method::POST, "/models/unload", json!({ "model": "org/away" }), 409),
        (Method::POST, "/models/unload", json!({ "model": "../../etc/passwd" }), 404),
        (Method::POST, "/models/load", json!({ "model": "../x", "extra": 1 }), 404),
        (Method::POST, "/models/load", json!({}), 400),
        (Method::POST, "/v1/cache/limit", json!({ "max_memory_mb": 3 }), 200),
        (Method::POST, "/v1/cache/limit", json!({ "max_memory": 3 }), 400),
        (Method::POST, "/v1/cache/limit", json!({ "max_memory_mb": 0 }), 400),
    ] {
        let response = send(method, path, body).await;
        let got = response.status().as_u16();
        assert_eq!(got, status, "{path}: {}", text_of(response).await);
    }
    let orders = models.orders.lock().unwrap();
    let limit = "limit 3145728";
    let expected = ["pin org/away true", "pin here false", "unload here", "unload org/away", limit];
    assert_eq!(*orders, expected);
}

async fn text_of(response: axum::response::Response) -> String {
    text(response).await
}

#[tokio::test]
async fn an_agent_has_its_model_class_and_share() {
    let batch = Some(Class::Batch);
    let own = Agent { model: Some("here".into()), class: batch, share: 2.5, ..agent("own") };
    let (client, _) = client(vec![own]);
    for model in [json!(null), json!("default"), json!("here")] {
        let body = json!({ "prompt": "a", "agent_id": "own", "model": model });
        let (status, headers, answer) = client.post_with(COMPLETIONS, &[], body).await;
        assert_eq!((status, &answer["model"]), (StatusCode::OK, &json!("here")), "{answer}");
        assert_eq!(headers["x-priority-class"], "batch");
    }
    let request = client.fake.requests.lock().unwrap()[0].clone();
    assert_eq!((request.agent.as_str(), request.share), ("own", 2.5));
    // More urgent than its class is not had, and that is said.
    let body = json!({ "prompt": "a", "agent_id": "own", "priority": -1 });
    let (_, headers, answer) = client.post_with(COMPLETIONS, &[], body.clone()).await;
    assert_eq!(headers["x-priority-class"], "batch");
    assert!(answer["warnings"][0].as_str().unwrap().contains("`own`"), "{answer}");
    let strict = [("x-strict", "true")];
    assert_eq!(client.post_with(COMPLETIONS, &strict, body).await.0, StatusCode::BAD_REQUEST);
    // Who is nobody must say which of several models it wants.
    let (status, error) = client.refused(COMPLETIONS, json!({ "prompt": "a" })).await;
    assert_eq!((status, &error["param"]), (400, &json!("model")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`here`, `org/away`"), "{message}");
}

// proves P-21 (401)
#[tokio::test]
async fn a_key_is_its_agent() {
    let key_sha256 = Some(Sha256::digest(b"secret-one").into());
    let (client, _) = client(vec![Agent { key_sha256, ..agent("one") }]);
    let body = |agent: Value| json!({ "prompt": "a", "model": "here", "agent_id": agent });
    let key = ("authorization", "Bearer secret-one");
    let named = ("x-agent-id", "one");
    for (headers, agent, status) in [
        (vec![key], json!(null), 200),
        (vec![key, named], json!("one"), 200),
        (vec![], json!(null), 200),
        (vec![("authorization", "Bearer other")], json!("two"), 200),
        (vec![], json!("one"), 401),
        (vec![named], json!(null), 401),
        (vec![key, ("x-agent-id", "two")], json!(null), 403),
        // Under another name it would leave its quotas.
        (vec![key], json!("two"), 403),
        (vec![key, named], json!("two"), 403),
    ] {
        let (got, _, answer) = client.post_with(COMPLETIONS, &headers, body(agent)).await;
        assert_eq!(got.as_u16(), status, "{headers:?}: {answer}");
    }
    let requests = client.fake.requests.lock().unwrap();
    let agents: Vec<&str> = requests.iter().map(|request| request.agent.as_str()).collect();
    assert_eq!(agents, ["one", "one", "", "two"]);
}

#[tokio::test]
async fn nothing_is_loaded_for_who_may_not_ask() {
    let key_sha256 = Some(Sha256::digest(b"secret-one").into());
    let (client, models) = client(vec![Agent { key_sha256, ..agent("one") }]);
    let body = json!({ "prompt": "a", "model": "org/away", "agent_id": "one" });
    let (status, error) = client.refused(COMPLETIONS, body).await;
    assert_eq!((status, &error["code"]), (401, &json!("agent_key_required")), "{error}");
    let body = json!({
        "model": "org/away",
        "max_tokens": 1,
        "messages": [{ "role": "user", "content": "a" }],
        "metadata": { "user_id": "one" },
    });
    assert_eq!(client.post_with("/v1/messages", &[], body).await.0, StatusCode::UNAUTHORIZED);
    assert!(models.away.lock().unwrap()[0].1.is_empty(), "it was asked for");
}

// proves P-21 (429)
#[tokio::test]
async fn quotas_end_in_429_with_when_to_come_back() {
    let quotas = Quotas { requests_per_minute: Some(2), ..Quotas::default() };
    let (client, _) = client(vec![Agent { quotas, ..agent("few") }]);
    let body = json!({ "prompt": "a", "model": "here", "agent_id": "few" });
    for _ in 0..2 {
        client.post(COMPLETIONS, body.clone()).await;
    }
    for stream in [false, true] {
        let mut body = body.clone();
        body["stream"] = stream.into();
        let (status, headers, answer) = client.post_with(COMPLETIONS, &[], body).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(headers["retry-after"], "30");
        assert_eq!(answer["error"]["code"], "rate_limit_exceeded");
        assert!(answer["error"]["message"].as_str().unwrap().contains("`few`"), "{answer}");
    }
    // Others go on.
    client.post(COMPLETIONS, json!({ "prompt": "a", "model": "here" })).await;
    let (_, metrics) = client.get("/metrics", &[]).await;
    let line = "sterna_quota_refused_total{quota=\"requests_per_minute\"} 2\n";
    assert!(metrics.contains(line), "{metrics}");
    let (_, stats) = client.get("/api/v1/stats", &[]).await;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let few = &stats["agents"][0];
    assert_eq!((&few["name"], &few["quotas"]["requests_per_minute"]), (&json!("few"), &json!(2)));
    assert_eq!(few["refused"]["requests_per_minute"], 2);
}

#[tokio::test]
async fn a_quota_of_requests_at_once_is_freed_by_their_end() {
    let quotas = Quotas { concurrent_requests: Some(1), ..Quotas::default() };
    let (client, _) = client(vec![Agent { quotas, ..agent("one") }]);
    let body = json!({ "prompt": "a", "model": "here", "agent_id": "one" });
    for _ in 0..3 {
        client.post(COMPLETIONS, body.clone()).await;
    }
    let (stuck, _) = here_and_away(fake(|_| Script::Wait), vec![Agent { quotas, ..agent("one") }]);
    let mut two = body.clone();
    two["n"] = 2.into();
    let (status, error) = stuck.refused(COMPLETIONS, two).await;
    // However long its client waits.
    assert_eq!((status, &error["code"]), (400, &json!("invalid_value")), "{error}");
    assert!(stuck.fake.requests.lock().unwrap().is_empty());
    let open = stuck.send(Method::POST, COMPLETIONS, &[], body.to_string());
    let (_, refused) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(20), open),
        stuck.refused(COMPLETIONS, body.clone())
    );
    assert_eq!((refused.0, &refused.1["code"]), (429, &json!("rate_limit_exceeded")));
}

#[tokio::test]
async fn what_the_engine_refuses_is_not_counted() {
    let n_asked = AtomicUsize::new(0);
    let fake = fake(move |request| match n_asked.fetch_add(1, Ordering::Relaxed) {
        // The second of two choices.
        0 => Script::Wait,
        1 => Script::Refuse(EngineError::QueueFull { waiting: 1 }),
        2 => {
            let (answered_in_ms, deadline_ms, retry_after) = (2, 1, 1);
            let why = EngineError::TooLate { answered_in_ms, deadline_ms, retry_after };
            Script::Say(vec![Output::Failed(why)])
        }
        _ => say(request, "hi"),
    });
    let (requests_per_minute, tokens_per_minute) = (Some(2), Some(9));
    let quotas = Quotas { requests_per_minute, tokens_per_minute, ..Quotas::default() };
    let (client, _) = here_and_away(fake, vec![Agent { quotas, ..agent("few") }]);
    let body = |n: u32| json!({ "prompt": "abc", "model": "here", "agent_id": "few", "n": n });
    for (n, code) in [(2, "queue_full"), (1, "deadline_too_early")] {
        let (_, error) = client.refused(COMPLETIONS, body(n)).await;
        assert_eq!(error["code"], code);
    }
    client.post(COMPLETIONS, body(2)).await;
    let (_, error) = client.refused(COMPLETIONS, body(1)).await;
    assert_eq!(error["code"], "rate_limit_exceeded");
}

#[tokio::test]
async fn every_api_waits_for_the_model_that_it_names() {
    let (client, models) = client(Vec::new());
    let turns = json!([{ "role": "user", "content": "a" }]);
    let bodies = [
        ("/v1/chat/completions", json!({ "messages": turns, "model": "org/away" })),
        ("/v1/responses", json!({ "input": "a", "model": "org/away" })),
        ("/v1/messages", json!({ "messages": turns, "model": "org/away", "max_tokens": 3 })),
        ("/api/chat", json!({ "messages": turns, "model": "org/away:latest" })),
        ("/api/generate", json!({ "model": "org/away" })),
        ("/tokenize", json!({ "content": "a", "model": "org/away" })),
    ];
    let n_asked = bodies.len();
    let asked = bodies.map(|(path, body)| {
        let (client, body) = (&client, body.to_string());
        async move { client.send(Method::POST, path, &[], body).await.status().as_u16() }
    });
    let failing = async {
        settle(&models, n_asked).await;
        models.arrive(Err(Unavailable::TooLarge("it takes too much".into())));
    };
    let (statuses, ()) = tokio::join!(futures_util::future::join_all(asked), failing);
    // Anthropic has a status of its own.
    assert_eq!(statuses, [503, 503, 529, 503, 503, 503]);
}

#[tokio::test]
async fn lists_say_what_is_in_memory() {
    let (client, models) = client(Vec::new());
    let get = async |path: &str| -> Value {
        let (status, text) = client.get(path, &[]).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let list = get("/v1/models").await;
    let of = |at: usize| (&list["data"][at]["id"], &list["data"][at]["status"]["value"]);
    assert_eq!(of(0), (&json!("here"), &json!("loaded")));
    assert_eq!(of(1), (&json!("org/away"), &json!("unloaded")));
    assert_eq!(get("/v1/models/org/away").await["status"]["value"], "unloaded");
    let names = |list: &Value| -> Vec<String> {
        let models = list["models"].as_array().unwrap().iter();
        models.map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    let tags = get("/api/tags").await;
    assert_eq!(names(&tags), ["here:latest", "org/away:latest"]);
    assert_eq!(tags["models"][1]["size"], 1_000);
    let running = get("/api/ps").await;
    assert_eq!(names(&running), ["here:latest"]);
    assert!(running["models"][0]["expires_at"].as_str().unwrap().starts_with("9999"));
    // To look at one does not load it.
    let shown = client.post("/api/show", json!({ "model": "org/away:latest" })).await;
    assert_eq!(shown["model_info"]["sterna.context_length"], 100);
    assert_eq!(shown["model_info"]["sterna.vocabulary_length"], Value::Null);
    let shown = client.post("/api/show", json!({ "model": "here" })).await;
    assert!(shown["model_info"]["sterna.vocabulary_length"].is_number());
    assert!(models.away.lock().unwrap()[0].1.is_empty(), "nobody waits for it");
    let stats = get("/api/v1/stats").await;
    assert_eq!(stats["models"].as_array().unwrap().len(), 1);
    let away = &stats["catalog"][1];
    let shown = (&away["name"], &away["status"]["value"], &away["memory_bytes"]);
    assert_eq!(shown, (&json!("org/away"), &json!("unloaded"), &json!(1_000)));
    assert_eq!(get("/props").await["model_alias"], "here");
    assert_eq!(client.get("/props?model=org%2Faway", &[]).await.0, 503);
}

#[tokio::test]
async fn a_request_says_how_long_its_model_stays() {
    let (client, models) = client(Vec::new());
    let chat = json!({ "model": "here", "prompt": "a", "keep_alive": "5m", "stream": false });
    client.post("/api/generate", chat).await;
    client.post(COMPLETIONS, json!({ "model": "here", "prompt": "a", "keep_alive": -1 })).await;
    let gone = client.post("/api/generate", json!({ "model": "here", "keep_alive": 0 })).await;
    assert_eq!(gone["done_reason"], "unload");
    let soon = json!({ "model": "here", "prompt": "a", "keep_alive": "soon" });
    let (status, error) = client.refused(COMPLETIONS, soon).await;
    assert_eq!((status, &error["param"]), (400, &json!("keep_alive")));
    let expected = ["keep here For(300s)", "keep here Forever", "keep here For(0ns)"];
    assert_eq!(*models.orders.lock().unwrap(), expected);
}

#[tokio::test]
async fn names_are_never_paths() {
    let (client, models) = client(Vec::new());
    for name in [
        "../..",
        "../../etc/passwd",
        "/etc/passwd",
        "..\\x",
        "here/../here",
        "./here",
        "here\0",
        "",
    ] {
        let model = json!({ "model": name });
        for (path, more) in [
            (COMPLETIONS, json!({ "prompt": "a" })),
            ("/api/generate", json!({ "prompt": "a" })),
            ("/api/show", json!({})),
            ("/models/load", json!({})),
            ("/models/unload", json!({})),
            ("/v1/cache/flush", json!({})),
        ] {
            let mut body = model.clone();
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let response = client.send(Method::POST, path, &[], body.to_string()).await;
            let status = response.status().as_u16();
            assert!(status == 404, "{path} {name:?}: {status} {}", text(response).await);
        }
    }
    for path in ["/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/../../x", "/v1/models/%2fetc"] {
        assert_eq!(client.get(path, &[]).await.0, 404, "{path}");
        let response = client.send(Method::POST, &format!("{path}/pin"), &[], String::new()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert!(models.orders.lock().unwrap().is_empty());
    assert!(models.away.lock().unwrap()[0].1.is_empty());
}

#[tokio::test]
async fn who_anthropics_clients_name_is_the_agent() {
    let key_sha256 = Some(Sha256::digest(b"secret-one").into());
    let batch = Some(Class::Batch);
    let slow = Agent { class: batch, share: 0.5, ..agent("slow") };
    let (client, _) = client(vec![slow, Agent { key_sha256, ..agent("one") }]);
    let body = |user: &str| {
        json!({ "model": "here", "max_tokens": 3, "metadata": { "user_id": user },
            "messages": [{ "role": "user", "content": "a" }] })
    };
    client.post("/v1/messages", body("slow")).await;
    let request = client.only_request();
    assert_eq!((request.agent.as_str(), request.share), ("slow", 0.5));
    assert_eq!(request.class, Class::Batch);
    let (status, _, _) = client.post_with("/v1/messages", &[], body("one")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let key = [("x-api-key", "secret-one")];
    assert_eq!(client.post_with("/v1/messages", &key, body("one")).await.0, StatusCode::OK);
}
