//! What operators ask: `GET /props`, `/slots` and `/load`, under llama.cpp's and vLLM's names.
//!
//! In: the models and their engines' statistics. Out: objects. An engine has no fixed slots, so
//! `/slots` shows who is served: a line for each agent with open requests.

use crate::app::App;
use crate::asked::with_warnings;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::model::Model;
use crate::models;
use crate::queried::Queried;
use crate::tables::{MODEL_QUERY, SLOTS_QUERY};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;
use sterna_engine::{Request, Stats};

/// `GET /props`: what the server serves and how it answers where nothing is asked for. With several
/// models `?model=` names one; otherwise it is the first in memory, and what only a model in memory
/// can say is null where there is none.
pub async fn props(queried: Queried) -> Result<Json<Value>, ApiError> {
    let (query, warnings) = queried.read(MODEL_QUERY)?;
    let app = queried.app;
    let ready = app.models.ready();
    let model = asked(&app, Fields(&query))?.or_else(|| ready.into_iter().next());
    let served = model.as_ref().map(|model| &model.served);
    let Request { sampling, .. } = Request::default();
    let shown = json!({
        "model_alias": served.map(|served| &served.name),
        "models": app.models.list().into_iter().map(|model| model.name).collect::<Vec<_>>(),
        "total_slots": served.map(|served| served.engine.stats().max_running),
        "default_generation_settings": {
            "n_ctx": served.map(|served| served.context_len),
            // As `generation.rs` reads a body without parameters.
            "params": {
                "temperature": 1.0,
                "top_p": 1.0,
                "top_k": 0,
                "min_p": 0.0,
                "repeat_penalty": 1.0,
                "repeat_last_n": sampling.repetition_window,
                "frequency_penalty": 0.0,
                "presence_penalty": 0.0,
            },
        },
        "chat_template": served.map(|served| &served.chat_template),
        "bos_token": served.map(|served| &served.bos),
        "eos_token": served.map(|served| &served.eos),
        "modalities": { "vision": false, "audio": false },
        "build_info": served.map(|served| &served.fingerprint),
        "is_sleeping": served.is_none(),
    });
    Ok(Json(with_warnings(shown, warnings)))
}

/// `GET /slots`: who is served, and who waits.
pub async fn slots(queried: Queried) -> Result<Json<Value>, ApiError> {
    let query = queried.read_strictly(SLOTS_QUERY)?;
    let app = queried.app;
    let only = asked(&app, Fields(&query))?.map(|model| model.served.name.clone());
    let mut slots = Vec::new();
    for model in app.models.ready() {
        let served = &model.served;
        if only.as_ref().is_some_and(|name| *name != served.name) {
            continue;
        }
        for agent in served.engine.stats().agents.iter().filter(|agent| agent.open > 0) {
            slots.push(json!({
                "id": slots.len(),
                "model": served.name,
                "agent": agent.name,
                "is_processing": agent.running > 0,
                "running": agent.running,
                "waiting": agent.open.saturating_sub(agent.running),
                "n_ctx": served.context_len,
                "requests": agent.requests,
                "prompt_tokens": agent.prompt_tokens,
                "new_tokens": agent.new_tokens,
            }));
        }
    }
    Ok(Json(slots.into()))
}

/// `GET /load`: how much the server has to do; `server_load` is vLLM's number.
pub async fn load(State(app): State<Arc<App>>) -> Json<Value> {
    let of = |stats: &Stats, name: &str| {
        json!({
            "model": name,
            "running": stats.running,
            "max_running": stats.max_running,
            "waiting": stats.waiting,
            "kv_pages_used": stats.pages_used,
            "kv_pages_cached": stats.pages_cached,
            "kv_pages": stats.pages,
        })
    };
    let mut models = Vec::new();
    let mut server_load = 0;
    for model in app.models.ready() {
        let stats = model.served.engine.stats();
        server_load += stats.running + stats.waiting;
        models.push(of(&stats, &model.served.name));
    }
    Json(json!({ "server_load": server_load, "models": models }))
}

/// The model that a query names.
fn asked(app: &App, query: Fields<'_>) -> Result<Option<Arc<Model>>, ApiError> {
    query.text("model")?.map(|name| models::find(app, name)).transpose()
}
