//! Ollama's routes, for its many clients: `POST /api/chat` and `/api/generate`.
//!
//! In: messages or a prompt, and `options`, which are the chat API's parameters with Ollama's own
//! values where nothing is said. Out: lines of JSON (`ollama/voice.rs`); `ollama/models.rs` has the
//! routes that list models, `ollama/embed.rs` those that embed texts.

mod embed;
mod models;
mod voice;

pub use embed::{embed, embeddings};
pub use models::{ps, show, tags, untag, version};

use crate::app::App;
use crate::asked::{Asked, asks_strictness, object};
use crate::chat::{self, Planned};
use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::generation::agent;
use crate::keep_alive::KeepAlive;
use crate::models::{Status, listed, name_for};
use crate::params::{Table, check, check_also};
use crate::posted::Posted;
use crate::running::Running;
use crate::tables::{
    OLLAMA_CHAT, OLLAMA_DEFAULTS, OLLAMA_GENERATE, OLLAMA_MESSAGE, OLLAMA_OPTIONS,
};
use crate::telling::Telling;
use crate::translation::Translation;
use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use voice::{Form, OllamaVoice};

/// Answers a conversation.
pub async fn chat(posted: Posted) -> Result<Response, ApiError> {
    respond(posted, Form::Chat).await
}

/// Answers a prompt.
pub async fn generate(posted: Posted) -> Result<Response, ApiError> {
    respond(posted, Form::Generate).await
}

async fn respond(posted: Posted, form: Form) -> Result<Response, ApiError> {
    match posted.read(move |posted| prepare(posted, form)).await? {
        Prepared::Telling(telling) => telling.respond().await,
        Prepared::Loaded(loaded) => Ok(Json(loaded).into_response()),
    }
}

/// What comes of a request.
enum Prepared {
    Telling(Box<Telling>),
    /// It had nothing to answer: so clients ask that a model be loaded, or let go.
    Loaded(Value),
}

/// A request's body with a model's name as it is called here: Ollama's clients add a tag.
fn body_of(posted: &Posted) -> Result<Map<String, Value>, ApiError> {
    let mut body = object(&posted.body)?;
    if let Some(Value::String(name)) = body.get_mut("model") {
        untag(&posted.app, name);
    }
    Ok(body)
}

/// Whether a body of these routes has nothing to answer.
pub fn asks_nothing(path: &str, body: &[u8]) -> bool {
    let forms = [("/api/chat", Form::Chat), ("/api/generate", Form::Generate)];
    let form = forms.into_iter().find(|&(of, _)| of == path).map(|(_, form)| form);
    form.is_some_and(|form| object(body).is_ok_and(|body| is_empty(form, &body)))
}

fn is_empty(form: Form, body: &Map<String, Value>) -> bool {
    let content = match form {
        Form::Chat => "messages",
        Form::Generate => "prompt",
    };
    match body.get(content) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(messages)) => messages.is_empty(),
        Some(_) => false,
    }
}

/// The answer to a body that lets a model go which is not there: it need not be loaded for that.
fn gone(
    posted: &Posted,
    body: &Map<String, Value>,
    form: Form,
    table: Table,
) -> Result<Option<Value>, ApiError> {
    let Posted { app, headers, .. } = posted;
    let time = body.get("keep_alive").and_then(|time| KeepAlive::of_json(time).ok());
    if !time.is_some_and(KeepAlive::is_zero) || !is_empty(form, body) {
        return Ok(None);
    }
    let fields = Fields(body);
    let name = name_for(app, &agent(fields, headers)?, fields.text("model")?)?;
    let model = listed(app, &name)?;
    if model.status == Status::Loaded {
        return Ok(None);
    }
    let is_strict = app.options.strict || asks_strictness(headers);
    let warnings = check("", body, table, is_strict)?;
    Ok(Some(voice::nothing(app, form, &model.name, "unload", warnings)))
}

