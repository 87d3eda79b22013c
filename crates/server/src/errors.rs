//! What goes wrong, as OpenAI's error object with its status.

use crate::access::Notes;
use crate::body::{self, Cut};
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sterna_engine::EngineError;

/// A request that gets no answer. The message is a sentence that the client can act on.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    param: Option<String>,
    /// Seconds after which it may be tried again.
    retry_after: Option<u32>,
}

impl ApiError {
    /// An error of a status, with the code that programs look at.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// A parameter whose value is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).about(param)
    }

    /// A parameter, or a value of it, that asks for what is not there.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unsupported_parameter", message).about(param)
    }

    /// What programs look at.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The same error, about this parameter.
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error, of something that will pass.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error of a client that calls the parameter otherwise: `ours`, which its name begins
    /// with, is `theirs`.
    pub fn renamed(mut self, ours: &str, theirs: &str) -> Self {
        let Some(rest) = self.param.as_deref().and_then(|param| param.strip_prefix(ours)) else {
            return self;
        };
        let (old, new) = (format!("{ours}{rest}"), format!("{theirs}{rest}"));
        self.message = self.message.replacen(&old, &new, 1);
        self.param = Some(new);
        self
    }

    /// The parameter that it is about.
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// The object that answers carry.
    pub fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let Self { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Notes::current().note().error = Some(self.code);
        let mut response = (self.status, Json(self.json())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For `dialect.rs`, where the route's API writes errors otherwise.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let invalid = |code| Self::new(StatusCode::BAD_REQUEST, code, message.clone());
        let busy = |code| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message.clone());
        match error {
            EngineError::EmptyPrompt => invalid("empty_prompt"),
            EngineError::ContextLength { .. } => invalid("context_length_exceeded"),
            EngineError::Invalid(_) => invalid("invalid_value"),
            EngineError::QueueFull { .. } => busy("queue_full").retry_after(1),
            EngineError::TooLate { retry_after, .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, "deadline_too_early", message).retry_after(retry_after)
            }
            EngineError::DeadlineMissed => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_missed", message)
            }
            EngineError::Draining => busy("shutting_down").retry_after(5),
            EngineError::Refused { retry_seconds, .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
                    .retry_after(retry_seconds)
            }
            EngineError::Internal(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
            }
        }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match (body::cut(&rejection), rejection.status()) {
            (Some(Cut::Late), _) => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "the request's body took longer to come than this server waits; send it faster, or \
                 less at once",
            ),
            (Some(Cut::Crowded), _) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "bodies_full",
                "the bodies of requests under way take all the memory that they may; try again \
                 when some are answered",
            )
            .retry_after(1),
            (None, StatusCode::PAYLOAD_TOO_LARGE) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                "the request's body is larger than this server takes (--max-body); send less at \
                 once",
            ),
            (None, status) => Self::new(status, "unreadable_body", rejection.body_text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(error: EngineError) -> (u16, String, Option<String>) {
        let error = ApiError::from(error);
        let json = error.json();
        let response = error.into_response();
        let retry = response.headers().get(header::RETRY_AFTER);
        let retry = retry.map(|value| value.to_str().unwrap().to_owned());
        let code = json["error"]["code"].as_str().unwrap().to_owned();
        (response.status().as_u16(), code, retry)
    }

    #[test]
    fn each_failure_of_the_engine_has_its_status() {
        let long = EngineError::ContextLength { prompt_tokens: 9, max_tokens: 8, context_len: 16 };
        assert_eq!(shown(long), (400, "context_length_exceeded".into(), None));
        assert_eq!(shown(EngineError::EmptyPrompt), (400, "empty_prompt".into(), None));
        assert_eq!(shown(EngineError::Invalid("x".into())), (400, "invalid_value".into(), None));
        let full = EngineError::QueueFull { waiting: 3 };
        assert_eq!(shown(full), (503, "queue_full".into(), Some("1".into())));
        assert_eq!(shown(EngineError::Draining), (503, "shutting_down".into(), Some("5".into())));
        let refused = EngineError::Refused { why: "x".into(), retry_seconds: 7 };
        assert_eq!(shown(refused), (429, "rate_limit_exceeded".into(), Some("7".into())));
        let late = EngineError::TooLate { answered_in_ms: 9, deadline_ms: 3, retry_after: 4 };
        assert_eq!(shown(late), (429, "deadline_too_early".into(), Some("4".into())));
        let missed = EngineError::DeadlineMissed;
        assert_eq!(shown(missed), (504, "deadline_missed".into(), None));
        let internal = EngineError::Internal("x".into());
        assert_eq!(shown(internal), (500, "internal_error".into(), None));
    }

    #[test]
    fn the_object_names_the_parameter() {
        let json = ApiError::invalid("top_p", "top_p is 2").json();
        let text = concat!(
            r#"{"error":{"message":"top_p is 2","type":"invalid_request_error","#,
            r#""param":"top_p","code":"invalid_value"}}"#,
        );
        assert_eq!(json.to_string(), text);
    }
}
