//! `sterna serve` as a client meets it: the real binary, a real socket, HTTP by hand.

use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/austen-4m.gguf");

pub struct Server {
    pub child: Child,
    pub address: String,
    // Held, so that what the server prints has somewhere to go.
    _out: BufReader<ChildStdout>,
}

impl Server {
    /// What it says besides its address goes to `log` in the folder.
    pub fn start(folder: &Path, flags: &[&str]) -> Self {
        Self::start_at("0", folder, flags)
    }

    pub fn start_at(port: &str, folder: &Path, flags: &[&str]) -> Self {
        Self::of_models(port, folder, &[&[MODEL], flags].concat())
    }

    /// A server of the models that the flags say.
    pub fn of(folder: &Path, flags: &[&str]) -> Self {
        Self::of_models("0", folder, flags)
    }

    fn of_models(port: &str, folder: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
        command.args(["serve", "--port", port, "--threads", "2", "--ctx-size", "256"]);
        command.args(flags).env("XDG_CACHE_HOME", folder.join("cache"));
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at http://").expect(&line).to_owned();
        Self { child, address, _out: out }
    }

    /// Sends a request and reads the whole answer: the status, the head and the body.
    pub fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> (u16, String, String) {
        let mut socket = self.send(method, path, head, body);
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), unchunked(head, body))
    }

    pub fn send(&self, method: &str, path: &str, head: &str, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        socket
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, _, body) = self.ask("POST", path, "", &body.to_string());
        (status, serde_json::from_str(&body).expect(&body))
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("GET", path, "", "");
        (status, body)
    }

    /// Counters and gauges of the model.
    pub fn stats(&self) -> Value {
        let stats: Value = serde_json::from_str(&self.get("/api/v1/stats").1).unwrap();
        stats["models"][0]["stats"].clone()
    }

    /// Asks it to end, as an operator does.
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A body without the marks of chunked transfer.
fn unchunked(head: &str, body: &str) -> String {
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole += &after[..size];
        rest = after[size..].strip_prefix("\r\n").unwrap_or("");
    }
    whole
}

pub fn greedy(prompt: &str, max_tokens: usize) -> Value {
    json!({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true})
}

#[test]
fn a_served_model_says_what_run_says_and_streams_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    let args = ["run", MODEL, "She had been", "-n", "24", "--temp", "0", "--ignore-eos", "-q"];
    let run = super::ok(folder.path(), &args);
    let (status, answer) = server.post("/v1/completions", &greedy("She had been", 24));
    assert_eq!(status, 200, "{answer}");
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert_eq!(format!("She had been{text}\n"), run);
    assert_eq!(answer["usage"]["completion_tokens"], 24);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    // The same again has its prompt in the cache, and the same text.
    let (_, again) = server.post("/v1/completions", &greedy("She had been", 24));
    assert_eq!(again["choices"][0]["text"], text);
    assert!(again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);

    let mut body = greedy("She had been", 24);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let (status, head, events) = server.ask("POST", "/v1/completions", "", &body.to_string());
    assert!(status == 200 && head.contains("text/event-stream"), "{head}");
    let data: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        data[..data.len() - 1].iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let piece = |chunk: &Value| chunk["choices"][0]["text"].as_str().unwrap_or("").to_owned();
    assert_eq!(chunks.iter().map(piece).collect::<String>(), text);
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 24);

    let chat = json!({"messages": [{"role": "user", "content": "Who is she?"}], "max_tokens": 4});
    let (status, answer) = server.post("/v1/chat/completions", &chat);
    assert_eq!((status, &answer["choices"][0]["message"]["role"]), (200, &json!("assistant")));
    assert!(server.terminate().success(), "SIGTERM is a regular end");
}

#[test]
fn operators_see_health_models_numbers_and_pages() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--alias", "jane"]);
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(server.get("/health/ready").0, 200);
    assert_eq!(server.stats()["response_cache"]["entries"], 0, "its token is not kept");
    let (_, models) = server.get("/v1/models");
    assert!(models.contains("austen-4m"), "{models}");
    let mut by_alias = greedy("A", 2);
    by_alias["model"] = json!("jane");
    assert_eq!(server.post("/v1/completions", &by_alias).0, 200);
    let (_, metrics) = server.get("/metrics");
    assert!(metrics.contains("vllm:generation_tokens_total"), "{metrics}");
    let (_, stats) = server.get("/api/v1/stats");
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert!(stats["models"][0]["stats"]["new_tokens"].as_u64().unwrap() >= 2, "{stats}");
    // Which of the two it is depends on whether the prepared weights could be mapped.
    let memory = &stats["models"][0]["memory"];
    let weights = memory["weights_shared"].as_u64().or(memory["weights_private"].as_u64());
    assert!(weights.unwrap() > 1_000_000, "{memory}");
    for page in ["/", "/chat", "/style.css", "/dashboard.js", "/chat.js"] {
        let (status, text) = server.get(page);
        assert!(status == 200 && text.len() > 500, "{page}");
    }
}

