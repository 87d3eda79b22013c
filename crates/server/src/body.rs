//! Bodies of requests. Each must have come within a time: a client that sends a byte now and then
//! would hold its connection, and what it sent, for ever. All together have so much room: what
//! clients may send at once is otherwise as much as there are clients.

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use futures_util::future::{Either, select};
use futures_util::{StreamExt, stream};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Why a body is not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It took too long.
    Late,
    /// The bodies of all requests would take more room than there is.
    Crowded,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "the body took too long to come",
            Self::Crowded => "there is no room for the body",
        })
    }
}

impl Error for Cut {}

/// The bytes that the bodies of all requests may have.
#[derive(Debug)]
pub struct Room {
    taken: AtomicUsize,
    bytes: usize,
}

/// The bytes that the body of one request has there, until this is dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    bytes: AtomicUsize,
}

impl Room {
    /// A room of so many bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), bytes })
    }

    /// A place in it, which is empty.
    pub fn place(self: &Arc<Self>) -> Arc<Place> {
        Arc::new(Place { room: self.clone(), bytes: AtomicUsize::new(0) })
    }
}

impl Place {
    /// Makes it larger.
    fn take(&self, n_bytes: usize) -> Result<(), Cut> {
        self.bytes.fetch_add(n_bytes, Ordering::Relaxed);
        let taken = self.room.taken.fetch_add(n_bytes, Ordering::Relaxed);
        let fits = taken.saturating_add(n_bytes) <= self.room.bytes;
        if fits { Ok(()) } else { Err(Cut::Crowded) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// The same body, which fails once this time is over, or where there is no room for it.
pub fn within(body: Body, time: Duration, place: Arc<Place>) -> Body {
    // Most requests have none, or have it with their head.
    if body.is_end_stream() {
        return body;
    }
    let parts = (body.into_data_stream(), Box::pin(sleep(time)), place);
    Body::from_stream(stream::unfold(Some(parts), |parts| async { piece(parts?).await }))
}

type Parts = (BodyDataStream, Pin<Box<Sleep>>, Arc<Place>);
type Piece = Result<Bytes, axum::BoxError>;

/// The next piece, and what is left of the body.
async fn piece((mut body, mut end, place): Parts) -> Option<(Piece, Option<Parts>)> {
    let next = match select(body.next(), end.as_mut()).await {
        Either::Left((next, _)) => next?,
        Either::Right(_) => return Some((Err(Cut::Late.into()), None)),
    };
    if let Err(cut) = place.take(next.as_ref().map_or(0, Bytes::len)) {
        return Some((Err(cut.into()), None));
    }
    Some((next.map_err(Into::into), Some((body, end, place))))
}

/// Whether an error of reading a body is that it was cut, and why.
pub fn cut(error: &(dyn Error + 'static)) -> Option<Cut> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.find_map(|error| error.downcast_ref()).copied()
}
