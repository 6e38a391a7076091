//! A connection whose peer has to go on reading.
//!
//! HTTP/1 has no bound of its own on how long an answer may wait for whoever asked for it. Without
//! one, a peer that opens a stream and reads nothing holds its place for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Fails a write that the peer has not taken anything of for too long.
#[derive(Debug)]
pub(super) struct Patience<T> {
    inner: T,
    wait: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncWrite + Unpin> Patience<T> {
    /// Waits at most this long for each piece to be taken.
    pub(super) fn new(inner: T, wait: Duration) -> Self {
        Self { inner, wait, stalled: None }
    }

    fn bound<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let written = write(Pin::new(&mut self.inner), cx);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let wait = self.wait;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
        let why = "the peer reads nothing of what is sent to it";
        stalled.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patience<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bound(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bound(cx, |inner, cx| inner.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bound(cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bound(cx, |inner, cx| inner.poll_shutdown(cx))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patience<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(4);
        let mut patient = Patience::new(near, Duration::from_millis(20));
        let error = patient.write_all(&[7; 20]).await.expect_err("nobody takes it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn every_piece_that_is_taken_begins_the_wait_anew() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut patient = Patience::new(near, Duration::from_secs(3600));
        let writing = patient.write_all(&[7; 8]);
        tokio::pin!(writing);
        assert!(futures_util::poll!(&mut writing).is_pending());
        far.read_exact(&mut [0; 4]).await.expect("written");
        writing.await.expect("taken");
        assert!(patient.stalled.is_none());
    }
}
