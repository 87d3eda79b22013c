//! Which web pages of other hosts may ask: those that the operator named, and by default none.
//!
//! A page may send more than it may read: a form's kinds of bodies go to any host, with its answer
//! kept from the page. And a page whose host's name comes to mean this machine, once it is loaded,
//! is of this host to its browser. So both are refused, and not only left without headers.

use crate::app::{App, Options};
use crate::errors::ApiError;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
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
    // Programs and extensions have schemes of their own.
    let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let is_host = |b: u8| b.is_ascii_graphic() && !b"/?#@,".contains(&b);
    let is_name = |name: &str, of: &dyn Fn(u8) -> bool| !name.is_empty() && name.bytes().all(of);
    let parts = origin.split_once("://");
    if origin == "*" || parts.is_some_and(|(a, b)| is_name(a, &is_scheme) && is_name(b, &is_host)) {
        return Ok(());
    }
    Err(format!("{origin:?} is no origin; write it as https://host or https://host:port, or *"))
}

/// Refuses what a page asks that may not; and where only this machine can ask, and without a key,
/// what is asked of a host of another name.
///
/// # Errors
/// Then.
pub fn check(options: &Options, headers: &HeaderMap) -> Result<(), ApiError> {
    let Options { keys, cors_origins: origins, loopback_name, .. } = options;
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST);
    if headers.contains_key(header::ORIGIN) && allowed(origins, headers).is_none() {
        let origin = text(header::ORIGIN).unwrap_or_default();
        if host.is_none_or(|host| host_of(origin) != Some(host)) {
            return Err(refused(format!(
                "web pages of {origin} may not ask this server; --cors-origin {origin} lets them"
            )));
        }
    }
    let is_known = |host: &str| {
        let is_named = |known: &String| known == "*" || host_of(known) == Some(host);
        origins.iter().any(is_named) || is_of_loopback(host, loopback_name.as_deref())
    };
    match host.filter(|_| loopback_name.is_some() && keys.is_empty()) {
        Some(host) if !is_known(host) => Err(refused(format!(
            "this server is for this machine, under names such as localhost, and not for {host}; \
             --cors-origin http://{host} lets it be asked by that name, or give it keys"
        ))),
        _ => Ok(()),
    }
}

fn refused(message: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message)
}

/// The host and port of an origin.
fn host_of(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, host)| host)
}

/// Whether a host, with its port, is this machine to itself: by a name that none but its own system
/// gives an address, or by the name that the server was told to listen at.
fn is_of_loopback(host: &str, name: Option<&str>) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    let is_address = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let is_named = name.is_some_and(|name| name.eq_ignore_ascii_case(&host));
    is_address || host == "localhost" || host.ends_with(".localhost") || is_named
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
        assert_eq!(check_origin("chrome-extension://abc"), Ok(()));
        for bad in
            ["", "a.example", "https://", "https://a.example/", "https://a b", "null", "://a"]
        {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn this_machine_has_its_names() {
        let is_ours = |host| is_of_loopback(host, Some("my-laptop"));
        for ours in ["localhost", "LOCALHOST:8000", "a.localhost:1", "127.0.0.1:8000", "127.1.2.3"]
        {
            assert!(is_ours(ours), "{ours}");
        }
        assert!(is_ours("[::1]:8000") && is_ours("[::1]") && is_ours("My-Laptop:8000"));
        for other in
            ["", "evil.example:8000", "localhost.evil.example", "10.0.0.1", "[::2]:1", "a b"]
        {
            assert!(!is_ours(other), "{other}");
        }
    }
}
