//! The way of requests that are over to whoever collects traces, and may be slower than they come.

use crate::access::Access;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Requests that may wait to be collected.
const MOST: usize = 4096;

/// Where requests go that are over.
#[derive(Clone, Debug)]
pub struct Traces {
    sender: mpsc::Sender<Access>,
    n_lost: Arc<AtomicU64>,
}

/// Where they come out; `None` when the server has ended.
#[derive(Debug)]
pub struct Collected {
    receiver: mpsc::Receiver<Access>,
    n_lost: Arc<AtomicU64>,
}

impl Traces {
    /// Both ends.
    pub fn new() -> (Self, Collected) {
        let (sender, receiver) = mpsc::channel(MOST);
        let n_lost = Arc::new(AtomicU64::new(0));
        (Self { sender, n_lost: n_lost.clone() }, Collected { receiver, n_lost })
    }

    /// Hands over a request that is part of no trace, or of one that its client keeps. Collecting
    /// must not hold up answers: what cannot be taken now is lost, and counted.
    pub(crate) fn send(&self, access: &Access) {
        if access.trace.as_ref().is_some_and(|trace| !trace.is_sampled) {
            return;
        }
        if self.sender.try_send(access.clone()).is_err() {
            self.n_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Collected {
    /// Waits for requests, and takes as many as there are, up to `most`; 0 when there will be none.
    pub async fn next(&mut self, most: usize) -> Vec<Access> {
        let mut some = Vec::new();
        self.receiver.recv_many(&mut some, most).await;
        some
    }

    /// Requests that were lost since this was asked last.
    pub fn n_lost(&self) -> u64 {
        self.n_lost.swap(0, Ordering::Relaxed)
    }
}
