//! `GET /openapi.json`: the routes and their parameters, for programs and for the page `/docs`.
//!
//! In: the list of routes and the tables that requests are held against. Out: an OpenAPI document.
//! It says of each parameter what `params.rs` does with it; `openapi/kinds.rs` adds its type.

mod kinds;

use crate::dialect::Dialect;
use crate::params::{Param, Rule, Table};
use crate::routes::{self, Route};
use crate::tables as t;
use axum::Json;
use serde_json::{Map, Value, json};

/// Objects within bodies that have tables of their own: their path, where it matters, their name,
/// and the table.
const NESTED: &[(&str, &str, Table)] = &[
    ("/v1/chat/completions", "stream_options", t::STREAM_OPTIONS),
    ("/v1/completions", "stream_options", t::STREAM_OPTIONS),
    ("/v1/chat/completions", "cache", t::CACHE),
    ("/v1/completions", "cache", t::CACHE),
    ("/v1/chat/completions", "prediction", t::PREDICTION),
    ("/v1/embeddings", "cache", t::CACHE),
    ("/v1/responses", "stream_options", t::RESPONSE_STREAM_OPTIONS),
    ("/v1/responses", "text", t::TEXT),
    ("/v1/responses/input_tokens", "text", t::TEXT),
    ("/v1/messages", "metadata", t::MESSAGE_METADATA),
    ("/v1/messages", "output_config", t::OUTPUT_CONFIG),
    ("/v1/messages", "thinking", t::THINKING),
    ("/v1/messages", "tool_choice", t::TOOL_CHOICE),
    ("/v1/messages/count_tokens", "thinking", t::THINKING),
    ("/v1/messages/count_tokens", "output_config", t::OUTPUT_CONFIG),
    ("/api/chat", "options", t::OLLAMA_OPTIONS),
    ("/api/generate", "options", t::OLLAMA_OPTIONS),
    ("/api/embed", "options", t::OLLAMA_EMBED_OPTIONS),
    ("/api/embeddings", "options", t::OLLAMA_EMBED_OPTIONS),
];

/// Shows the document.
pub async fn show() -> Json<Value> {
    Json(document())
}

fn document() -> Value {
    let mut paths = Map::new();
    for route in routes::all() {
        let path = paths.entry(public(route.path)).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    let about = "Sterna's HTTP API. `x-sterna-rule` says what is done with a parameter: it is \
                 `honoured`, has `no_effect` on an answer, is `ignored` with a warning, or is \
                 `refused`, but for the values of `x-sterna-accepts`. Parameters that are not here \
                 are warnings in the answer, or errors with the header `X-Strict: true`.";
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Sterna", "version": env!("CARGO_PKG_VERSION"), "description": about },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
            "schemas": {
                "Error": error(json!({
                    "type": "object",
                    "properties": {
                        "message": { "type": "string" },
                        "type": { "type": "string" },
                        "param": { "type": ["string", "null"] },
                        "code": { "type": "string" },
                    },
                })),
                "AnthropicError": error(json!({
                    "type": "object",
                    "properties": {
                        "type": { "type": "string" },
                        "message": { "type": "string" },
                    },
                })),
                "OllamaError": error(json!({ "type": "string" })),
            },
        },
        "security": [{ "bearer": [] }, { "key": [] }, {}],
    })
}

fn error(inner: Value) -> Value {
    json!({ "type": "object", "required": ["error"], "properties": { "error": inner } })
}

/// A path as OpenAPI writes it.
fn public(path: &str) -> String {
    path.replace("{*", "{")
}

