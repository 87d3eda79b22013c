//! What operators of `sterna serve` rely on: TLS, the log, and files that change.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/austen-4m.gguf");

/// A new certificate for localhost and its key, as files in the folder.
fn certificate(folder: &Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    (write(CERT, made.cert.pem()), write("key.pem", made.signing_key.serialize_pem()))
}

/// The certificate's name within its folder.
const CERT: &str = "cert.pem";

pub(super) struct Server {
    child: Child,
    /// With the scheme.
    address: String,
    log: PathBuf,
    // Held, so that what the server prints has somewhere to go.
    _out: BufReader<ChildStdout>,
}

impl Server {
    pub(super) fn start(folder: &Path, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let log = folder.join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
        command.args(["serve", MODEL, "--port", "0", "--threads", "2", "--ctx-size", "256"]);
        command.args(flags).env("XDG_CACHE_HOME", folder.join("cache")).env_remove("RUST_LOG");
        command.envs(env.iter().copied()).stderr(File::create(&log).unwrap());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let said = || std::fs::read_to_string(&log).unwrap();
        let address =
            line.trim().strip_prefix("listening at ").unwrap_or_else(|| panic!("{}", said()));
        Self { child, address: address.to_owned(), log, _out: out }
    }

    fn port(&self) -> &str {
        self.address.split_once("://").unwrap().1
    }

    pub(super) fn plain(&self) -> TcpStream {
        TcpStream::connect(self.port()).unwrap()
    }

    /// Trusts the certificate of these tests and no other.
    fn secure(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let file = self.log.with_file_name(CERT);
        roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), self.plain())
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Ends it as an operator does, and returns its log.
    pub(super) fn end(mut self) -> String {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success(), "SIGTERM is a regular end");
        self.log()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(socket: &mut impl Write, method: &str, path: &str, head: &str, body: &str) {
    let length = body.len();
    // At once: a server that has no ear for it may close after the first part.
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(text.as_bytes()).unwrap();
}

/// The status and the body of an answer.
fn answer(mut socket: impl Read) -> (u16, String) {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(super) fn ask<S: Read + Write>(
    mut socket: S,
    path: &str,
    head: &str,
    body: &str,
) -> (u16, String) {
    let method = if body.is_empty() { "GET" } else { "POST" };
    send(&mut socket, method, path, head, body);
    answer(socket)
}

pub(super) fn greedy(max_tokens: usize, stream: bool) -> String {
    let body = json!({
        "prompt": "She had been", "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
        "stream": stream,
    });
    body.to_string()
}

#[test]
fn a_certificate_makes_it_https_and_answers_are_finished_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path());
    let flags = ["--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start(folder.path(), &flags, &[]);
    assert!(server.address.starts_with("https://"), "{}", server.address);
    // Who says nothing holds up nobody.
    let silent = server.plain();
    let (status, body) = ask(server.secure(), "/v1/completions", "", &greedy(4, false));
    assert_eq!(status, 200, "{body}");
    drop(silent);
    // Who does not know TLS is not answered in plain text.
    let mut plain = server.plain();
    send(&mut plain, "GET", "/health", "", "");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"), "{said:?}");
    // What has begun when the server is told to end comes to its own end.
    let mut socket = server.secure();
    send(&mut socket, "POST", "/v1/completions", "", &greedy(200, true));
    let mut begun = [0; 64];
    socket.read_exact(&mut begun).unwrap();
    server.signal("-TERM");
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("\"finish_reason\":\"length\"").count(), 1, "{rest}");
    assert!(rest.contains("data: [DONE]"), "{rest}");
    let mut server = server;
    assert!(server.child.wait().unwrap().success());
    assert!(server.log().contains("all requests are answered"), "{}", server.log());
}

#[test]
fn files_and_flags_that_are_wrong_are_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let refused =
        |flags: &[&str]| super::refused(folder.path(), &[&["serve", MODEL], flags].concat());
    let (cert, key) = certificate(folder.path());
    let missing = refused(&["--tls-cert", "none.pem", "--tls-key", &key]);
    assert!(missing.contains("none.pem: no certificate can be read"), "{missing}");
    let swapped = refused(&["--tls-cert", &key, "--tls-key", &cert]);
    assert!(swapped.contains("it holds no certificate"), "{swapped}");
    assert!(refused(&["--tls-cert", &cert]).contains("--tls-key"));
    assert!(refused(&["--cors-origin", "app.example"]).contains("write it as https://host"));
    assert!(refused(&["--max-body", "0"]).contains("--max-body 0 lets nobody ask"));
    assert!(refused(&["--log-level", "loud"]).contains("no level"));
    assert!(refused(&["--log-level", "warn,loud"]).contains("no level"));
}

