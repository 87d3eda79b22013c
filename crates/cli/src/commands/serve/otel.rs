//! Requests as spans of OpenTelemetry, sent to a collector as OTLP over HTTP in its JSON form.
//!
//! In: requests that are over, and the environment variables that OpenTelemetry has for it. Out:
//! `POST`s to the collector. Attributes follow the semantic conventions for generative AI, with
//! vLLM's names for times; none holds a prompt, an answer or a key. The JSON is a page of code,
//! so it is written here and needs no library.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use sterna_server::{Access, Collected, Cost};
use tracing::{info, warn};

/// Spans of one `POST`.
const BATCH: usize = 512;
/// What a collector may take for one.
const TIMEOUT: Duration = Duration::from_secs(10);
/// OTLP's number for a span of a server.
const SERVER: u32 = 2;
/// OTLP's number for a span that failed.
const FAILED: u32 = 2;

/// Where spans go, and what they say of this server.
#[derive(Debug)]
pub struct Export {
    endpoint: String,
    headers: HeaderMap,
    resource: Vec<(String, String)>,
}

impl Export {
    /// What the variables ask for; `None` where they name no collector, or say that there shall be
    /// none. What they ask for beyond that is not there is a warning.
    ///
    /// # Errors
    /// When they ask for what cannot be done: a sentence.
    pub fn read(
        variable: &dyn Fn(&str) -> Option<String>,
        warn: &mut dyn FnMut(String),
    ) -> Result<Option<Self>, String> {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is_off = given("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || given("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
        let traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let whole = given(traces);
        let base = given("OTEL_EXPORTER_OTLP_ENDPOINT")
            .map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        let Some(endpoint) = whole.or(base).filter(|_| !is_off) else { return Ok(None) };
        if !endpoint.starts_with("http://") {
            return Err(format!(
                "spans are not sent to {endpoint}: only http:// is known here; run a collector \
                 beside this server that sends them on"
            ));
        }
        for (name, known) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_on"),
        ] {
            if let Some(other) = given(name).filter(|value| value != known) {
                warn(format!("{name} is {other}, but here it is always {known}"));
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in pairs(given("OTEL_EXPORTER_OTLP_HEADERS"))? {
            let header = (name.parse::<HeaderName>(), HeaderValue::from_str(&value));
            let (Ok(name), Ok(value)) = header else {
                return Err(format!("OTEL_EXPORTER_OTLP_HEADERS: {name:?} is no header"));
            };
            headers.insert(name, value);
        }
        let mut resource = pairs(given("OTEL_RESOURCE_ATTRIBUTES"))?;
        let service = given("OTEL_SERVICE_NAME");
        if let Some(name) = service {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".into(), name));
        } else if !resource.iter().any(|(key, _)| key == "service.name") {
            resource.push(("service.name".into(), "sterna".into()));
        }
        resource.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
        Ok(Some(Self { endpoint, headers, resource }))
    }

    /// Where spans go.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends spans until the server has ended. What comes while a `POST` is on its way goes with
    /// the next one.
    pub async fn run(self, mut collected: Collected) {
        let client = match reqwest::Client::builder().timeout(TIMEOUT).build() {
            Ok(client) => client,
            Err(error) => {
                warn!("no spans are sent: {error}");
                return;
            }
        };
        let mut is_failing = false;
        loop {
            let batch = collected.next(BATCH).await;
            if batch.is_empty() {
                return;
            }
            let sent = self.send(&client, &batch).await;
            match (&sent, is_failing) {
                (Err(why), false) => warn!("spans are lost: {}: {why}", self.endpoint),
                (Ok(()), true) => info!("spans arrive again at {}", self.endpoint),
                _ => {}
            }
            is_failing = sent.is_err();
            let n_lost = collected.n_lost();
            if n_lost > 0 {
                warn!("{n_lost} spans are lost: {} is too slow for them", self.endpoint);
            }
        }
    }

    async fn send(&self, client: &reqwest::Client, batch: &[Access]) -> Result<(), String> {
        let request = client.post(&self.endpoint).headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/json");
        let answer = request.body(self.body(batch).to_string()).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the collector answered {status}")),
        }
    }

    fn body(&self, batch: &[Access]) -> Value {
        let resource = self.resource.iter().map(|(key, value)| text(key, value));
        let resource = resource.collect::<Vec<_>>();
        let spans = batch.iter().map(span).collect::<Vec<_>>();
        let scope = json!({ "name": "sterna", "version": env!("CARGO_PKG_VERSION") });
        json!({ "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{ "scope": scope, "spans": spans }],
        }]})
    }
}

/// `key=value,key=value` with `%` escapes, as baggage is written.
fn pairs(list: Option<String>) -> Result<Vec<(String, String)>, String> {
    let list = list.unwrap_or_default();
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once('=') {
            Some((key, value)) => Ok((unescaped(key.trim()), unescaped(value.trim()))),
            None => Err(format!("{part:?} in an OTEL variable is not of the form key=value")),
        })
        .collect()
}

