//! The routes, each with what it is for: the router is made of this list, and so is the OpenAPI
//! document, which therefore cannot have other routes than the server.

use crate::app::App;
use crate::params::Table;
use crate::tables as t;
use crate::{
    cache, changes, chat, completions, embeddings, health, messages, metrics, models, ollama,
    openapi, ops, pages, responses, sessions, stats, summary, tokens,
};
use axum::routing::{MethodRouter, delete, get, post};
use std::sync::Arc;

/// A method of a path.
#[derive(Clone, Copy)]
pub struct Route {
    /// In small letters, as OpenAPI has it.
    pub method: &'static str,
    /// As axum has it.
    pub path: &'static str,
    /// What answers.
    pub handler: fn() -> MethodRouter<Arc<App>>,
    /// What it does, in a few words.
    pub does: &'static str,
    /// The parameters of its body, or of its query where it has no body.
    pub takes: Table,
    /// Those that there must be.
    pub needs: &'static [&'static str],
    /// Whether its body names a model that it asks, which is loaded first.
    pub asks: bool,
}

type Handler = fn() -> MethodRouter<Arc<App>>;

const fn route(
    method: &'static str,
    path: &'static str,
    handler: Handler,
    does: &'static str,
) -> Route {
    Route { method, path, handler, does, takes: &[], needs: &[], asks: false }
}

const fn taking(takes: Table, needs: &'static [&'static str], route: Route) -> Route {
    Route { takes, needs, ..route }
}

/// A route that takes a body.
const fn create(
    path: &'static str,
    handler: Handler,
    does: &'static str,
    takes: Table,
    needs: &'static [&'static str],
) -> Route {
    taking(takes, needs, route("post", path, handler, does))
}

/// A route that takes a body and asks the model that it names.
const fn ask(
    path: &'static str,
    handler: Handler,
    does: &'static str,
    takes: Table,
    needs: &'static [&'static str],
) -> Route {
    Route { asks: true, ..create(path, handler, does, takes, needs) }
}

/// A route that shows something.
const fn show(path: &'static str, handler: Handler, does: &'static str) -> Route {
    route("get", path, handler, does)
}

/// All of them.
pub const ROUTES: &[&[Route]] = &[OPENAI, ANTHROPIC, OLLAMA, TOKENS, MODELS, OPERATIONS, PAGES];

const OPENAI: &[Route] = &[
    ask(
        "/v1/completions",
        || post(completions::create),
        "Continue prompts",
        t::COMPLETIONS,
        &["prompt"],
    ),
    ask(
        "/v1/chat/completions",
        || post(chat::create),
        "Answer a conversation",
        t::CHAT,
        &["messages"],
    ),
    ask("/v1/embeddings", || post(embeddings::create), "Embed texts", t::EMBEDDINGS, &["input"]),
    ask("/v1/responses", || post(responses::create), "Answer an input", t::RESPONSES, &["input"]),
    ask(
        "/v1/responses/input_tokens",
        || post(responses::input_tokens),
        "Count the tokens of an input",
        t::INPUT_TOKENS,
        &["input"],
    ),
    taking(
        t::RESPONSE_QUERY,
        &[],
        show("/v1/responses/{id}", || get(responses::get), "A response that was kept"),
    ),
    route("delete", "/v1/responses/{id}", || delete(responses::delete), "Forget a response"),
    route("post", "/v1/responses/{id}/cancel", || post(responses::cancel), "End a response"),
    ask(
        "/v1/sessions/{id}/fork",
        || post(sessions::fork),
        "Share a session's keys and values with another",
        t::FORK,
        &[],
    ),
    taking(
        t::MODEL_QUERY,
        &[],
        route("delete", "/v1/sessions/{id}", || delete(sessions::end), "End a session"),
    ),
    create(
        "/v1/cache/flush",
        || post(sessions::flush),
        "Forget kept answers and prefixes, on the disk too; what sessions hold stays",
        t::FLUSH,
        &[],
    ),
    show("/v1/models", || get(models::list), "The models, in memory or not"),
    show("/v1/models/{*id}", || get(models::one), "A model"),
];

const ANTHROPIC: &[Route] = &[
    ask(
        "/v1/messages",
        || post(messages::create),
        "Answer messages, as Anthropic's API",
        t::MESSAGES,
        &["messages", "max_tokens"],
    ),
    ask(
        "/v1/messages/count_tokens",
        || post(messages::count_tokens),
        "Count the tokens of messages",
        t::COUNT_TOKENS,
        &["messages"],
    ),
];