// proves A16
#[test]
fn what_cannot_be_served_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--api-key", "secret-key"]);
    let key = "Authorization: Bearer secret-key\r\n";
    let refused = |head: &str, path: &str, body: &str| {
        let (status, _, body) = server.ask("POST", path, head, body);
        let body: Value = serde_json::from_str(&body).expect(&body);
        (
            status,
            body["error"]["message"].as_str().unwrap().to_owned(),
            body["error"]["code"].clone(),
        )
    };
    assert_eq!(refused("", "/v1/completions", "{}").0, 401);
    let (status, message, code) =
        refused(key, "/v1/completions", r#"{"prompt": "a", "max_tokens": 9999}"#);
    assert_eq!((status, code), (400, json!("context_length_exceeded")), "{message}");
    let (status, message, _) =
        refused(key, "/v1/completions", r#"{"model": "gpt-9", "prompt": "a"}"#);
    assert!(status == 404 && message.contains("austen-4m"), "{message}");
    let (status, message, _) = refused(key, "/v1/completions", r#"{"prompt": "#);
    assert_eq!(status, 400, "{message}");
    let (status, _, body) = server.ask(
        "POST",
        "/v1/completions",
        key,
        r#"{"prompt": "a", "max_tokens": 1, "tempratur": 1}"#,
    );
    assert!(status == 200 && body.contains("tempratur") && body.contains("temperature"), "{body}");
    assert_eq!(server.get("/v1/../../etc/passwd").0, 401);
}

#[test]
fn clients_that_go_away_free_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--parallel", "1"]);
    let mut long = greedy("Once", 200);
    long["stream"] = json!(true);
    for _ in 0..3 {
        let mut socket = server.send("POST", "/v1/completions", "", &long.to_string());
        let mut some = [0; 64];
        socket.read_exact(&mut some).unwrap();
        socket.shutdown(Shutdown::Both).unwrap();
    }
    assert_eq!(server.post("/v1/completions", &greedy("Twice", 2)).0, 200);
    let (_, stats) = server.get("/api/v1/stats");
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["models"][0]["stats"]["running"], 0, "{stats}");
}

/// A number of a server's metrics.
pub fn metric(server: &Server, name: &str) -> f64 {
    let (_, metrics) = server.get("/metrics");
    let line = metrics.lines().find(|line| line.starts_with(name)).expect(name);
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

// proves B24 (in part: what was read before the process was killed need not be read again; no time
// is compared)
#[test]
fn prompts_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let flags = ["--kv-disk", kept.to_str().unwrap(), "--kv-disk-size", "1GB"];
    let prompt = "It is a truth universally acknowledged, that a single man in possession of a \
                  good fortune, must be in want of a wife. "
        .repeat(5);
    let request = greedy(&prompt, 8);
    let cached = |answer: &Value| {
        answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    let mut server = Server::start(folder.path(), &flags);
    let (status, cold) = server.post("/v1/completions", &request);
    assert_eq!((status, cached(&cold)), (200, 0), "{cold}");
    while metric(&server, "sterna_kv_disk_written_bytes_total") == 0.0 {
        std::thread::yield_now();
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    // Other keys and values, so other addresses.
    let other = Server::start(folder.path(), &[&flags[..], &["--kv-cache-dtype", "f32"]].concat());
    assert_eq!(cached(&other.post("/v1/completions", &request).1), 0);
    drop(other);
    // A machine that is busy with other tests may read its disk too late, and computes then.
    let warm = (0..10).find_map(|_| {
        let server = Server::start(folder.path(), &flags);
        let (_, warm) = server.post("/v1/completions", &request);
        assert_eq!(warm["choices"], cold["choices"]);
        (cached(&warm) >= 96).then(|| metric(&server, "sterna_kv_disk_read_bytes_total"))
    });
    assert!(warm.expect("it is found") > 0.0);
}

#[test]
fn mistakes_before_serving_are_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert!(super::refused(path, &["serve", MODEL, "--itl-target", "soon"]).contains("90s"));
    assert!(super::refused(path, &["serve", MODEL, "--client-timeout", "0s"]).contains("60s"));
    assert!(super::refused(path, &["serve", MODEL, "--kv-size", "much"]).contains("700MB"));
    assert!(super::refused(path, &["serve", MODEL, MODEL, "--alias", "a"]).contains("--alias"));
    assert!(super::refused(path, &["serve", MODEL, "--kv-disk", "d"]).contains("--kv-disk-size"));
    let small = super::refused(path, &["serve", MODEL, "--port", "0", "--kv-disk-size", "1KB"]);
    assert!(small.contains("allow more"), "{small}");
    let missing = super::refused(path, &["serve", "none.gguf", "--port", "0"]);
    assert!(missing.contains("none.gguf"), "{missing}");
}
