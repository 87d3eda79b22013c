//! A connection to a client that has to read: one that takes nothing for a time is given up.
//!
//! What is generated for a client waits for it in memory, bounded by what it asked for. Without an
//! end to the wait, whoever stops reading would keep that, and a connection, for as long as it
//! likes; with it, its response is dropped, which cancels what still computes.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A socket whose writes fail when none of them got anywhere for some time.
pub struct Patient<S> {
    socket: S,
    patience: Duration,
    /// When it ends; there is one while a write waits.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    /// Gives writes to `socket` so much time.
    pub fn new(socket: S, patience: Duration) -> Self {
        Self { socket, patience, end: None }
    }

    fn hold<T>(&mut self, cx: &mut Context<'_>, written: Poll<Result<T>>) -> Poll<Result<T>> {
        if written.is_ready() {
            self.end = None;
            return written;
        }
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(end.as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.hold(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.hold(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.hold(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shut = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.hold(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn who_never_reads_is_given_up_and_who_reads_late_is_not() {
        block_on(async {
            let (client, server) = duplex(4);
            let mut server = Patient::new(server, Duration::from_millis(50));
            server.write_all(b"four").await.unwrap();
            let error = server.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            drop(client);

            let (mut client, server) = duplex(4);
            let mut server = Patient::new(server, Duration::from_secs(3600));
            let written = tokio::spawn(async move { server.write_all(b"a long answer").await });
            sleep(Duration::from_millis(20)).await;
            let mut read = [0; 13];
            client.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"a long answer");
            written.await.unwrap().unwrap();
        });
    }
}