fn prepare(posted: &Posted, form: Form) -> Result<Prepared, ApiError> {
    let Posted { app, headers, .. } = posted;
    let table = match form {
        Form::Chat => OLLAMA_CHAT,
        Form::Generate => OLLAMA_GENERATE,
    };
    let body = body_of(posted)?;
    if let Some(said) = gone(posted, &body, form, table)? {
        return Ok(Prepared::Loaded(said));
    }
    let mut asked = Asked::of(posted, body, table)?;
    let content = match form {
        Form::Chat => chat_content(&mut asked)?,
        Form::Generate => generate_content(asked.fields())?,
    };
    let window = translate(app, &mut asked, table, content.clone())?;
    let is_empty = matches!(&content, Content::Messages(messages) if messages.is_empty());
    if is_empty || matches!(&content, Content::Raw(text) if text.is_empty()) {
        let keep_alive = asked.fields().get("keep_alive").and_then(|v| KeepAlive::of_json(v).ok());
        let reason = if keep_alive.is_some_and(KeepAlive::is_zero) { "unload" } else { "load" };
        let name = &asked.model.served.name;
        return Ok(Prepared::Loaded(voice::nothing(app, form, name, reason, asked.warnings)));
    }
    let voice = OllamaVoice::new(app.clone(), form, &asked);
    let planned = plan(app, &mut asked, headers, &content, window);
    let Planned { generation, requests, reading } =
        planned.map_err(|error| asked.in_their_words(error))?;
    let running = Running::start(&asked.model, requests, 1)?;
    let (reader, is_streamed) = (reading.reader(), generation.is_streamed);
    let (class, has_logprobs) = (generation.request.class, generation.request.logprobs.is_some());
    let voice = Box::new(voice.says(asked.warnings, has_logprobs));
    Ok(Prepared::Telling(Box::new(Telling { running, reader, voice, class, is_streamed })))
}

/// What is to be answered.
#[derive(Clone)]
enum Content {
    /// Messages, and what the client calls each.
    Messages(Vec<(Map<String, Value>, String)>),
    /// A text that no template is put around.
    Raw(String),
}

fn chat_content(asked: &mut Asked) -> Result<Content, ApiError> {
    let mut messages = Vec::new();
    let mut warnings = Vec::new();
    for (index, message) in asked.fields().list("messages")?.unwrap_or_default().iter().enumerate()
    {
        let path = format!("messages[{index}]");
        let given = message.as_object().ok_or_else(|| wrong(&path, message, "an object"))?;
        let prefix = format!("{path}.");
        check_also(&mut warnings, &prefix, given, OLLAMA_MESSAGE, asked.is_strict)?;
        let mut said = Translation::default();
        said.take(&prefix, given, OLLAMA_MESSAGE);
        messages.push((said.chat, path));
    }
    asked.warnings.extend(warnings);
    Ok(Content::Messages(messages))
}

fn generate_content(fields: Fields<'_>) -> Result<Content, ApiError> {
    let (prompt, system) = (fields.text("prompt")?.unwrap_or_default(), fields.text("system")?);
    if fields.flag("raw")?.unwrap_or(false) {
        if system.is_some_and(|system| !system.is_empty()) {
            let message = "system goes into a template, which `raw` leaves out; send one of them";
            return Err(ApiError::invalid("system", message));
        }
        return Ok(Content::Raw(prompt.to_owned()));
    }
    if prompt.is_empty() {
        return Ok(Content::Messages(Vec::new()));
    }
    let system = system.filter(|system| !system.is_empty()).map(|text| ("system", text, "system"));
    let turns = system.into_iter().chain([("user", prompt, "prompt")]);
    let message = |(role, text, theirs): (&str, &str, &str)| {
        let message = [("role", role), ("content", text)];
        let message = message.map(|(key, value)| (key.to_owned(), Value::from(value)));
        (Map::from_iter(message), theirs.to_owned())
    };
    Ok(Content::Messages(turns.map(message).collect()))
}