fn unescaped(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| byte == b'%');
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A request as a span.
fn span(access: &Access) -> Value {
    let Access { method, route, started, took, trace, .. } = access;
    let model = access.noted.model.as_deref();
    let name = match (operation(route), model) {
        (Some(operation), Some(model)) => format!("{operation} {model}"),
        _ => format!("{method} {route}"),
    };
    let trace_id = match trace {
        Some(trace) => trace.trace_id.clone(),
        None => format!("{:016x}{:016x}", random(), random()),
    };
    let mut span = json!({
        "traceId": trace_id,
        "spanId": format!("{:016x}", random()),
        "name": name,
        "kind": SERVER,
        "startTimeUnixNano": nanos(*started),
        "endTimeUnixNano": nanos(*started + *took),
        "attributes": attributes(access),
    });
    if let Some(trace) = trace {
        span["parentSpanId"] = trace.parent_id.clone().into();
    }
    if access.status >= 500 || access.is_cut {
        span["status"] = json!({ "code": FAILED });
    }
    span
}

fn attributes(access: &Access) -> Vec<Value> {
    let Access { id, method, route, status, noted, took, .. } = access;
    let mut all = vec![
        text("http.request.method", method),
        text("http.route", route),
        int("http.response.status_code", usize::from(*status)),
        text("gen_ai.request.id", id),
    ];
    if let Some(operation) = operation(route) {
        all.push(text("gen_ai.operation.name", operation));
        all.push(text("gen_ai.provider.name", "sterna"));
    }
    let noted_texts = [
        ("gen_ai.request.model", noted.model.as_deref()),
        ("gen_ai.response.model", noted.model.as_deref().filter(|_| noted.cost.is_some())),
        ("sterna.agent", noted.agent.as_deref()),
        ("sterna.class", noted.class),
        ("error.type", noted.error.or(access.is_cut.then_some("client_gone"))),
    ];
    all.extend(noted_texts.iter().filter_map(|(key, value)| Some(text(key, (*value)?))));
    if let Some(cost) = &noted.cost {
        let Cost { queue_seconds, prefill_seconds, decode_seconds, .. } = *cost;
        let reasons = noted.finish_reasons.iter().map(|reason| json!({ "stringValue": reason }));
        let reasons = json!({ "arrayValue": { "values": reasons.collect::<Vec<_>>() } });
        all.extend([
            int("gen_ai.usage.input_tokens", cost.prompt_tokens),
            int("gen_ai.usage.output_tokens", cost.new_tokens),
            int("gen_ai.usage.cache_read.input_tokens", cost.cached_tokens),
            json!({ "key": "gen_ai.response.finish_reasons", "value": reasons }),
            seconds("gen_ai.latency.time_in_queue", queue_seconds),
            seconds("gen_ai.latency.time_in_model_prefill", prefill_seconds),
            seconds("gen_ai.latency.time_in_model_decode", decode_seconds),
            seconds("gen_ai.latency.e2e", took.as_secs_f64()),
        ]);
    }
    all
}

/// What the conventions call what a route does.
fn operation(route: &str) -> Option<&'static str> {
    match route {
        "/v1/chat/completions" | "/v1/responses" | "/v1/messages" | "/api/chat" => Some("chat"),
        "/v1/completions" | "/api/generate" => Some("text_completion"),
        "/v1/embeddings" | "/api/embed" => Some("embeddings"),
        _ => None,
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// OTLP writes 64-bit integers as texts, since JSON's numbers may be rounded.
fn int(key: &str, value: usize) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn seconds(key: &str, value: f64) -> Value {
    json!({ "key": key, "value": { "doubleValue": value } })
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// A number that does not repeat, and is not 0, which would be no id.
fn random() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Result<Option<Export>, String>, Vec<String>) {
        let mut warnings = Vec::new();
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let export = Export::read(&find, &mut |warning| warnings.push(warning));
        (export, warnings)
    }

    #[test]
    fn variables_mean_what_opentelemetry_says() {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let of = |variables: &[(&str, &str)]| read(variables).0.unwrap();
        assert!(of(&[]).is_none() && of(&[base, ("OTEL_SDK_DISABLED", "TRUE")]).is_none());
        assert_eq!(of(&[base]).unwrap().endpoint(), "http://collector:4318/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own/in");
        assert_eq!(of(&[base, own]).unwrap().endpoint(), "http://own/in");
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "x-key = a%20b%, x-b=c");
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine,zone=7");
        let export = of(&[base, headers, attributes]).unwrap();
        assert_eq!(
            (&export.headers["x-key"], &export.headers["x-b"]),
            (&HeaderValue::from_static("a b%"), &HeaderValue::from_static("c"))
        );
        assert_eq!(export.resource[0], ("service.name".into(), "mine".into()));
        let export = of(&[base, attributes, ("OTEL_SERVICE_NAME", "ours")]).unwrap();
        assert!(export.resource.contains(&("service.name".into(), "ours".into())));
        assert!(!export.resource.contains(&("service.name".into(), "mine".into())));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let (refused, _) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector")]);
        assert!(refused.unwrap_err().contains("only http://"));
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector");
        let (_, warnings) = read(&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert_eq!(warnings.len(), 1);
        assert!(read(&[base, ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense")]).0.is_err());
    }
}
