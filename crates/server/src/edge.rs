//! What every request passes: its id, its line in the log, the key, the wait for its model, the
//! time for its body, and a net under panics.

use crate::access::{Line, Notes};
use crate::agents::{AGENT_HEADER, mismatch, unproven};
use crate::app::{App, Options};
use crate::body;
use crate::cors;
use crate::dialect::Dialect;
use crate::errors::ApiError;
use crate::model::Lease;
use crate::{models, routes};
use axum::body::Bytes;
use axum::extract::{FromRequest, MatchedPath, Request, State};
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

/// Around every handler.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (id, id_text) = request_id(&app, request.headers());
    let dialect = Dialect::of(request.uri().path());
    let line = Line::begin(app.clone(), &request, &id_text);
    let mut response = line.notes().within(answer(&app, request, next)).await;
    dialect.put(&mut response, &id);
    response.headers_mut().insert(REQUEST_ID, id);
    line.end_with(response)
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    let (within, place) = (app.options.body_timeout, app.bodies.place());
    let mut request = request.map(|body| body::within(body, within, place.clone()));
    request.extensions_mut().insert(place);
    match admit(app, request).await {
        Err(error) => error.into_response(),
        // The model stays in memory until the handler has asked it, or has given its answer.
        Ok((request, _lease)) => {
            // A handler shares nothing that a panic could leave half-changed: what it submitted is
            // cancelled while the stack unwinds.
            let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            answer.unwrap_or_else(|_| panicked().into_response())
        }
    }
}

/// Who may ask, and once the model that it wants is in memory.
async fn admit(app: &App, mut request: Request) -> Result<(Request, Option<Lease>), ApiError> {
    cors::check(&app.options, request.headers())?;
    identify(app, &mut request)?;
    if !asks_a_model(&request) {
        return Ok((request, None));
    }
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let body = Bytes::from_request(whole, &()).await?;
    let lease = models::lease(app, parts.uri.path(), body.clone(), &parts.headers).await?;
    Ok((Request::from_parts(parts, body.into()), lease))
}

/// Checks the key, and writes down which agent asks where the key says so: keys of agents open too,
/// but not what is for operators, where those have keys.
fn identify(app: &App, request: &mut Request) -> Result<(), ApiError> {
    let Options { keys, agents, .. } = &app.options;
    let path = request.uri().path();
    let owner = agents.of_key(request.headers()).map(str::to_owned);
    if let Err(error) = keys.check(path, request.headers()) {
        let Some(owner) = &owner else { return Err(error) };
        if is_for_operators(request) {
            let message = format!(
                "the key is agent `{owner}`'s, and {} {path} is for operators: send one of the \
                 server's own keys",
                request.method()
            );
            return Err(ApiError::new(StatusCode::FORBIDDEN, "operator_key_required", message));
        }
    }
    let headers = request.headers_mut();
    let named = headers.get(AGENT_HEADER).and_then(|agent| agent.to_str().ok());
    if let Some(agent) = owner {
        if let Some(other) = named.filter(|&named| named != agent) {
            return Err(mismatch(&agent, "X-Agent-Id", other));
        }
        Notes::current().note().agent = Some(agent.clone());
        let value = HeaderValue::from_str(&agent).expect("names of agents are visible ASCII");
        headers.insert(AGENT_HEADER, value);
        return Ok(());
    }
    match named.filter(|named| agents.get(named).key_sha256.is_some()) {
        Some(named) => Err(unproven(named)),
        None => Ok(()),
    }
}

/// What is changed here holds for everybody.
const OF_OPERATORS: [&str; 3] = ["/models/", "/v1/models/", "/v1/cache/"];

fn is_for_operators(request: &Request) -> bool {
    let is_about = |prefix: &&str| request.uri().path().starts_with(*prefix);
    [Method::POST, Method::DELETE].contains(request.method()) && OF_OPERATORS.iter().any(is_about)
}

/// Whether a request's route asks a model.
fn asks_a_model(request: &Request) -> bool {
    let matched = request.extensions().get::<MatchedPath>();
    request.method() == Method::POST && matched.is_some_and(|path| routes::asks(path.as_str()))
}

fn panicked() -> ApiError {
    let message = "the server failed on this request, which is a mistake of ours; its log says \
                   where, please report it";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
}

/// The client's id, or one of ours, as a header and as text.
fn request_id(app: &App, headers: &HeaderMap) -> (HeaderValue, String) {
    let is_id = |id: &&str| {
        (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(is_id);
    let text = given.map_or_else(|| app.fresh.id("req-"), str::to_owned);
    let header = HeaderValue::from_str(&text).expect("visible ASCII is a header");
    (header, text)
}

/// The answer to paths that there are not.
pub async fn no_route(method: Method, uri: Uri) -> ApiError {
    let message = format!("this server has no {method} {}; check the path", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "unknown_route", message)
}

/// The answer to methods that a path does not have.
pub async fn no_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} takes no {method}; the header Allow says what it takes", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
