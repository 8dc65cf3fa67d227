//! Connections to the client port.
//!
//! Owns: accepting them, how many there may be, how long one may be silent in the beginning. Does not own: HTTP/2 and its
//! pings (`grpc`), the peer port (`stint-raft`).
//!
//! Invariants: a system without file descriptors slows accepting down and ends nothing; who connects and says nothing holds a
//! place for a bounded time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::{ACCEPT_RETRY_MS, CLIENT_ACCEPT_QUEUE, CLIENT_CONNECTIONS_MAX, CONNECTION_PREFACE_MS};

/// One connection and its place.
pub struct Connection<T> {
    stream: T,
    preface: Option<Preface>,
    _place: OwnedSemaphorePermit,
}

/// What a connection must say before it counts as one.
struct Preface {
    bytes_left: usize,
    until: Pin<Box<Sleep>>,
}

/// Length of what an HTTP/2 connection begins with.
const PREFACE_BYTES: usize = 24;

/// Accepts connections, as many as may be. Ends when the stream is dropped.
pub fn accept(
    listener: TcpListener,
) -> impl Stream<Item = io::Result<Connection<TcpStream>>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(CLIENT_ACCEPT_QUEUE);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CLIENT_CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, from)) => {
                    // Closed at once: who is told so can try another server, who waits can't.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        tracing::warn!(%from, "{CLIENT_CONNECTIONS_MAX} connections are open already: refused another");
                        continue;
                    };
                    // Without it answers wait for each other; a connection that is gone already says so when it is read.
                    let _ = stream.set_nodelay(true);
                    if sender.send(Ok(Connection::new(stream, place))).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

impl<T> Connection<T> {
    fn new(stream: T, place: OwnedSemaphorePermit) -> Connection<T> {
        let until = Box::pin(tokio::time::sleep(Duration::from_millis(CONNECTION_PREFACE_MS)));
        Connection { stream, preface: Some(Preface { bytes_left: PREFACE_BYTES, until }), _place: place }
    }
}

impl Connected for Connection<TcpStream> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(preface) = &mut self.preface else { return read };
        match read {
            Poll::Ready(_) => {
                preface.bytes_left = preface.bytes_left.saturating_sub(buffer.filled().len() - before);
                if preface.bytes_left == 0 {
                    self.preface = None;
                }
                read
            }
            Poll::Pending => match preface.until.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the connection did not begin as HTTP/2 does",
                ))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn connection<T>(stream: T) -> Connection<T> {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        Connection::new(stream, place)
    }

    #[tokio::test(start_paused = true)]
    async fn who_connects_and_does_not_speak_http_2_is_put_off() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut near = connection(near);
        far.write_all(&[b'x'; PREFACE_BYTES - 1]).await.expect("sent");
        let begun = tokio::time::Instant::now();
        let mut read = [0; 64];
        assert_eq!(near.read(&mut read).await.expect("some bytes"), PREFACE_BYTES - 1);
        assert_eq!(near.read(&mut read).await.expect_err("too slow").kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), Duration::from_millis(CONNECTION_PREFACE_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn who_began_well_may_be_silent() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut near = connection(near);
        far.write_all(&[b'x'; PREFACE_BYTES]).await.expect("sent");
        let mut read = [0; 64];
        assert_eq!(near.read(&mut read).await.expect("all bytes"), PREFACE_BYTES);
        let silent = tokio::time::timeout(Duration::from_secs(3_600), near.read(&mut read));
        assert!(silent.await.is_err(), "pings decide from here on");
    }
}
