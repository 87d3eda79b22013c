//! How each API writes errors: OpenAI's object is what handlers return, and at the edge it becomes
//! what the clients of a route expect.

use crate::errors::ApiError;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

/// The API that a route belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's, and all routes that are nobody's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's.
    Ollama,
}

/// Anthropic's status of a server that has too much to do, which HTTP has no name for.
const OVERLOADED: u16 = 529;

impl Dialect {
    /// Of a path.
    pub fn of(path: &str) -> Self {
        let is_ollama = |rest: &str| !rest.starts_with("v1/");
        match path {
            "/v1/messages" => Self::Anthropic,
            _ if path.starts_with("/v1/messages/") => Self::Anthropic,
            _ if path.strip_prefix("/api/").is_some_and(is_ollama) => Self::Ollama,
            _ => Self::OpenAi,
        }
    }

    /// The object of an error.
    pub fn error(self, error: &ApiError) -> Value {
        match self {
            Self::OpenAi => error.json(),
            Self::Anthropic => {
                let (_, kind) = anthropic(error.status());
                json!({ "type": "error", "error": { "type": kind, "message": error.message() } })
            }
            Self::Ollama => json!({ "error": error.message() }),
        }
    }

    /// Writes the error of a response, if it is one, anew; Anthropic's clients look for the id of
    /// the request under another name.
    pub fn put(self, response: &mut Response, id: &HeaderValue) {
        if self == Self::Anthropic {
            response.headers_mut().insert("request-id", id.clone());
        }
        let Some(error) = response.extensions_mut().remove::<ApiError>() else { return };
        if self == Self::OpenAi {
            return;
        }
        let mut object = self.error(&error);
        if self == Self::Anthropic {
            object["request_id"] = id.to_str().unwrap_or_default().into();
            *response.status_mut() = anthropic(error.status()).0;
        }
        *response.body_mut() = Body::from(object.to_string());
    }
}

/// Anthropic's status, and its name of such errors.
fn anthropic(status: StatusCode) -> (StatusCode, &'static str) {
    let kind = match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        StatusCode::SERVICE_UNAVAILABLE => {
            return (StatusCode::from_u16(OVERLOADED).unwrap_or(status), "overloaded_error");
        }
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    (status, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_the_dialect_of_their_api() {
        for (path, dialect) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messagesque", Dialect::OpenAi),
            ("/api/chat", Dialect::Ollama),
            ("/api/v1/stats", Dialect::OpenAi),
            ("/v1/responses", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }

    #[test]
    fn anthropic_has_a_type_for_each_status() {
        for (status, expected) in [
            (400, (400, "invalid_request_error")),
            (401, (401, "authentication_error")),
            (404, (404, "not_found_error")),
            (413, (413, "request_too_large")),
            (500, (500, "api_error")),
            (503, (529, "overloaded_error")),
        ] {
            let (got, kind) = anthropic(StatusCode::from_u16(status).unwrap());
            assert_eq!((got.as_u16(), kind), expected);
        }
    }
}
