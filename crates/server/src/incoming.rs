//! Connections as they come, in plain text or, where there is a certificate, through TLS.

use crate::tls::Tls;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

/// A socket that is listened at.
pub struct Incoming {
    listener: TcpListener,
    tls: Option<Tls>,
}

impl Incoming {
    /// In plain text, or through this TLS.
    pub fn new(listener: TcpListener, tls: Option<Tls>) -> Self {
        Self { listener, tls }
    }
}

impl Listener for Incoming {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // This waits while the process may open no more files.
        let (socket, address) = Listener::accept(&mut self.listener).await;
        // A token is a small packet that must not wait for the next one. A socket that cannot be
        // told so still works.
        let _ = socket.set_nodelay(true);
        let connection = match &self.tls {
            None => Connection::Plain(socket),
            Some(tls) => Connection::Greeting(Box::new(tls.accept(socket))),
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection. Through TLS, both sides greet each other when it is first read from or written
/// to, so that a client that is slow at it holds up nobody else.
pub enum Connection {
    /// In plain text.
    Plain(TcpStream),
    /// Through TLS, of which nothing was agreed yet.
    Greeting(Box<Accept<TcpStream>>),
    /// Through TLS.
    Secure(Box<TlsStream<TcpStream>>),
    /// The greeting failed.
    Closed,
}

impl Connection {
    /// Where bytes go to and come from, when the greeting is over.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Greeting(greeting) = self {
            let (next, outcome) = match ready!(Pin::new(greeting.as_mut()).poll(cx)) {
                Ok(stream) => (Self::Secure(Box::new(stream)), Ok(())),
                Err(error) => (Self::Closed, Err(error)),
            };
            *self = next;
            return Poll::Ready(outcome);
        }
        Poll::Ready(Ok(()))
    }
}

fn unsettled() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "nothing was agreed with this client yet")
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Greeting(_) | Self::Closed => Poll::Ready(Err(unsettled())),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Greeting(_) | Self::Closed => Poll::Ready(Err(unsettled())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Self::Greeting(_) | Self::Closed => Poll::Ready(Err(unsettled())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        // Both kinds are.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            // Nothing was written.
            Self::Greeting(_) | Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Greeting(_) | Self::Closed => Poll::Ready(Ok(())),
        }
    }
}
