//! Ollama's routes about models: `/api/tags`, `/api/ps`, `/api/show`, `/api/version`.
//!
//! What Ollama shows and a server does not know of its models is empty.

use super::body_of;
use crate::app::App;
use crate::asked::Asked;
use crate::date::strftime;
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::model::{Model, Served};
use crate::tables::{OLLAMA_DEFAULTS, OLLAMA_SHOW};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The tag of a model that is named without one.
const LATEST: &str = ":latest";
/// Models stay until the server ends, and Ollama's clients read an absent time as one that is over.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// Takes off the tag of a name that has none here.
pub fn untag(app: &App, name: &mut String) {
    let is_known = |name: &str| {
        let mut served = app.models.iter().map(|model| &model.served);
        served.any(|s| s.name == name || s.aliases.iter().any(|alias| alias == name))
    };
    let base = match name.strip_suffix(LATEST) {
        Some(base) if !is_known(name.as_str()) && is_known(base) => base.to_owned(),
        _ => return,
    };
    *name = base;
}

/// A model's name as Ollama writes it: always with a tag.
fn tagged(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}{LATEST}") }
}

/// What identifies the numbers of a model. Clients show its first digits.
fn digest(served: &Served) -> String {
    let hash = Sha256::digest(format!("{}\n{}", served.name, served.fingerprint));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn size(served: &Served) -> u64 {
    served.memory.iter().filter(|(kind, _)| kind.starts_with("weights")).map(|(_, n)| n).sum()
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

fn made(served: &Served) -> String {
    let made = UNIX_EPOCH + Duration::from_secs(served.created);
    strftime(made, "%Y-%m-%dT%H:%M:%SZ").expect("the format is known")
}

/// The models, under each of their names.
pub async fn tags(State(app): State<Arc<App>>) -> Json<Value> {
    let entry = |model: &Arc<Model>| {
        let served = &model.served;
        let names = std::iter::once(&served.name).chain(&served.aliases);
        let entry = |name: &String| {
            json!({
                "name": tagged(name),
                "model": tagged(name),
                "modified_at": made(served),
                "size": size(served),
                "digest": digest(served),
                "details": details(),
            })
        };
        names.map(entry).collect::<Vec<_>>()
    };
    Json(json!({ "models": app.models.iter().flat_map(entry).collect::<Vec<_>>() }))
}

/// The models that are loaded: all of them.
pub async fn ps(State(app): State<Arc<App>>) -> Json<Value> {
    let entry = |model: &Arc<Model>| {
        let served = &model.served;
        json!({
            "name": tagged(&served.name),
            "model": tagged(&served.name),
            "size": served.memory.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            "size_vram": 0,
            "digest": digest(served),
            "details": details(),
            "expires_at": NEVER,
            "context_length": served.context_len,
        })
    };
    Json(json!({ "models": app.models.iter().map(entry).collect::<Vec<_>>() }))
}

/// A model.
pub async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let mut body = body_of(&app, &body?)?;
    if let Some(Value::String(name)) = body.get_mut("name") {
        untag(&app, name);
    }
    let name = Fields(&body).text("name")?.map(str::to_owned);
    if let Some(name) = name.filter(|_| !body.contains_key("model")) {
        body.insert("model".into(), name.into());
    }
    let asked = Asked::of(&app, &headers, body, OLLAMA_SHOW)?;
    let served = &asked.model.served;
    let parameter = |(name, value): &(&str, &str)| format!("{name} {value}");
    let mut parameters: Vec<String> = OLLAMA_DEFAULTS.iter().map(parameter).collect();
    parameters.push(format!("num_ctx {}", served.context_len));
    let shown = json!({
        "modelfile": "",
        "parameters": parameters.join("\n"),
        "template": served.chat_template.as_deref().unwrap_or_default(),
        "details": details(),
        "model_info": {
            "general.name": served.name,
            "general.description": served.describe,
            "sterna.context_length": served.context_len,
            "sterna.vocabulary_length": served.tokenizer.vocab_len(),
        },
        "capabilities": ["completion"],
        "modified_at": made(served),
    });
    Ok(Json(asked.with_warnings(shown)))
}

/// This server's own version: it is not Ollama, and does not say so.
pub async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}
