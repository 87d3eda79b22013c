//! Which web pages of other hosts may ask: those that the operator named, and by default none.

use crate::app::App;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// For so many seconds a browser need not ask again whether it may.
const MAX_AGE: &str = "600";
const METHODS: &str = "GET, POST, DELETE";
/// What scripts may read of an answer besides its body.
const EXPOSED: &str = "x-request-id, x-cache, x-priority-class, server-timing, retry-after";

/// Checks the name of a host whose pages may ask, as browsers send it: `https://host:port`, or `*`.
///
/// # Errors
/// When no browser sends such a name: a sentence.
pub fn check_origin(origin: &str) -> Result<(), String> {
    let host = ["https://", "http://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@,".contains(&b))
    };
    if origin == "*" || host.is_some_and(is_host) {
        return Ok(());
    }
    Err(format!("{origin:?} is no origin; write it as https://host or https://host:port, or *"))
}

/// Around everything: answers browsers that ask whether a page may, and marks answers that its
/// scripts may read. Keys are not asked for here, since a browser sends none with that question.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origins = &app.options.cors_origins;
    let Some(origin) = allowed(origins, request.headers()) else {
        return next.run(request).await;
    };
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let is_question = request.method() == Method::OPTIONS && wanted.is_some();
    let mut response = match is_question {
        true => permission(request.headers()),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// The page's host, if it may ask.
fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let is_known = |known: &String| known == "*" || known.as_bytes() == origin.as_bytes();
    origins.iter().any(is_known).then(|| origin.clone())
}

fn permission(asked: &HeaderMap) -> Response {
    let mut given: Vec<(HeaderName, HeaderValue)> = vec![
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE)),
    ];
    // Every header that the page wants to send: which of them mean something, the routes say.
    if let Some(headers) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        given.push((header::ACCESS_CONTROL_ALLOW_HEADERS, headers.clone()));
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(given);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_send_them() {
        for good in ["*", "https://a.example", "http://localhost:5173", "https://[::1]:8443"] {
            assert_eq!(check_origin(good), Ok(()));
        }
        for bad in ["", "a.example", "https://", "https://a.example/", "https://a b", "null"] {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }
}