const OLLAMA: &[Route] = &[
    ask(
        "/api/chat",
        || post(ollama::chat),
        "Answer a conversation, as Ollama's API",
        t::OLLAMA_CHAT,
        &[],
    ),
    ask(
        "/api/generate",
        || post(ollama::generate),
        "Answer a prompt, as Ollama's API",
        t::OLLAMA_GENERATE,
        &[],
    ),
    ask("/api/embed", || post(ollama::embed), "Embed texts, as Ollama's API", t::OLLAMA_EMBED, &[]),
    ask(
        "/api/embeddings",
        || post(ollama::embeddings),
        "Embed a text, as Ollama's older API",
        t::OLLAMA_EMBEDDINGS,
        &[],
    ),
    show("/api/tags", || get(ollama::tags), "The models, as Ollama lists them"),
    show("/api/ps", || get(ollama::ps), "The models in memory, as Ollama lists them"),
    create("/api/show", || post(ollama::show), "A model, as Ollama shows it", t::OLLAMA_SHOW, &[]),
    show("/api/version", || get(ollama::version), "The version of this server"),
];

const TOKENS: &[Route] = &[
    ask("/tokenize", || post(tokens::tokenize), "Tokens of a text", t::TOKENIZE, &["content"]),
    ask(
        "/detokenize",
        || post(tokens::detokenize),
        "The text of tokens",
        t::DETOKENIZE,
        &["tokens"],
    ),
    ask(
        "/apply-template",
        || post(chat::apply_template),
        "The prompt of a conversation",
        t::APPLY_TEMPLATE,
        &["messages"],
    ),
];

const OPERATIONS: &[Route] = &[
    show("/health", || get(health::live), "Whether the process lives"),
    show("/health/live", || get(health::live), "Whether the process lives"),
    show("/health/ready", || get(health::ready), "Whether every model generates a token now"),
    show("/ping", || get(health::live), "Whether the process lives"),
    show("/version", || get(health::version), "The version"),
    taking(
        t::MODEL_QUERY,
        &[],
        show("/props", || get(ops::props), "What is served, and how by default"),
    ),
    taking(
        t::SLOTS_QUERY,
        &[],
        show("/slots", || get(ops::slots), "Who is served, and who waits, by agent"),
    ),
    show("/load", || get(ops::load), "How much there is to do"),
    show("/metrics", || get(metrics::show), "Numbers for Prometheus"),
    show("/api/v1/stats", || get(stats::show), "Counters and gauges"),
    show("/api/v1/batch/metrics", || get(summary::show), "A few numbers of batching"),
    show("/openapi.json", || get(openapi::show), "This document"),
];

const MODELS: &[Route] = &[
    show("/models", || get(models::status), "Where each model is"),
    show("/models/sse", || get(changes::tell), "Where each model is, as it changes: events"),
    create("/models/load", || post(models::load), "Load a model", t::LOAD, &["model"]),
    create(
        "/models/unload",
        || post(models::unload),
        "Let a model go once it has answered what it has",
        t::LOAD,
        &["model"],
    ),
    // Names have slashes, so that the path's end is the handler's to find.
    route(
        "post",
        "/v1/models/{*id}",
        || post(models::pin),
        "Keep a model in memory: the path is the model's, and `/pin`",
    ),
    route(
        "delete",
        "/v1/models/{*id}",
        || delete(models::unpin),
        "Let a model go again: the path is the model's, and `/pin`",
    ),
    show("/v1/cache/stats", || get(cache::show), "The memory that models take turns in"),
    show("/api/v1/cache/stats", || get(cache::show), "The memory that models take turns in"),
    create(
        "/v1/cache/limit",
        || post(cache::set_limit),
        "Change the memory that models may take",
        t::CACHE_LIMIT,
        &["max_memory_mb"],
    ),
];

const PAGES: &[Route] = &[
    show("/", || get(pages::dashboard), "The dashboard"),
    show("/dashboard.js", || get(pages::dashboard_script), "What the dashboard does"),
    show("/chat", || get(pages::chat), "The playground"),
    show("/chat.js", || get(pages::chat_script), "What the playground does"),
    show("/docs", || get(pages::docs), "The routes and parameters, for people"),
    show("/docs.js", || get(pages::docs_script), "What the page of the routes does"),
    show("/icon.svg", || get(pages::icon), "What tabs show"),
    show("/style.css", || get(pages::style), "How the pages look"),
];

/// All of them, in order.
pub fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().copied().flatten()
}

/// Whether a `POST` to a path, as axum has it, asks a model.
pub fn asks(path: &str) -> bool {
    all().any(|route| route.asks && route.path == path)
}