/// Puts the request into a chat's words. Returns `num_ctx`, where it was given.
fn translate(
    app: &App,
    asked: &mut Asked,
    table: Table,
    content: Content,
) -> Result<Option<usize>, ApiError> {
    let mut said = Translation::default();
    for (name, value) in OLLAMA_DEFAULTS {
        let value: Value = serde_json::from_str(value).expect("the defaults are JSON");
        said.chat.insert((*name).to_owned(), value);
    }
    said.take("", asked.fields().0, table);
    said.chat.entry("stream").or_insert(Value::Bool(true));
    if said.chat["stream"].is_null() {
        said.chat.insert("stream".into(), true.into());
    }
    let mut window = None;
    if let Some(options) = asked.fields().object("options")? {
        let options: Map<String, Value> =
            options.iter().filter(|(_, value)| !value.is_null()).map(owned).collect();
        let warnings = check("options.", &options, OLLAMA_OPTIONS, asked.is_strict)?;
        said.take("options.", &options, OLLAMA_OPTIONS);
        asked.warnings.extend(warnings);
        window = self::window(asked, &options)?;
    }
    // As long as the model goes on, and whichever seed there is.
    let is_open = |value: Option<&Value>, least: i64| {
        value.and_then(Value::as_i64).is_some_and(|n| (least..0).contains(&n))
    };
    if is_open(said.chat.get("max_tokens"), -2) {
        said.chat.remove("max_tokens");
    }
    if is_open(said.chat.get("seed"), -1) {
        said.chat.remove("seed");
    }
    think(app, asked, &mut said)?;
    format(asked.fields(), &mut said)?;
    if let Content::Messages(messages) = content {
        for (message, theirs) in messages {
            said.message(message, theirs);
        }
    }
    asked.translated(said.done("messages"));
    Ok(window)
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

/// `num_ctx`: tokens of prompt and answer together. There cannot be more than the model is served
/// with.
fn window(asked: &mut Asked, options: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    let num_ctx = Fields(options).integer("num_ctx", 1, i64::MAX);
    let num_ctx = num_ctx.map_err(|error| error.renamed("num_ctx", "options.num_ctx"))?;
    let Some(num_ctx) = num_ctx.map(|n| n as usize) else { return Ok(None) };
    let most = asked.model.served.context_len;
    if num_ctx > most {
        let warning = format!(
            "options.num_ctx is {num_ctx}, but this model is served with a context of {most} tokens"
        );
        asked.warn("options.num_ctx", warning)?;
    }
    Ok(Some(num_ctx.min(most)))
}

/// Whether the model should think, or how much, for templates that know. What it thinks is told
/// apart unless it should not.
fn think(app: &App, asked: &mut Asked, said: &mut Translation) -> Result<(), ApiError> {
    let (is_thinking, effort) = match asked.fields().get("think") {
        None => return Ok(()),
        Some(Value::Bool(is_thinking)) => (*is_thinking, None),
        Some(Value::String(effort)) if ["low", "medium", "high"].contains(&effort.as_str()) => {
            (true, Some(effort.clone()))
        }
        Some(other) => return Err(wrong("think", other, "true, false, low, medium or high")),
    };
    if let Some(effort) = effort {
        said.set("chat_template_kwargs", json!({ "reasoning_effort": effort }), "think");
        if asked.model.template_source().contains("reasoning_effort") {
            said.set("reasoning_format", "auto", "think");
            return Ok(());
        }
        let warning = format!(
            "think: this model's chat template does not know how much is {effort}; it is told to \
             think, if it knows that"
        );
        asked.warn("think", warning)?;
    }
    let has_form = app.thought_form(&asked.model).is_some();
    said.think(asked, is_thinking, has_form, "think")
}

/// What the answer is to be: any JSON object, or what a schema says.
fn format(fields: Fields<'_>, said: &mut Translation) -> Result<(), ApiError> {
    match fields.get("format") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) if text == "json" => {
            said.set("response_format", json!({ "type": "json_object" }), "format");
        }
        Some(schema @ Value::Object(_)) => said.hold_to(schema, "format"),
        Some(other) => return Err(wrong("format", other, "\"json\" or a JSON schema")),
    }
    Ok(())
}

/// What is asked of the engine.
fn plan(
    app: &App,
    asked: &mut Asked,
    headers: &HeaderMap,
    content: &Content,
    window: Option<usize>,
) -> Result<Planned, ApiError> {
    let mut limit = chat::limit(asked)?;
    limit.context_len = window.unwrap_or(limit.context_len);
    let mut planned = match content {
        Content::Messages(_) => chat::plan(app, asked, headers, limit)?,
        Content::Raw(text) => {
            let prompt = raw(asked, text);
            chat::plan_of(app, asked, headers, limit, prompt)?
        }
    };
    if let (Some(window), Some(request)) = (window, planned.requests.first_mut()) {
        let n_prompt = request.prompt.len();
        if n_prompt >= window {
            let message = format!(
                "the prompt has {n_prompt} tokens and num_ctx is {window}; nothing is left for an \
                 answer, and prompts are not cut here"
            );
            return Err(ApiError::invalid("num_ctx", message));
        }
        request.max_tokens = request.max_tokens.min(window - n_prompt);
    }
    Ok(planned)
}

/// The tokens of a text that spells its control tokens itself; BOS comes once.
fn raw(asked: &Asked, text: &str) -> Vec<u32> {
    let tokenizer = &asked.model.served.tokenizer;
    let mut tokens = tokenizer.encode_special(text, true, true);
    let is_twice = tokenizer.bos().is_some_and(|bos| tokens.starts_with(&[bos, bos]));
    if is_twice {
        tokens.remove(0);
    }
    tokens
}