fn operation(route: &Route) -> Value {
    let error = match Dialect::of(route.path) {
        Dialect::OpenAi => "Error",
        Dialect::Anthropic => "AnthropicError",
        Dialect::Ollama => "OllamaError",
    };
    let error = json!({ "$ref": format!("#/components/schemas/{error}") });
    let name = format!("{}{}", route.method, route.path);
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut operation = json!({
        "summary": route.does,
        "operationId": name.trim_end_matches('_'),
        "parameters": parameters(route),
        "responses": {
            "200": { "description": "The answer" },
            "default": {
                "description": "Why there is none",
                "content": { "application/json": { "schema": error } },
            },
        },
    });
    if route.method == "post" && !route.takes.is_empty() {
        let schema = object(route.path, route.takes, route.needs);
        let content = json!({ "application/json": { "schema": schema } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// Parts of the path, and the query where a table is of one.
fn parameters(route: &Route) -> Vec<Value> {
    let path = public(route.path);
    let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = parts
        .map(|name| {
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    if route.method != "post" {
        for param in route.takes.iter().copied().flatten() {
            let mut schema = property(route.path, param);
            let description = schema["description"].take();
            parameters.push(json!({
                "name": param.name,
                "in": "query",
                "schema": { "type": "string" },
                "description": description,
                "x-sterna-rule": schema["x-sterna-rule"],
            }));
        }
    }
    parameters
}

/// The schema of an object with the parameters of a table.
fn object(path: &str, table: Table, needs: &[&str]) -> Value {
    let mut properties = Map::new();
    for param in table.iter().copied().flatten() {
        let mut schema = property(path, param);
        let nested = NESTED.iter().find(|(at, name, _)| *at == path && *name == param.name);
        if let Some((_, name, table)) = nested {
            let inner = object(&format!("{path} {name}"), table, &[]);
            schema["properties"] = inner["properties"].clone();
        }
        properties.insert(param.name.to_owned(), schema);
    }
    json!({ "type": "object", "required": needs, "properties": properties })
}

/// The schema of a parameter: its type, where it is known, and what is done with it.
fn property(path: &str, param: &Param) -> Value {
    let ours = match param.rule {
        Rule::Means(ours) => ours,
        _ => param.name,
    };
    let mut schema = kinds::of(path, param.name).or_else(|| kinds::of(path, ours));
    let schema = schema.get_or_insert_with(|| json!({}));
    let (rule, description) = match param.rule {
        Rule::Honoured => ("honoured", None),
        Rule::Means(ours) => ("honoured", Some(format!("What the chat API calls `{ours}`."))),
        Rule::NoEffect => ("no_effect", Some("Accepted; it changes nothing.".to_owned())),
        Rule::Ignored(why) => ("ignored", Some(format!("Ignored with a warning: {why}."))),
        Rule::Refused(harmless, why) => {
            let harmless = harmless.iter().filter_map(|text| serde_json::from_str(text).ok());
            schema["x-sterna-accepts"] = harmless.collect::<Vec<Value>>().into();
            ("refused", Some(format!("Refused: {why}.")))
        }
    };
    schema["x-sterna-rule"] = rule.into();
    if let Some(description) = description {
        schema["description"] = description.into();
    }
    schema.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_honoured_parameter_has_a_type_and_an_example() {
        let mut tables: Vec<(String, Table)> =
            routes::all().map(|route| (route.path.to_owned(), route.takes)).collect();
        tables.extend(NESTED.iter().map(|(at, name, table)| (format!("{at} {name}"), *table)));
        for (path, table) in tables {
            for param in table.iter().copied().flatten() {
                let schema = property(&path, param);
                if schema["x-sterna-rule"] == "honoured" {
                    let fix = "add it to openapi/kinds.rs";
                    assert!(schema["examples"][0] != Value::Null, "{path}: {}: {fix}", param.name);
                }
            }
        }
    }

    #[test]
    fn objects_with_tables_are_parameters() {
        for (path, name, _) in NESTED {
            let route = routes::all().find(|route| route.path == *path).unwrap();
            let mut params = route.takes.iter().copied().flatten();
            assert!(params.any(|param| param.name == *name), "{path} {name}");
        }
    }
}
