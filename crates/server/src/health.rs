//! Whether the process lives, and whether its models answer.

use crate::app::App;
use crate::errors::ApiError;
use crate::model::Model;
use crate::running::Running;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use sterna_engine::{CacheControl, Class, EngineError, Output, Pooling, Request};
use tokio::sync::Mutex;

/// For so long a probe is as good as a new one.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What the last probe of the models found, and when: [`ready`] needs no key, so that whoever asks
/// while one runs or just after shares it, and asking often costs no more than asking once.
#[derive(Default)]
pub struct Probed(Mutex<Option<(SystemTime, Result<Value, ApiError>)>>);

/// `GET /health`, `/health/live` and `/ping`: the process answers.
pub async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /version`.
pub async fn version() -> Json<Value> {
    Json(json!({ "name": "sterna", "version": env!("CARGO_PKG_VERSION") }))
}

/// `GET /health/ready`: every model in memory generates a token now, or embeds one. It goes
/// through the queue as a request does, ahead of others.
pub async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let now = app.options.now;
    let mut last = app.probed.0.lock().await;
    let is_fresh = |at: SystemTime| now().duration_since(at).is_ok_and(|age| age < FRESH_FOR);
    if let Some((_, found)) = last.as_ref().filter(|(at, _)| is_fresh(*at)) {
        return found.clone().map(Json);
    }
    let found = probe(&app).await;
    *last = Some((now(), found.clone()));
    found.map(Json)
}

/// A token of every model.
async fn probe(app: &App) -> Result<Value, ApiError> {
    let limit = app.options.ready_timeout;
    let mut ready = Vec::new();
    for model in app.models.ready() {
        let name = &model.served.name;
        let not_ready = |why: String| {
            let message = format!("model `{name}` does not answer: {why}");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message).retry_after(1)
        };
        match tokio::time::timeout(limit, one_token(&model)).await {
            Ok(Ok(seconds)) => ready.push(json!({ "model": name, "token_ms": seconds * 1e3 })),
            // It left memory meanwhile.
            Ok(Err(EngineError::Draining)) if !app.models.is_ending() => {}
            Ok(Err(error)) => return Err(not_ready(error.to_string())),
            Err(_) => {
                let seconds = limit.as_secs_f64();
                return Err(not_ready(format!("no token came within {seconds} seconds")));
            }
        }
    }
    Ok(json!({ "status": "ready", "models": ready }))
}

/// Computes a token, which is not one that was kept, and says how many seconds that took. An
/// encoder has none: it embeds the text.
async fn one_token(model: &Arc<Model>) -> Result<f64, EngineError> {
    let tokenizer = &model.served.tokenizer;
    let mut prompt = tokenizer.encode("a", true);
    if prompt.is_empty() {
        prompt.push(0);
    }
    let is_encoder = model.served.is_encoder;
    let embed = is_encoder.then(Pooling::default);
    let max_tokens = usize::from(!is_encoder);
    let mut request = Request { prompt, max_tokens, embed, ..Request::default() };
    request.class = Class::Interactive;
    request.agent = "health".into();
    request.cache = CacheControl { no_cache: true, no_store: true, ..CacheControl::default() };
    request.sampling.temperature = 0.0;
    request.stop.ignore_eos = true;
    let mut running = Running::start(model, vec![request], 1)?.uncounted();
    while let Some((_, output)) = running.next().await {
        match output {
            Output::Finished(end) if end.new_tokens > 0 || end.embedding.is_some() => {
                return Ok(end.queue_seconds + end.prefill_seconds);
            }
            Output::Finished(_) => {
                return Err(EngineError::Internal("it ended without a token".into()));
            }
            Output::Failed(error) => return Err(error),
            Output::Prompt(_) | Output::Token { .. } => {}
        }
    }
    Err(EngineError::Internal("it ended without an answer".into()))
}
