//! Spans of OpenTelemetry, with the feature `otel`: `cargo xtask test` builds with it for these.

use super::ops::{Server, ask, greedy};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A collector of spans: the bodies that are posted to it, with their heads.
fn collector() -> (String, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, bodies) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = BufReader::new(socket.unwrap());
            let (mut head, mut line) = (String::new(), String::new());
            while socket.read_line(&mut line).unwrap() > 2 {
                head += &std::mem::take(&mut line).to_lowercase();
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            socket.read_exact(&mut body).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
            socket.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender.send((head, serde_json::from_slice(&body).unwrap())).is_err() {
                return;
            }
        }
    });
    (address, bodies)
}

#[test]
fn a_collector_gets_a_span_per_request() {
    let folder = tempfile::tempdir().unwrap();
    let (address, bodies) = collector();
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=seven"),
        ("OTEL_SERVICE_NAME", "ours"),
    ];
    let server = Server::start(folder.path(), &[], &env);
    let head = "X-Agent-Id: planner\r\n\
                traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert_eq!(ask(server.plain(), "/v1/completions", head, &greedy(4, false)).0, 200);
    let (head, body) = bodies.recv_timeout(Duration::from_secs(120)).unwrap();
    assert!(head.starts_with("post /v1/traces ") && head.contains("x-tenant: seven"), "{head}");
    let of = &body["resourceSpans"][0];
    let service = json!({ "key": "service.name", "value": { "stringValue": "ours" } });
    assert!(of["resource"]["attributes"].as_array().unwrap().contains(&service), "{body}");
    let span = &of["scopeSpans"][0]["spans"][0];
    assert_eq!(span["name"], "text_completion austen-4m");
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
    let nanos = |key: &str| span[key].as_str().unwrap().parse::<u128>().unwrap();
    assert!(nanos("startTimeUnixNano") < nanos("endTimeUnixNano"), "{span}");
    let attributes = span["attributes"].as_array().unwrap();
    let of = |key: &str| {
        let found = attributes.iter().find(|attribute| attribute["key"] == key);
        found.unwrap_or_else(|| panic!("{key} in {span}"))["value"].clone()
    };
    assert_eq!(of("gen_ai.request.model"), json!({ "stringValue": "austen-4m" }));
    assert_eq!(of("gen_ai.operation.name"), json!({ "stringValue": "text_completion" }));
    assert_eq!(of("gen_ai.usage.output_tokens"), json!({ "intValue": "4" }));
    let reasons = json!({ "arrayValue": { "values": [{ "stringValue": "length" }] } });
    assert_eq!(of("gen_ai.response.finish_reasons"), reasons);
    assert_eq!(of("http.response.status_code"), json!({ "intValue": "200" }));
    assert!(of("gen_ai.latency.time_in_model_decode")["doubleValue"].is_number());
    assert!(!body.to_string().contains("She had been"));
    // The last spans are sent before the end.
    assert_eq!(ask(server.plain(), "/v1/models", "", "").0, 200);
    server.end();
    let (_, body) = bodies.recv_timeout(Duration::from_secs(120)).unwrap();
    let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["name"], "GET /v1/models");
}

#[test]
fn a_collector_that_cannot_be_reached_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let server = Server::start(folder.path(), &[], &env);
    assert_eq!(ask(server.plain(), "/v1/models", "", "").0, 200);
    let log = server.end();
    assert!(log.contains("WARN") && log.contains("spans are lost"), "{log}");
}
