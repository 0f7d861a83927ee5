//! A connection that ends if its reader is too slow.
//!
//! An answer to a client that reads nothing, or next to nothing, would hold memory and a snapshot for ever: a reader
//! has to keep pace ([`Pace`]). It is waited for only while nothing more fits into the buffers of the system, so
//! what these take is as good as read.

use super::pace::Pace;
use super::room::Seat;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A connection with an end to its patience.
pub(super) struct Patient<S> {
    stream: S,
    /// How long writes may stand still.
    pace: Pace,
    /// Set while a write stands still: since when, and until when at the latest.
    limit: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Told when all is written.
    seat: Option<Arc<Seat>>,
}

impl<S> Patient<S> {
    /// `stream`, whose reader may fall behind by `patience`.
    pub(super) fn new(stream: S, patience: Duration) -> Patient<S> {
        Patient { stream, pace: Pace::new(patience), limit: None, seat: None }
    }

    /// The same, which tells `seat` whenever all is written.
    pub(super) fn telling(self, seat: Arc<Seat>) -> Patient<S> {
        Patient { seat: Some(seat), ..self }
    }

    /// The result of a write of so many bytes, or an error if its reader is too slow.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = &written {
            let since = self.limit.take().map(|(since, _)| since.elapsed());
            self.pace.note(since.unwrap_or_default(), done.as_ref().map_or(0, bytes));
            return written;
        }
        let left = self.pace.left();
        let (_, limit) = self.limit.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + left)))
        });
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
        self.bounded(context, written, |len| *len)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(context, written, |len| *len)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let (Poll::Ready(Ok(())), Some(seat)) = (&flushed, &self.seat) {
            seat.written();
        }
        self.bounded(context, flushed, |()| 0)
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
    fn a_slow_reader_that_keeps_pace_gets_all() {
        with_paused_time(async {
            let (ours, mut theirs) = tokio::io::duplex(16 << 10);
            let all = vec![7; 100 * (16 << 10)];
            let writer =
                tokio::spawn(async move { Patient::new(ours, PATIENCE).write_all(&all).await });
            let mut part = vec![0; 16 << 10];
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                theirs.read_exact(&mut part).await.unwrap();
            }
            writer.await.unwrap().unwrap();
        });
    }

    #[test]
    fn a_reader_that_takes_a_byte_now_and_then_ends_the_connection() {
        with_paused_time(async {
            let (ours, mut theirs) = tokio::io::duplex(1);
            let started = Instant::now();
            let writer =
                tokio::spawn(
                    async move { Patient::new(ours, PATIENCE).write_all(&[7; 100]).await },
                );
            while !writer.is_finished() {
                tokio::time::sleep(Duration::from_secs(9)).await;
                let _ = theirs.read_u8().await;
            }
            assert_eq!(writer.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(started.elapsed() < PATIENCE * 2, "{:?}", started.elapsed());
        });
    }
}
