//! Bodies of requests, which must have come within a time: a client that sends a byte now and then
//! would hold its connection, and what it sent, for ever.

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use futures_util::future::{Either, select};
use futures_util::{StreamExt, stream};
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// The body took too long.
#[derive(Clone, Copy, Debug)]
struct Late;

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body took too long to come")
    }
}

impl Error for Late {}

/// The same body, which fails once this time is over.
pub fn within(body: Body, time: Duration) -> Body {
    // Most requests have none, or have it with their head.
    if body.is_end_stream() {
        return body;
    }
    let parts = (body.into_data_stream(), Box::pin(sleep(time)));
    Body::from_stream(stream::unfold(Some(parts), |parts| async { piece(parts?).await }))
}

type Parts = (BodyDataStream, Pin<Box<Sleep>>);
type Piece = Result<Bytes, axum::BoxError>;

/// The next piece, and what is left of the body.
async fn piece((mut body, mut end): Parts) -> Option<(Piece, Option<Parts>)> {
    let next = match select(body.next(), end.as_mut()).await {
        Either::Left((next, _)) => next?,
        Either::Right(_) => return Some((Err(Late.into()), None)),
    };
    Some((next.map_err(Into::into), Some((body, end))))
}

/// Whether an error of reading a body is that it took too long.
pub fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<Late>())
}
