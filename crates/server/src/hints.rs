//! What agents may tell about a request: how the response cache is to be used, by when it is
//! wanted, which conversation it belongs to, and from where on its prompt is private.

use crate::errors::ApiError;
use crate::fields::{Fields, wrong};
use crate::keys;
use crate::params::check;
use crate::tables::CACHE;
use axum::http::HeaderMap;
use std::time::Duration;
use sterna_engine::{CacheControl, Request};

/// Answers are kept for a week at most.
const MAX_TTL: i64 = 7 * 24 * 3600;
/// Deadlines lie within a day.
const MAX_DEADLINE_MS: i64 = 24 * 3600 * 1000;

/// Reads them into a request; the warnings of what is unknown.
///
/// # Errors
/// For the first that is wrong.
pub fn read(
    fields: Fields<'_>,
    headers: &HeaderMap,
    is_strict: bool,
    request: &mut Request,
) -> Result<Vec<String>, ApiError> {
    let deadline = fields.integer("deadline_ms", 1, MAX_DEADLINE_MS)?;
    request.deadline = deadline.map(|ms| Duration::from_millis(ms as u64));
    let expected = fields.integer("expected_output_tokens", 1, i64::MAX)?;
    request.expected_tokens = expected.map(|n| n as usize);
    request.session = name(fields, "session_id")?.map(|session| scoped(headers, session));
    request.cache_salt = name(fields, "cache_salt")?.map(str::to_owned);
    let Some(object) = fields.object("cache")? else { return Ok(Vec::new()) };
    let warnings = check("cache.", object, CACHE, is_strict)?;
    let cache = Fields(object);
    let seconds = |key| -> Result<Option<Duration>, ApiError> {
        let seconds = cache.integer(key, 0, MAX_TTL)?;
        Ok(seconds.map(|n| Duration::from_secs(n as u64)))
    };
    request.cache = CacheControl {
        no_cache: cache.flag("no-cache")?.unwrap_or(false),
        no_store: cache.flag("no-store")?.unwrap_or(false),
        ttl: seconds("ttl")?,
        max_age: seconds("s-maxage")?,
        namespace: name(cache, "namespace")?.map(str::to_owned),
    };
    Ok(warnings)
}

/// From where on a salted prompt is its tenant's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateFrom {
    /// So many tokens are everybody's.
    Token(usize),
    /// The messages at the beginning that are the system's are everybody's.
    System,
}

/// Reads `cache_salt_from`.
///
/// # Errors
/// When it is something else, or there is no salt.
pub fn private_from(fields: Fields<'_>) -> Result<PrivateFrom, ApiError> {
    let name = "cache_salt_from";
    let Some(value) = fields.get(name) else { return Ok(PrivateFrom::Token(0)) };
    if fields.get("cache_salt").is_none() {
        let message = "cache_salt_from goes with cache_salt; without one, prefixes are shared";
        return Err(ApiError::invalid(name, message));
    }
    match (value.as_str(), value.as_u64()) {
        (Some("start"), _) => Ok(PrivateFrom::Token(0)),
        (Some("system"), _) => Ok(PrivateFrom::System),
        (_, Some(n)) => Ok(PrivateFrom::Token(usize::try_from(n).unwrap_or(usize::MAX))),
        _ => Err(wrong(name, value, "\"start\", \"system\" or a number of tokens")),
    }
}

/// A session's name in the engine: clients with different keys have different sessions.
pub fn scoped(headers: &HeaderMap, session: &str) -> String {
    format!("{}/{session}", keys::scope(headers))
}

/// Names of agents, salts and sessions are no longer.
pub const MAX_NAME_LEN: usize = 256;

/// A name.
///
/// # Errors
/// When it is empty or too long.
pub fn name<'a>(fields: Fields<'a>, path: &str) -> Result<Option<&'a str>, ApiError> {
    let Some(name) = fields.text(path)? else { return Ok(None) };
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        let message = format!("{path} must have 1 to {MAX_NAME_LEN} bytes");
        return Err(ApiError::invalid(path, message));
    }
    Ok(Some(name))
}
