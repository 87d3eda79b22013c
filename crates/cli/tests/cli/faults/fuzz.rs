//! Requests that no client means: a seeded generator, and what must hold of each answer.

use super::HANGS_AFTER;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

const PATHS: &[&str] = &[
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/rerank",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/show",
    "/v1/models",
    "/v1/models/x",
    "/health",
    "/metrics",
    "/",
    "/%ff",
    "/v1/batches",
    "/v1/files",
    "/api/v1/stats",
    "*",
    "//",
    "/chat",
];

const NAMES: &[&str] = &[
    "prompt",
    "messages",
    "model",
    "max_tokens",
    "n",
    "stream",
    "stream_options",
    "logprobs",
    "echo",
    "stop",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "logit_bias",
    "tools",
    "tool_choice",
    "input",
    "response_format",
    "role",
    "content",
    "text",
    "type",
    "tokens",
    "priority",
    "agent_id",
    "user",
    "include_usage",
    "cache_salt",
    "best_of",
    "system",
    "options",
    "documents",
    "query",
    "function",
];

const WORDS: &[&str] = &[
    "",
    "a",
    "user",
    "assistant",
    "system",
    "text",
    "austen-4m",
    "She had been",
    "\\u0000",
    "\\ud800",
    "\\n",
    "<|im_start|>",
    "../../etc/passwd",
    "é",
    "👩‍👩‍👧",
    "json_schema",
    "function",
    "auto",
    "{{7*7}}",
];

/// Numbers that a seed decides (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// JSON of any kind, most of the time.
    fn value(&mut self, depth: usize, out: &mut String) {
        match self.below(if depth > 3 { 7 } else { 10 }) {
            0 => out.push_str(self.of(&["null", "true", "false"])),
            1 | 2 => write!(out, "{}", self.below(40)).unwrap(),
            3 => out.push_str(self.of(&[
                "-1",
                "0.5",
                "1e308",
                "-1e999",
                "18446744073709551616",
                "4294967295",
                "2e-310",
                "1.0",
            ])),
            4..=6 => write!(out, "\"{}\"", self.of(WORDS)).unwrap(),
            7 | 8 => {
                out.push('[');
                for i in 0..self.below(4) {
                    out.push_str(if i > 0 { "," } else { "" });
                    self.value(depth + 1, out);
                }
                out.push(']');
            }
            _ => self.object(depth + 1, out),
        }
    }

    fn object(&mut self, depth: usize, out: &mut String) {
        out.push('{');
        for i in 0..self.below(6) {
            let comma = if i > 0 { "," } else { "" };
            write!(out, "{comma}\"{}\":", self.of(NAMES)).unwrap();
            self.value(depth, out);
        }
        out.push('}');
    }

    /// A body that is nearly what somebody would send.
    fn body(&mut self) -> String {
        let mut body = match self.below(4) {
            0 => String::from(r#"{"prompt": "She", "max_tokens": 3}"#),
            1 => String::from(
                r#"{"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 3}"#,
            ),
            _ => String::new(),
        };
        if body.is_empty() {
            self.object(0, &mut body);
        } else if self.below(2) == 0 {
            body.pop();
            write!(body, ", \"{}\": ", self.of(NAMES)).unwrap();
            self.value(0, &mut body);
            body.push('}');
        }
        body
    }

    /// The bytes of a request, with or without damage.
    fn request(&mut self) -> Vec<u8> {
        let mut body = self.body().into_bytes();
        if self.below(4) == 0 {
            self.damage(&mut body);
        }
        let method = self.of(&["POST", "POST", "POST", "GET", "PUT", "DELETE", "OPTIONS", "BREW"]);
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: localhost\r\n", self.of(PATHS));
        let length = match self.below(12) {
            0 => "Content-Length: 99999999999999999999".to_owned(),
            1 => format!("Content-Length: {}", body.len() / 2),
            2 => format!("Content-Length: {}", body.len() + 7),
            3 => "Transfer-Encoding: chunked".to_owned(),
            4 => format!("Content-Length: {0}\r\nTransfer-Encoding: chunked", body.len()),
            5 => "Content-Length: -5".to_owned(),
            _ => format!("Content-Length: {}", body.len()),
        };
        head += &length;
        head += self.of(&[
            "",
            "",
            "",
            "\r\nX-Agent-Id: \u{7f}",
            "\r\nAuthorization: Bearer",
            "\r\nX-Strict: true",
            "\r\nExpect: 100-continue",
            "\r\nConnection: upgrade\r\nUpgrade: h2c",
            "\r\nno colon here",
            "\r\nContent-Type: application/xml",
            "\r\nContent-Encoding: gzip",
            "\r\nHost: twice",
        ]);
        if self.below(40) == 0 {
            head += &"\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(20_000);
        }
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.append(&mut body);
        if self.below(8) == 0 {
            self.damage(&mut bytes);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes.truncate(at),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\0\r\n\"{}[]\xff"[self.below(9)]),
            }
        }
    }
}

/// Sends up to `most` requests, until `is_over`; returns how many.
///
/// Each is answered, or its connection closed, and none of them is the server's own mistake.
pub fn run(address: &str, seed: u64, most: usize, is_over: impl Fn() -> bool) -> usize {
    let mut draw = Draw(seed);
    for n in 0..most {
        if is_over() {
            return n;
        }
        let request = draw.request();
        let shown = String::from_utf8_lossy(&request[..request.len().min(2_000)]).into_owned();
        let answer = send(address, &request);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let is_http = answer.is_empty() || answer.starts_with("HTTP/1.");
        assert!(is_http, "seed {seed}, request {n}: {shown:?} was answered {answer:?}");
        assert_ne!(status, "500", "seed {seed}, request {n}: {shown:?} was answered {answer:?}");
    }
    most
}

/// What the server is given so that it soon says that a request is not whole.
pub const PATIENCE: [&str; 2] = ["--client-timeout", "0.5s"];

/// What came back: the beginning of an answer, or nothing where the connection was closed.
fn send(address: &str, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).expect("the server takes connections");
    socket.set_write_timeout(Some(HANGS_AFTER)).unwrap();
    // It refuses some before they are whole.
    let _ = socket.write_all(request);
    // Longer than the server waits for the rest of a request: silence is a request that hangs.
    socket.set_read_timeout(Some(HANGS_AFTER)).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let n = match socket.read(&mut part) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            read => read.unwrap_or_else(|error| panic!("neither answered nor closed: {error}")),
        };
        answer.extend_from_slice(&part[..n]);
        // The answer to `Expect: 100-continue` comes before the answer, perhaps in one piece.
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        let whole = answer.strip_prefix(go_on).unwrap_or(&answer);
        if n == 0 || !whole.is_empty() {
            return String::from_utf8_lossy(whole).into_owned();
        }
    }
}
