//! Sessions and caches: `POST /v1/sessions/{id}/fork`, `DELETE /v1/sessions/{id}`, and
//! `POST /v1/cache/flush`.
//!
//! A request with a `session_id` makes a session: its keys and values stay for what follows, until
//! others need the memory. A fork shares them.

use crate::asked::{Asked, parameters, with_warnings};
use crate::errors::ApiError;
use crate::fields::Fields;
use crate::hints::{name, scoped};
use crate::models::{find, listed, name_for};
use crate::posted::Posted;
use crate::queried::Queried;
use crate::tables::{FLUSH, FORK, MODEL_QUERY};
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde_json::{Value, json};
use sterna_engine::{EngineError, Flushed, Reply, SessionError};
use tokio::sync::oneshot;

/// Forks a session; without a name for it, the fork gets one.
pub async fn fork(Path(session): Path<String>, posted: Posted) -> Result<Json<Value>, ApiError> {
    let (app, headers) = (posted.app.clone(), posted.headers.clone());
    let read = |posted: &Posted| {
        let asked = Asked::read(posted, FORK)?;
        let child = name(asked.fields(), "session_id")?.map(str::to_owned);
        Ok((asked, child))
    };
    let (asked, child) = posted.or_empty().read(read).await?;
    let child = child.unwrap_or_else(|| app.fresh.id("session-"));
    let engine = asked.model.served.engine.clone();
    let (from, to) = (scoped(&headers, &session), scoped(&headers, &child));
    let forked = ask(|reply| engine.fork(&from, &to, reply)).await?;
    let n_tokens = forked.map_err(|why| refused(why, &session, &child))?;
    let object = "session";
    let answer = json!({ "id": child, "object": object, "parent": session, "tokens": n_tokens });
    Ok(Json(asked.with_warnings(answer)))
}

/// Ends a session, `?model=` of one model where there are several.
pub async fn end(Path(session): Path<String>, queried: Queried) -> Result<Json<Value>, ApiError> {
    let (query, warnings) = queried.read(MODEL_QUERY)?;
    let Queried { app, headers, .. } = queried;
    let name = name_for(&app, "", Fields(&query).text("model")?)?;
    let model = find(&app, &name)?;
    let scoped = scoped(&headers, &session);
    let was_there = ask(|reply| model.served.engine.end_session(&scoped, reply)).await?;
    if !was_there {
        return Err(refused(SessionError::Unknown(session.clone()), &session, ""));
    }
    let answer = json!({ "id": session, "object": "session", "deleted": true });
    Ok(Json(with_warnings(answer, warnings)))
}

/// Forgets answers and prefixes that nobody uses, on the disk too, of one model or of all.
pub async fn flush(posted: Posted) -> Result<Json<Value>, ApiError> {
    let app = posted.app.clone();
    let read = |posted: &Posted| parameters(posted, FLUSH);
    let (object, warnings) = posted.or_empty().read(read).await?;
    let mut models = app.models.ready();
    if let Some(name) = Fields(&object).text("model")? {
        let name = listed(&app, name)?.name;
        models.retain(|model| model.served.name == name);
    }
    let mut sum = Flushed::default();
    for model in models {
        let flushed = ask(|reply| model.served.engine.flush(reply)).await?;
        sum.answers += flushed.answers;
        sum.pages += flushed.pages;
        sum.disk_files += flushed.disk_files;
    }
    let Flushed { answers, pages, disk_files } = sum;
    let answer = json!({ "answers": answers, "kv_pages": pages, "disk_files": disk_files });
    Ok(Json(with_warnings(answer, warnings)))
}

/// What an engine replies.
async fn ask<T: Send + 'static>(command: impl FnOnce(Reply<T>)) -> Result<T, ApiError> {
    let (sender, reply) = oneshot::channel();
    // Who asked may have gone away meanwhile.
    command(Box::new(move |answer| drop(sender.send(answer))));
    reply.await.map_err(|_| EngineError::Draining.into())
}

/// The error, with the names that the client knows.
fn refused(error: SessionError, session: &str, child: &str) -> ApiError {
    match error {
        SessionError::Unknown(_) => {
            let message = SessionError::Unknown(session.to_owned()).to_string();
            ApiError::new(StatusCode::NOT_FOUND, "session_not_found", message)
        }
        SessionError::Exists(_) => {
            let message = SessionError::Exists(child.to_owned()).to_string();
            ApiError::new(StatusCode::CONFLICT, "session_exists", message).about("session_id")
        }
        error @ SessionError::TooMany(_) => {
            ApiError::new(StatusCode::CONFLICT, "too_many_sessions", error.to_string())
        }
    }
}
