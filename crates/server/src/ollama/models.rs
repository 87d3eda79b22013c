//! Ollama's routes about models: `/api/tags`, `/api/ps`, `/api/show`, `/api/version`.
//!
//! What Ollama shows and a server does not know of its models is empty.

use super::body_of;
use crate::app::App;
use crate::asked::{asks_strictness, with_warnings};
use crate::date::strftime;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::generation::agent;
use crate::models::{Listed, Status, find, has, listed, name_for};
use crate::params::check;
use crate::posted::Posted;
use crate::tables::{OLLAMA_DEFAULTS, OLLAMA_SHOW};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The tag of a model that is named without one.
const LATEST: &str = ":latest";
/// Of models that nothing makes go: Ollama's clients read an absent time as one that is over.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// Takes off the tag of a name that has none here.
pub fn untag(app: &App, name: &mut String) {
    let base = match name.strip_suffix(LATEST) {
        Some(base) if !has(app, name) && has(app, base) => base.to_owned(),
        _ => return,
    };
    *name = base;
}

/// A model's name as Ollama writes it: always with a tag.
fn tagged(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}{LATEST}") }
}

/// What identifies the numbers of a model. Clients show its first digits.
fn digest(model: &Listed) -> String {
    let hash = Sha256::digest(format!("{}\n{}", model.name, model.fingerprint));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn size(model: &Listed) -> u64 {
    model.memory.iter().filter(|(kind, _)| kind.starts_with("weights")).map(|(_, n)| n).sum()
}

fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "",
        "family": "",
        "families": null,
        "parameter_size": "",
        "quantization_level": "",
    })
}

fn time(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    strftime(time, "%Y-%m-%dT%H:%M:%SZ").expect("the format is known")
}

/// The models, in memory or not, under each of their names.
pub async fn tags(State(app): State<Arc<App>>) -> Json<Value> {
    let entry = |model: &Listed| {
        let entry = |name: &String| {
            json!({
                "name": tagged(name),
                "model": tagged(name),
                "modified_at": time(model.created),
                "size": size(model),
                "digest": digest(model),
                "details": details(),
            })
        };
        model.names().map(entry).collect::<Vec<_>>()
    };
    Json(json!({ "models": app.models.list().iter().flat_map(entry).collect::<Vec<_>>() }))
}

/// The models that are in memory.
pub async fn ps(State(app): State<Arc<App>>) -> Json<Value> {
    let entry = |model: &Listed| {
        json!({
            "name": tagged(&model.name),
            "model": tagged(&model.name),
            "size": model.bytes(),
            "size_vram": 0,
            "digest": digest(model),
            "details": details(),
            "expires_at": model.expires.map_or_else(|| NEVER.to_owned(), time),
            "context_length": model.context_len,
        })
    };
    let mut models = app.models.list();
    models.retain(|model| matches!(model.status, Status::Loaded | Status::Unloading));
    Json(json!({ "models": models.iter().map(entry).collect::<Vec<_>>() }))
}

/// A model. It is not loaded for it: what only a model in memory can say is left out until it is.
pub async fn show(posted: Posted) -> Result<Json<Value>, ApiError> {
    posted.read(shown).await
}

fn shown(posted: &Posted) -> Result<Json<Value>, ApiError> {
    let mut body = body_of(posted)?;
    let Posted { app, headers, .. } = posted;
    if let Some(Value::String(name)) = body.get_mut("name") {
        untag(app, name);
    }
    let name = Fields(&body).text("name")?.map(str::to_owned);
    if let Some(name) = name.filter(|_| !body.contains_key("model")) {
        body.insert("model".into(), name.into());
    }
    let is_strict = app.options.strict || asks_strictness(headers);
    let warnings = check("", &body, OLLAMA_SHOW, is_strict)?;
    let agent = agent(Fields(&body), headers)?;
    let model = listed(app, &name_for(app, &agent, Fields(&body).text("model")?)?)?;
    let loaded = find(app, &model.name).ok();
    let served = loaded.as_ref().map(|loaded| &loaded.served);
    let parameter = |(name, value): &(&str, &str)| format!("{name} {value}");
    let mut parameters: Vec<String> = OLLAMA_DEFAULTS.iter().map(parameter).collect();
    parameters.push(format!("num_ctx {}", model.context_len));
    let mut info = json!({
        "general.name": model.name,
        "general.description": model.describe,
        "sterna.context_length": model.context_len,
    });
    if let Some(served) = served {
        info["sterna.vocabulary_length"] = served.tokenizer.vocab_len().into();
    }
    let template = served.and_then(|served| served.chat_template.as_deref()).unwrap_or_default();
    let is_encoder = served.is_some_and(|served| served.is_encoder);
    let mut capabilities = vec![if is_encoder { "embedding" } else { "completion" }];
    if template.contains("tools") {
        capabilities.push("tools");
    }
    if loaded.as_ref().is_some_and(|loaded| app.thought_form(loaded).is_some()) {
        capabilities.push("thinking");
    }
    let shown = json!({
        "modelfile": "",
        "parameters": parameters.join("\n"),
        "template": template,
        "details": details(),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": time(model.created),
    });
    Ok(Json(with_warnings(shown, warnings)))
}

/// This server's own version: it is not Ollama, and does not say so.
pub async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}
