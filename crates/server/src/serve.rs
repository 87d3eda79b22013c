//! Puts the routes on a socket, and gives each client its time: to send a request's head, and to
//! take what is sent to it ([`crate::patient`]); its body has its time in [`crate::body`].

use crate::incoming::Incoming;
use crate::patient::Patient;
use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::time::Duration;

/// Serves until `shutdown`; then takes no connections, and returns when those that are open have
/// their answers. [`sterna_engine::Handle::drain`] makes the engines refuse what still comes
/// through them.
///
/// A connection is closed when the head of its next request takes longer than `client_timeout`,
/// which counts from the last answer, or when its client takes nothing of an answer for so long.
pub async fn serve(
    mut incoming: Incoming,
    router: Router,
    client_timeout: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(client_timeout);
    let connections = GracefulShutdown::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let socket = tokio::select! {
            // First, so that whoever is answered can also end it.
            biased;
            () = &mut shutdown => break,
            // This waits while the process may open no more files.
            (socket, _) = incoming.accept() => socket,
        };
        let io = TokioIo::new(Patient::new(socket, client_timeout));
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(io, service));
        // It fails when its client goes away or sends what is not HTTP, which concerns nobody else.
        tokio::spawn(async move { drop(connection.await) });
    }
    drop(incoming);
    connections.shutdown().await;
}
