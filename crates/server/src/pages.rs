//! The pages for people: a dashboard, a playground and the list of routes. They ask the same routes
//! as programs do.
//!
//! They are in the program, need no other host and no build. They hold no numbers themselves, so
//! that they may be read without a key.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

/// Paths of the pages and of what belongs to them.
pub const PATHS: &[&str] =
    &["/", "/chat", "/docs", "/style.css", "/icon.svg", "/dashboard.js", "/chat.js", "/docs.js"];

/// Scripts and requests of this host only.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";

/// The dashboard.
pub async fn dashboard() -> Response {
    page("text/html; charset=utf-8", include_str!("pages/dashboard.html"))
}

/// What the dashboard does.
pub async fn dashboard_script() -> Response {
    page("text/javascript; charset=utf-8", include_str!("pages/dashboard.js"))
}

/// The playground.
pub async fn chat() -> Response {
    page("text/html; charset=utf-8", include_str!("pages/chat.html"))
}

/// What the playground does.
pub async fn chat_script() -> Response {
    page("text/javascript; charset=utf-8", include_str!("pages/chat.js"))
}

/// What tabs show.
pub async fn icon() -> Response {
    page("image/svg+xml", include_str!("pages/icon.svg"))
}

/// The routes and their parameters.
pub async fn docs() -> Response {
    page("text/html; charset=utf-8", include_str!("pages/docs.html"))
}

/// What shows them.
pub async fn docs_script() -> Response {
    page("text/javascript; charset=utf-8", include_str!("pages/docs.js"))
}

/// How all of them look.
pub async fn style() -> Response {
    page("text/css; charset=utf-8", include_str!("pages/style.css"))
}

fn page(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        // A newer program has newer pages at the same address.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
