//! A connection that ends if its reader stops reading.
//!
//! An answer to a client that reads nothing would hold memory and a snapshot for ever. Slow readers are
//! fine: what ends a connection is that not one byte went out for the whole time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A connection with an end to its patience.
pub(super) struct Patient<S> {
    stream: S,
    /// How long a write may stand still.
    patience: Duration,
    /// Set while a write stands still.
    limit: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// `stream`, where a write may stand still for `patience`.
    pub(super) fn new(stream: S, patience: Duration) -> Patient<S> {
        Patient { stream, patience, limit: None }
    }

    /// The result of a write, or an error if it has stood still for too long.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.limit = None;
            return written;
        }
        let patience = self.patience;
        let limit = self
            .limit
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        ready!(limit.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Time stands still but for what is slept.
    fn with_paused_time<F: Future>(story: F) -> F::Output {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap().block_on(story)
    }

    #[test]
    fn a_reader_that_reads_nothing_ends_the_connection() {
        with_paused_time(async {
            let (ours, _theirs) = tokio::io::duplex(16);
            let started = Instant::now();
            let error = Patient::new(ours, PATIENCE).write_all(&[0; 17]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(started.elapsed() >= PATIENCE);
        });
    }

    #[test]
    fn a_slow_reader_gets_all() {
        with_paused_time(async {
            let (ours, mut theirs) = tokio::io::duplex(1);
            let writer =
                tokio::spawn(async move { Patient::new(ours, PATIENCE).write_all(&[7; 20]).await });
            for _ in 0..20 {
                tokio::time::sleep(PATIENCE * 2 / 3).await;
                assert_eq!(theirs.read_u8().await.unwrap(), 7);
            }
            writer.await.unwrap().unwrap();
        });
    }
}
