//! The opening of every handler of a `POST`: its headers and its body, whole, and a thread to read
//! them on.

use crate::access::Notes;
use crate::app::App;
use crate::body::Place;
use crate::errors::ApiError;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use std::sync::Arc;

/// Bodies of at least so many bytes are worked on beside the threads that serve connections:
/// tokenizing them takes milliseconds.
pub const LARGE_BODY: usize = 16 << 10;

/// What somebody posted.
pub struct Posted {
    /// The server.
    pub app: Arc<App>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// Its body, which need not be JSON.
    pub body: Bytes,
    /// Where that is counted, also while it is read for a client that went away.
    _place: Arc<Place>,
}

impl FromRequest<Arc<App>> for Posted {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let headers = request.headers().clone();
        let place = request.extensions().get::<Arc<Place>>().cloned();
        let body = Bytes::from_request(request, app).await?;
        let _place = place.expect("the guard gives every request a place");
        Ok(Self { app: app.clone(), headers, body, _place })
    }
}

impl Posted {
    /// Does work whose length grows with the body's, on another thread where that is long.
    ///
    /// # Errors
    /// The work's own.
    pub async fn read<T, F>(self, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    {
        aside(is_long(&self.body), move || work(&self)).await
    }

    /// The same, where a body may be left out because nothing need be said.
    pub fn or_empty(mut self) -> Self {
        if self.body.is_empty() {
            self.body = Bytes::from_static(b"{}");
        }
        self
    }
}

/// Does a request's work, on another thread where it is long.
pub async fn aside<T, F>(is_long: bool, work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if !is_long {
        return work();
    }
    let notes = Notes::current();
    match tokio::task::spawn_blocking(move || notes.within_thread(work)).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Whether work on a body takes long: compiling a grammar or schema takes milliseconds, however
/// short it is.
fn is_long(body: &[u8]) -> bool {
    const SLOW: [&str; 8] = [
        "\"tools\"",
        "\"format\"",
        "response_format",
        "structured_outputs",
        "guided_",
        "grammar",
        "schema",
        // What was said before is read again.
        "previous_response_id",
    ];
    if body.len() >= LARGE_BODY {
        return true;
    }
    let text = std::str::from_utf8(body).unwrap_or_default();
    SLOW.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammars_and_large_bodies_take_long() {
        assert!(!is_long(br#"{"prompt": "a", "max_tokens": 3}"#));
        assert!(is_long(br#"{"format": {"type": "object"}}"#));
        assert!(is_long(br#"{"tools": []}"#));
        assert!(is_long(br#"{"input": "a", "previous_response_id": "resp_1"}"#));
        assert!(is_long(br#"{"output_config": {"format": {"schema": {}}}}"#));
        assert!(is_long(&[b' '; LARGE_BODY]));
        assert!(!is_long(&[0xff; 16]));
    }
}
