//! What clients, networks and operators do to a server that it must outlive: the fast ones. Those
//! that take minutes are in [`long`], for `cargo xtask faults`.

mod fuzz;
mod long;

use super::serve::{Server, greedy, metric};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A request whose answer never comes fails a test instead of holding it.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// A completion from a server that may be gone at any moment: its status and answer, or none.
fn attempt(address: &str, body: &Value) -> Option<(u16, Value)> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(HANGS_AFTER)).ok()?;
    let body = body.to_string();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    write!(socket, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

/// The same until it is answered, as clients do whose server restarts.
fn retried(address: &str, body: &Value) -> String {
    for _ in 0..600 {
        if let Some((200, answer)) = attempt(address, body) {
            return answer["choices"][0]["text"].as_str().unwrap().to_owned();
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the server did not come back within 30 s");
}

/// A prompt of some pages whose answer is computed each time.
fn computed(begins: &str, max_tokens: usize) -> Value {
    let rest = "that a single man in possession of a good fortune must be in want of a wife. ";
    let mut body = greedy(&format!("{begins} {}", rest.repeat(4)), max_tokens);
    body["cache"] = json!({"no-cache": true});
    body
}

/// Kills a server with the work that it has; nothing is left to itself.
fn kill_at_work(server: &mut Server, is_over: impl Fn() -> bool) {
    while server.stats()["running"] == 0 {
        assert!(!is_over(), "all was answered before the server was killed");
        thread::sleep(Duration::from_millis(1));
    }
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

/// A server is well when it answers, nothing panicked, and nobody waits.
fn assert_well(server: &Server, folder: &Path) {
    let (status, answer) = server.post("/v1/completions", &greedy("It is", 3));
    assert_eq!((status, &answer["usage"]["completion_tokens"]), (200, &json!(3)), "{answer}");
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn poisoned_requests_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template");
    let text = "{% if messages[0].content == 'boom' %}{{ raise_exception('no boom here') }}{% elif \
                messages[0].content == 'loop' %}{% for i in range(9999) %}{% for j in range(9999) \
                %}{{ j }}{% endfor %}{% endfor %}{% endif %}{{ messages[0].content }}";
    std::fs::write(&template, text).unwrap();
    let flags = ["--chat-template-file", template.to_str().unwrap()];
    let server = Server::start(folder.path(), &flags);
    let alone = retried(&server.address, &greedy("She had been", 200));
    let deep = format!("{{\"prompt\": {}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let chat = |text: &str| json!({"messages": [{"role": "user", "content": text}]}).to_string();
    let poisons = [
        ("/v1/completions", r#"{"prompt": [4000000000]}"#.to_owned(), "this model has 2048 tokens"),
        ("/v1/completions", r#"{"prompt": [-1]}"#.into(), "prompt"),
        ("/v1/completions", r#"{"prompt": "a", "logit_bias": {"99999": 5}}"#.into(), "99999"),
        ("/v1/completions", r#"{"prompt": "a", "logit_bias": {"1": 500}}"#.into(), "-100 to 100"),
        ("/v1/completions", r#"{"prompt": []}"#.into(), "prompt"),
        ("/v1/completions", r#"{"prompt": "a", "temperature": 1e999}"#.into(), "JSON"),
        ("/v1/completions", r#"{"prompt": "a", "temperature": -1}"#.into(), "temperature"),
        ("/v1/completions", r#"{"prompt": "a", "n": 100000000000}"#.into(), "n is"),
        ("/v1/completions", r#"{"prompt": "a", "max_tokens": 1e300}"#.into(), "max_tokens"),
        ("/v1/completions", deep, "JSON"),
        ("/v1/chat/completions", chat("boom"), "no boom here"),
        ("/v1/chat/completions", chat("loop"), "template"),
        ("/detokenize", r#"{"tokens": [4000000000]}"#.into(), "token"),
    ];
    thread::scope(|scope| {
        let beside = scope.spawn(|| retried(&server.address, &greedy("She had been", 200)));
        for (path, body, says) in &poisons {
            let (status, _, answer) = server.ask("POST", path, "", body);
            let shown = &body[..body.len().min(80)];
            assert!(status == 400 && answer.contains(says), "{path} {shown}: {status} {answer}");
        }
        assert_eq!(beside.join().unwrap(), alone);
    });
    assert_well(&server, folder.path());
}

#[test]
fn names_of_models_are_no_paths() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let names =
        ["../../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "austen-4m/../../etc", "."];
    for name in names {
        let mut body = greedy("a", 1);
        body["model"] = json!(name);
        let (status, answer) = server.post("/v1/completions", &body);
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("model_not_found")), "{name}");
    }
    for path in ["..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "a%00b"]
    {
        let (status, text) = server.get(&format!("/v1/models/{path}"));
        assert!(status == 404 && !text.contains("root:"), "{path}: {status} {text}");
    }
    assert_eq!(server.get("/style.css/../../../../etc/passwd").0, 404);
    assert_well(&server, folder.path());
}

#[test]
fn a_full_queue_says_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--parallel", "1", "--max-queue", "1"]);
    // The first may have ended before the last one came, on a machine that is busy elsewhere.
    let is_refused_meanwhile = |round: usize| {
        // Equal requests would be computed once, and the answer kept.
        let ask = |i: usize| {
            let body = greedy(&format!("Once {round} {i}"), 240).to_string();
            server.send("POST", "/v1/completions", "", &body)
        };
        let mut sockets: Vec<TcpStream> = (0..4).map(ask).collect();
        let mut last = String::new();
        sockets.pop().unwrap().read_to_string(&mut last).unwrap();
        let is_busy = server.stats()["running"] != 0;
        let mut statuses = vec![];
        for mut socket in sockets {
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            statuses.push(answer.split(' ').nth(1).unwrap().to_owned());
        }
        let last = last.to_lowercase();
        if !last.starts_with("http/1.1 503") {
            return false;
        }
        assert!(last.contains("\r\nretry-after: 1\r\n") && last.contains("queue_full"), "{last}");
        is_busy && statuses.contains(&"200".to_owned())
    };
    assert!((0..50).any(is_refused_meanwhile), "no request was refused while another ran");
    assert_well(&server, folder.path());
}

#[test]
fn who_does_not_read_stalls_nobody_and_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--client-timeout", "1s"]);
    let mut body = greedy("Once", 200);
    // More than the buffers of two sockets hold: about 3 kB for each of 6,400 tokens.
    (body["stream"], body["n"], body["logprobs"]) = (json!(true), json!(32), json!(20));
    let mut idle = server.send("POST", "/v1/completions", "", &body.to_string());
    // It is under way, and others are answered meanwhile.
    let mut some = [0; 16];
    idle.read_exact(&mut some).unwrap();
    assert_well(&server, folder.path());
    while server.stats()["running"] != 0 {
        thread::sleep(Duration::from_millis(100));
    }
    // Longer than its patience. What can still be read then is a part: the end never comes.
    thread::sleep(Duration::from_secs(3));
    let mut rest = Vec::new();
    // The server's end is a reset, as there is data that it could not send.
    let _ = idle.read_to_end(&mut rest);
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("[DONE]"), "all {} bytes were kept for a silent client", rest.len());
    assert_well(&server, folder.path());
}

#[test]
fn who_is_slow_to_ask_loses_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--client-timeout", "1s"]);
    let address = server.address.clone();
    let open = |text: &str| {
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(HANGS_AFTER)).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        socket
    };
    let post = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n\
                Content-Length: 100\r\n\r\n{\"prompt\"";
    let mut silent = open("");
    let mut head = open("GET /health HTTP/1.1\r\nHost: te");
    let mut body = open(post);
    // It has an answer, and asks nothing more.
    let mut kept = open("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_well(&server, folder.path());
    let end = |socket: &mut TcpStream| {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(end(&mut silent), "");
    let answer = end(&mut head);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let answer = end(&mut body);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
    assert!(end(&mut kept).starts_with("HTTP/1.1 200"));
    // Nor do they keep it from ending.
    let _idle = open("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let _half = open("GET /health HTTP/1.1\r\nHo");
    // An answer that takes longer than that is none of the client's doing.
    let (_, answer) = server.post("/v1/completions", &greedy("It", 250));
    assert_eq!(answer["usage"]["completion_tokens"], 250);
    assert!(server.terminate().success());
}

#[test]
fn clients_that_retry_outlive_a_killed_server() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let disk = ["--kv-disk", kept.to_str().unwrap(), "--kv-disk-size", "1GB"];
    let mut server = Server::start(folder.path(), &disk);
    let address = server.address.clone();
    let port = address.rsplit(':').next().unwrap().to_owned();
    let bodies = ["She", "He had", "It is a truth", "Upon the whole"].map(|p| computed(p, 60));
    let expected = bodies.each_ref().map(|body| retried(&address, body));
    while metric(&server, "sterna_kv_disk_written_bytes_total") == 0.0 {
        thread::sleep(Duration::from_millis(5));
    }
    let n_done = AtomicUsize::new(0);
    let is_over = || n_done.load(Ordering::Relaxed) == 32;
    thread::scope(|scope| {
        for (body, expected) in bodies.iter().zip(&expected) {
            let (address, n_done) = (&address, &n_done);
            scope.spawn(move || {
                for _ in 0..8 {
                    assert_eq!(&retried(address, body), expected);
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while n_done.load(Ordering::Relaxed) < 4 {
            thread::sleep(Duration::from_millis(5));
        }
        kill_at_work(&mut server, is_over);
        server = Server::start_at(&port, folder.path(), &disk);
    });
    assert!(is_over());
    // A machine that is busy with other tests may read its disk too late, and computes then.
    let reads_its_disk = |life: usize| {
        if life > 0 {
            server.child.kill().unwrap();
            server.child.wait().unwrap();
            server = Server::start_at(&port, folder.path(), &disk);
        }
        assert_eq!(bodies.each_ref().map(|body| retried(&address, body)), expected);
        server.stats()["disk_tokens"].as_u64().unwrap() > 0
    };
    assert!((0..10).any(reads_its_disk), "no life found what the one before it had read");
    assert_well(&server, folder.path());
}

#[test]
fn what_is_no_http_and_no_json_hurts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &fuzz::PATIENCE);
    thread::scope(|scope| {
        for seed in 1..=4 {
            let address = &server.address;
            scope.spawn(move || assert_eq!(fuzz::run(address, seed, 100, || false), 100));
        }
    });
    assert_well(&server, folder.path());
}