#[test]
fn on_loopback_only_this_machines_names_and_pages_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--max-body", "100"], &[]);
    let own = server.port();
    for (host, origin, status) in [
        (own, "http://localhost", 403),
        (own, "https://evil.example", 403),
        (own, &server.address, 200),
        ("evil.example", "http://evil.example", 403),
        ("localhost", "http://localhost", 200),
    ] {
        let head = format!("Host: {host}\r\nOrigin: {origin}\r\nConnection: close");
        let mut socket = server.plain();
        socket.write_all(format!("GET /health HTTP/1.1\r\n{head}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(answer(socket).0, status, "{head}");
    }
    let long = json!({ "prompt": "x".repeat(100) }).to_string();
    let (status, body) = ask(server.plain(), "/v1/completions", "", &long);
    assert!(status == 413 && body.contains("--max-body"), "{body}");
}

#[test]
fn the_log_has_a_line_per_request_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let disk = ["--kv-disk-size", "1MB", "--kv-disk", kept.to_str().unwrap()];
    let flags = ["--log-format", "json", "--api-key", "secret-key"];
    let server = Server::start(folder.path(), &[&flags[..], &disk].concat(), &[]);
    let head = "Authorization: Bearer secret-key\r\nX-Request-Id: mine-7\r\nX-Agent-Id: planner\r\n\
                traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert_eq!(ask(server.plain(), "/v1/completions", head, &greedy(4, false)).0, 200);
    assert_eq!(ask(server.plain(), "/v1/completions", "", &greedy(4, false)).0, 401);
    assert_eq!(ask(server.plain(), "/health", "", "").0, 200);
    let log = server.end();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let said = |text: &str| {
        lines.iter().any(|line| line["message"].as_str().is_some_and(|said| said.contains(text)))
    };
    assert!(said("keys and values of 0 tokens are in"), "{log}");
    assert!(said("serving") && said("stopping: ") && said("all requests"), "{log}");
    let requests: Vec<&Value> =
        lines.iter().filter(|line| line["target"] == "sterna::access").collect();
    assert_eq!(requests.len(), 2, "health is for those who look for it: {log}");
    let of = requests[0];
    for (key, value) in [
        ("id", json!("mine-7")),
        ("agent", json!("planner")),
        ("class", json!("default")),
        ("model", json!("austen-4m")),
        ("route", json!("/v1/completions")),
        ("status", json!(200)),
        ("new_tokens", json!(4)),
        ("cached_tokens", json!(0)),
        ("trace_id", json!("0af7651916cd43dd8448eb211c80319c")),
        ("parent_id", json!("b7ad6b7169203331")),
    ] {
        assert_eq!(of[key], value, "{key} in {of}");
    }
    for key in ["queue_ms", "prefill_ms", "decode_ms", "total_ms", "prompt_tokens"] {
        assert!(of[key].is_number(), "{key} in {of}");
    }
    assert_eq!(
        (&requests[1]["status"], &requests[1]["error"]),
        (&json!(401), &json!("missing_api_key"))
    );
    assert!(!log.contains("She had been") && !log.contains("secret-key"), "{log}");
}

#[test]
fn the_log_for_people_is_text_and_can_be_turned_down() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[], &[("RUST_LOG", "warn,sterna::access=debug")]);
    assert_eq!(ask(server.plain(), "/health", "", "").0, 200);
    let log = server.end();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("request")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("DEBUG") && lines[0].contains("route=\"/health\""), "{log}");
    assert!(!log.contains("INFO"), "{log}");
}

#[test]
fn keys_that_change_are_read_again_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "first-key\n").unwrap();
    let (cert, key) = certificate(folder.path());
    let flags = ["--api-key-file", file.to_str().unwrap(), "--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start(folder.path(), &flags, &[]);
    let status = |key: &str| {
        ask(server.secure(), "/v1/models", &format!("Authorization: Bearer {key}\r\n"), "").0
    };
    let hang_up_until = |text: &str| {
        server.signal("-HUP");
        while !server.log().contains(text) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    assert_eq!((status("first-key"), status("second-key")), (200, 401));
    std::fs::write(&file, "second-key\n").unwrap();
    hang_up_until("the certificate was read again");
    assert_eq!((status("first-key"), status("second-key")), (401, 200));
    std::fs::write(&file, "short\n").unwrap();
    hang_up_until("the keys stay as they were");
    assert_eq!(status("second-key"), 200);
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_build_without_spans_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let log = Server::start(folder.path(), &[], &env).end();
    assert!(log.contains("WARN") && log.contains("--features otel"), "{log}");
}
