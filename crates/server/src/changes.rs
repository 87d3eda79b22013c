//! `GET /models/sse`: where models are and what becomes of them, as llama.cpp's router says it.
//!
//! Out: a `model_status` for each model, then a `status_change` whenever one has changed. It ends
//! when the server does.

use crate::app::App;
use crate::models::{Listed, Status};
use crate::sse;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often a listener's server looks: people see it as at once, and it costs a lock.
const INTERVAL: Duration = Duration::from_millis(200);

/// Tells of the models until the client goes away.
pub async fn tell(State(app): State<Arc<App>>) -> Response {
    let changes = stream::unfold(Changes { app, told: BTreeMap::new() }, |mut changes| async {
        let events = changes.next().await?;
        Some((stream::iter(events.into_iter().map(Ok::<_, Infallible>)), changes))
    });
    sse::stream_of(changes.flatten(), Event::default().comment("keep-alive"))
}

/// What a listener was told.
struct Changes {
    app: Arc<App>,
    /// The status of each model.
    told: BTreeMap<String, Value>,
}

impl Changes {
    /// Waits until there is something to tell; `None` when there will be nothing.
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            if self.app.models.is_ending() {
                return None;
            }
            let events: Vec<Event> =
                self.app.models.list().iter().filter_map(|model| self.tell(model)).collect();
            if !events.is_empty() {
                return Some(events);
            }
            sleep(INTERVAL).await;
        }
    }

    fn tell(&mut self, model: &Listed) -> Option<Event> {
        let status = model.status();
        let before = self.told.insert(model.name.clone(), status.clone());
        let event = match before {
            Some(before) if before == status => return None,
            Some(_) => "status_change",
            None => "model_status",
        };
        let mut data = json!({ "status": model.status.name() });
        if let Some(why) = &model.failure {
            data["error"] = why.clone().into();
        }
        if model.status == Status::Loaded {
            data["info"] = model.in_full();
        }
        let told = json!({ "model": model.name, "event": event, "data": data });
        Some(Event::default().data(told.to_string()))
    }
}
