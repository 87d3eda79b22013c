//! Requests as spans of OpenTelemetry, sent to a collector by its own library.
//!
//! In: requests that are over; where to, how and with which headers, the library reads from the
//! environment. Attributes follow the semantic conventions for generative AI, with vLLM's names for
//! times; none holds a prompt, an answer or a key.

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, Key, KeyValue, StringValue, Value};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanExporter as _};
use sterna_server::{Access, Collected, Cost};
use tracing::{info, warn};

/// Spans of one `POST`.
const BATCH: usize = 512;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where spans go.
pub struct Export {
    exporter: SpanExporter,
    endpoint: String,
    scope: InstrumentationScope,
}

impl Export {
    /// To the collector that the environment names; `endpoint` is what the log calls it. Must be
    /// called within a runtime.
    ///
    /// # Errors
    /// When the environment asks for what cannot be done: a sentence.
    pub fn new(endpoint: &str) -> Result<Self, String> {
        let exporter = SpanExporter::builder().build();
        let mut exporter = exporter.map_err(|error| error.to_string())?;
        exporter.set_resource(&resource());
        let scope = InstrumentationScope::builder("sterna").with_version(VERSION).build();
        Ok(Self { exporter, endpoint: endpoint.to_owned(), scope })
    }

    /// Sends spans until the server has ended. What comes while a `POST` is on its way goes with
    /// the next one.
    pub async fn run(self, mut collected: Collected) {
        let Self { exporter, endpoint, scope } = self;
        let mut is_failing = false;
        loop {
            let batch = collected.next(BATCH).await;
            if batch.is_empty() {
                return;
            }
            let spans = batch.iter().map(|access| span(access, &scope)).collect();
            let sent = exporter.export(spans).await;
            match (&sent, is_failing) {
                (Err(why), false) => warn!("spans are lost: {endpoint}: {why}"),
                (Ok(()), true) => info!("spans arrive again at {endpoint}"),
                _ => {}
            }
            is_failing = sent.is_err();
            let n_lost = collected.n_lost();
            if n_lost > 0 {
                warn!("{n_lost} spans are lost: {endpoint} is too slow for them");
            }
        }
    }
}

/// What spans say of this server: what the environment says, and else what it is.
fn resource() -> Resource {
    let given = Resource::builder().build();
    let name = given.get(&Key::new("service.name")).map(|name| name.to_string());
    let mut builder = Resource::builder();
    if name.is_none_or(|name| name.starts_with("unknown_service")) {
        builder = builder.with_service_name("sterna");
    }
    builder.with_attribute(KeyValue::new("service.version", VERSION)).build()
}

/// A request as a span.
fn span(access: &Access, scope: &InstrumentationScope) -> SpanData {
    let Access { method, route, started, took, trace, .. } = access;
    let name = match (operation(route), access.noted.model.as_deref()) {
        (Some(operation), Some(model)) => format!("{operation} {model}"),
        _ => format!("{method} {route}"),
    };
    let ids = RandomIdGenerator::default();
    let theirs = trace.as_ref().and_then(|trace| TraceId::from_hex(&trace.trace_id).ok());
    let parent = trace.as_ref().and_then(|trace| SpanId::from_hex(&trace.parent_id).ok());
    let trace_id = theirs.unwrap_or_else(|| ids.new_trace_id());
    let (flags, state) = (TraceFlags::SAMPLED, TraceState::default());
    let has_failed = access.status >= 500 || access.is_cut;
    SpanData {
        span_context: SpanContext::new(trace_id, ids.new_span_id(), flags, false, state),
        parent_span_id: parent.unwrap_or(SpanId::INVALID),
        parent_span_is_remote: parent.is_some(),
        span_kind: SpanKind::Server,
        name: name.into(),
        start_time: *started,
        end_time: *started + *took,
        attributes: attributes(access),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: if has_failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: scope.clone(),
    }
}

fn attributes(access: &Access) -> Vec<KeyValue> {
    let Access { id, method, route, status, noted, took, .. } = access;
    let mut all = vec![
        KeyValue::new("http.request.method", method.to_string()),
        KeyValue::new("http.route", route.to_string()),
        KeyValue::new("http.response.status_code", i64::from(*status)),
        KeyValue::new("gen_ai.request.id", id.to_string()),
    ];
    if let Some(operation) = operation(route) {
        all.push(KeyValue::new("gen_ai.operation.name", operation));
        all.push(KeyValue::new("gen_ai.provider.name", "sterna"));
    }
    let noted_texts = [
        ("gen_ai.request.model", noted.model.as_deref()),
        ("gen_ai.response.model", noted.model.as_deref().filter(|_| noted.cost.is_some())),
        ("sterna.agent", noted.agent.as_deref()),
        ("sterna.class", noted.class),
        ("error.type", noted.error.or(access.is_cut.then_some("client_gone"))),
    ];
    let text = |(key, value): (&'static str, Option<&str>)| {
        value.map(|value| KeyValue::new(key, value.to_owned()))
    };
    all.extend(noted_texts.into_iter().filter_map(text));
    if let Some(cost) = &noted.cost {
        let Cost { queue_seconds, prefill_seconds, decode_seconds, .. } = *cost;
        let reasons = noted.finish_reasons.iter().map(|&reason| StringValue::from(reason));
        let reasons = Value::Array(Array::String(reasons.collect()));
        all.extend([
            KeyValue::new("gen_ai.usage.input_tokens", cost.prompt_tokens as i64),
            KeyValue::new("gen_ai.usage.output_tokens", cost.new_tokens as i64),
            KeyValue::new("gen_ai.usage.cache_read.input_tokens", cost.cached_tokens as i64),
            KeyValue::new("gen_ai.response.finish_reasons", reasons),
            KeyValue::new("gen_ai.latency.time_in_queue", queue_seconds),
            KeyValue::new("gen_ai.latency.time_in_model_prefill", prefill_seconds),
            KeyValue::new("gen_ai.latency.time_in_model_decode", decode_seconds),
            KeyValue::new("gen_ai.latency.e2e", took.as_secs_f64()),
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
