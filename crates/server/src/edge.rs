//! What every request passes: its id, the key, and a net under panics.

use crate::app::App;
use crate::errors::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// The name of a request, the client's own where it gave one.
const REQUEST_ID: &str = "x-request-id";
/// Ids of clients are no longer than this, or they get one of ours.
const MAX_ID_LEN: usize = 128;
/// Bodies of at least so many bytes are worked on beside the threads that serve connections:
/// tokenizing them takes milliseconds.
const LARGE_BODY: usize = 16 << 10;

/// Around every handler.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(&app, request.headers());
    let mut response = match app.keys.check(request.uri().path(), request.headers()) {
        Err(error) => error.into_response(),
        Ok(()) => {
            // A handler shares nothing that a panic could leave half-changed: what it submitted is
            // cancelled while the stack unwinds.
            let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            answer.unwrap_or_else(|_| panicked().into_response())
        }
    };
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn panicked() -> ApiError {
    let message = "the server failed on this request, which is a mistake of ours; its log says \
                   where, please report it";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
}

fn request_id(app: &App, headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        bytes.len() <= MAX_ID_LEN && !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&app.fresh.id("req-")).expect("hexadecimal digits are a header")
    })
}

/// The answer to paths that there are not.
pub async fn no_route(method: Method, uri: Uri) -> ApiError {
    let message = format!("this server has no {method} {}; check the path", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "unknown_route", message)
}

/// The answer to methods that a path does not have.
pub async fn no_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} takes no {method}; use the other of GET and POST", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Does work of a size that grows with the body's, on another thread where that is long.
pub async fn off_thread<T, F>(n_bytes: usize, work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if n_bytes < LARGE_BODY {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
